"""Whatever is wrong with a set, damage or malice, is refused in words or found by `verify`."""

from __future__ import annotations

import json
import os
import random
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist.data import shard_verify, sources
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.recordings import Recording
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_file import file_sha256
from sptmod_dist.data.shard_index import dump
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.data.shards import ShardSet
from tests.data.small_sets import SEQUENCE, noise, store


def refused(folder: Path, said: str) -> None:
    """The set is refused, when opened or when read, in one sentence that says so."""
    with pytest.raises(ShardError, match=said) as caught:
        shards = ShardSet.open(folder)
        for number in range(shards.n_sequences):
            shards.sequence(number)
    assert "\n" not in str(caught.value)
    assert any(re.search(said, fault) for fault in verify(folder))


def replace_by_link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere").name)


def change_byte(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


DAMAGE: list[tuple[Callable[[Path], Any], str]] = [
    (lambda train: (train / "index.json").unlink(), "index.json cannot be read"),
    (lambda train: (train / "index.json").write_text("{"), "index.json is no good index"),
    (lambda train: (train / "index.json").write_bytes(b"\xff\xfe"), "is no good index"),
    (lambda train: (train / "index.json").write_text("[" * 100_000), "is no good index"),
    (lambda train: (train / "index.json").write_text("[]"), "it states no format"),
    (lambda train: (train / "index.json").write_text('{"format": "x-2"}'), "format is 'x-2'"),
    (
        lambda train: edit(train / "index.json", b'"ratio": 2.0', b'"ratio": 3.0'),
        "its checksum does",
    ),
    (lambda train: (train / "shard-00001.tar").unlink(), "shard-00001.tar cannot be read"),
    (lambda train: os.truncate(train / "shard-00001.tar", 3000), "shard-00001.tar is truncated"),
    (lambda train: os.truncate(train / "shard-00001.tar", 99999), "longer than it was made"),
    (lambda train: change_byte(train / "shard-00000.tar", 900), "shard-00000.tar has changed"),
    (lambda train: replace_by_link(train / "shard-00002.tar"), "shard-00002.tar is a link"),
    (lambda train: (train / "index.json").rename(train / "x"), "index.json cannot be read"),
]


@pytest.mark.parametrize("damage, said", DAMAGE)
def test_a_damaged_set_is_refused_by_the_files_name(
    sets: Path, damage: Callable[[Path], Any], said: str
) -> None:
    damage(sets / "train")
    refused(sets / "train", said)


@pytest.mark.parametrize("name", ["missing", "recordings/manifest.yaml"])
def test_what_is_no_folder_is_refused_with_the_command_that_builds_one(
    sets: Path, name: str
) -> None:
    refused(sets.parent / name, "is no folder with shards.*sptmod-dist shards build")


def at(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one place in an index."""

    def change(fields: dict[str, Any]) -> None:
        place: Any = fields
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(fields: dict[str, Any]) -> None:
        place: Any = fields
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


def as_items(fields: dict[str, Any]) -> None:
    fields |= {"kind": "items", "sequences_per_record": 0}


def as_flac(fields: dict[str, Any]) -> None:
    fields |= {"sample_format": "flac", "block": 8192}


def forge(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change an index and give it the checksum that fits."""
    fields = json.loads(path.read_bytes())
    del fields["checksum"]
    change(fields)
    path.write_bytes(dump(fields))


MALICE: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (at("shards", 0, "name", value="../shard-00000.tar"), r"shards\[0\].name"),
    (at("shards", 0, "name", value="/etc/passwd"), r"shards\[0\].name"),
    (at("shards", 0, "name", value="shard-00000.tar\n"), r"shards\[0\].name"),
    (at("shards", 0, "name", value="."), r"shards\[0\].name"),
    (at("shards", 0, "name", value="shard-00001.tar"), "two shards have the same name"),
    (at("shards", 0, "bytes", value=-1), r"shards\[0\].bytes is -1"),
    (at("shards", 0, "bytes", value=10**30), r"shards\[0\].bytes is 1000"),
    (at("shards", 0, "bytes", value=1.5), r"shards\[0\].bytes is 1.5"),
    (at("shards", 0, "bytes", value=True), r"shards\[0\].bytes is True"),
    (at("shards", 0, "sha256", value="00"), r"shards\[0\].sha256"),
    (at("shards", value=[]), "shards is not a list of at least 1"),
    (at("records", value=[]), "records is not a list of at least 1"),
    (at("records", value={}), "records is not a list"),
    (at("items", 0, "id", value=""), r"items\[0\].id"),
    (at("items", 0, "settings", "ratio", value=None), r"items\[0\].settings.ratio is None"),
    (at("items", 0, "settings", "ratio", value=10**400), "is no good index"),
    (at("items", 0, "settings", "drive", value=1.0), "unknown 'drive'"),
    (at("items", 0, "controls", value=[1.5]), "not from 0 to 1"),
    (at("items", 0, "controls", value=[0.1, 0.2]), "2 values for 1 controls"),
    (at("items", 0, "controls", 0, value=float("nan")), "contains NaN"),
    (at("items", 0, "sequences", value=6), "cannot hold so many sequences"),
    (at("items", 0, "sequences", value=4), r"items\[0\] has 5 sequences instead of 4"),
    (at("records", 0, "key", value="../x"), r"records\[0\].key"),
    (at("records", 0, "shard", value=99), "names a shard or an item that is not there"),
    (at("records", 0, "item", value=99), "names a shard or an item that is not there"),
    (at("records", 0, "start", value=600), "ends after its item"),
    (at("records", 1, "start", value=0), r"records\[1\] is not after the one before it"),
    (at("records", 0, "samples", value=165), "is no record of up to 1 sequences"),
    (at("records", 0, "sequences", value=0), r"records\[0\].sequences is 0"),
    (at("records", 0, "sequences", value=2), "are not 2 sequences"),
    (at("records", 0, "input", value=[0, 784]), r"records\[0\].input is not"),
    (at("records", 0, "input", 0, value=-512), r"records\[0\].input offset is -512"),
    (at("records", 0, "input", 0, value=10**9), "ends after its shard"),
    (at("records", 0, "input", 1, value=10), "has a member of 10 bytes"),
    (at("records", 0, "input", 2, value=2**32), r"records\[0\].input crc32s"),
    (at("records", 0, "input", 2, value="0000000"), r"records\[0\].input crc32s"),
    (at("records", 0, "input", 2, value="0000000G"), r"records\[0\].input crc32s"),
    (at("records", 0, "input", 2, value=""), r"records\[0\].input crc32s"),
    (at("records", 0, "input", 2, value="0" * 16), "has 2 sums of its input"),
    (at("records", 0, "input", 2, value="0" * 8), "CRC-32 differs"),
    (at("records", 0, "input", 0, value=1024), "CRC-32 differs"),
    (at("records", 0, "other", value=[0, 1, 2]), "unknown 'other'"),
    (at("sample_rate", value=0), "sample_rate is 0"),
    (at("sample_rate", value="8000"), "sample_rate is '8000'"),
    (at("input_channels", value=0), "input_channels is 0"),
    (at("input_channels", value=2), "has a member of"),
    (at("lengths", value=[]), "lengths is not a list"),
    (at("lengths", value=[64, -32, 32]), r"lengths\[1\] is -32"),
    (at("lengths", value=[128, 32, 32]), "input_length is less than"),
    (at("hop", value=127), "hop is not the sum"),
    (at("input_length", value=10**20), "input_length is 1000"),
    (at("controls", 0, "minimum", value=9), "minimum 9 is not below"),
    (at("controls", 0, value="ratio"), "control"),
    (at("controls", value=[]), r"items\[0\].settings has an unknown 'ratio'"),
    (at("split", value="training"), "split is 'training', not train or"),
    (at("split", value=["train"]), r"split is \['train'\]"),
    (at("kind", value="items"), "sequences_per_record is 1 for items"),
    (at("sequences_per_record", value=0), "sequences_per_record is 0 for sequences"),
    (as_items, r"records\[0\] is not its whole item"),
    (at("sample_format", value="object"), "sample_format is 'object', not float32 or pcm24"),
    (at("block", value=-1), "block is -1"),
    (at("block", value=2**40), "block is 1099511627776"),
    (at("block", value=8), "has 1 sums of its input, which do not cover"),
    (as_flac, "block is 8192, and flac has none"),
    (at("sample_format", value="flac"), "no usable samples in train-0000-000000000.input.flac"),
    (at("sample_format", value="pcm24"), "input.npy .it holds float32 .1, 164. where the index"),
    (at("format", value="sptmod-shards-1"), "reads sptmod-shards-2.*shards build --overwrite"),
    (at("items", 0, "sha256", value="00"), r"items\[0\].sha256"),
    (at("provenance", "converted_from", value="a set"), "provenance.converted_from"),
    (at("records", 1, "start", value=127), r"records\[1\] does not go on where the one before"),
    (at("records", 0, "json", 2, value="0" * 16), "has 2 sums of its json"),
    (at("items", 0, "dropped", value=1), r"items\[0\] drops 0 samples, not 1"),
    (at("extra", value=1), "unknown 'extra'"),
    (at("provenance", "device", value=3), "provenance.device"),
    (without("provenance"), "lacks provenance"),
    (without("records", 0, "json"), r"records\[0\] lacks json"),
    (without("records", 0), r"items\[0\] has 4 sequences instead of 5"),
]


@pytest.mark.parametrize("change, said", MALICE)
def test_a_forged_index_is_refused_by_the_place_that_is_wrong(
    sets: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    forge(sets / "train" / "index.json", change)
    refused(sets / "train", said)


def test_the_forger_can_write_an_index_that_passes(sets: Path) -> None:
    path = sets / "train" / "index.json"
    before = path.read_bytes()
    forge(path, lambda fields: None)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 4), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 4), }",
        b"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 4), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 99999999999), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, -4), }",
        b"{'descr': '<f4', 'shape': (1, 4), }",
        b"__import__('os').abort()",
        b"(" * 5000,
        b"\xff" * 20,
        b"",
    ],
)
def test_bytes_that_are_no_plain_array_are_never_made_into_anything(header: bytes) -> None:
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
    with pytest.raises(ValueError):
        FORMATS["float32"].decode(bytearray(data), 1, 4)


@pytest.mark.parametrize("cut", [0, 3, 9, 100, 143])
def test_an_array_that_ends_early_is_no_array(cut: int) -> None:
    data = FORMATS["float32"].encode(np.zeros((1, 4), np.float32), 8000)
    assert len(data) == 144
    with pytest.raises(ValueError):
        FORMATS["float32"].decode(bytearray(data[:cut]), 1, 4)


def mutate(data: bytes, dice: random.Random) -> bytes:
    """One change of the kind that disks, networks and editors make."""
    place, kind = dice.randrange(len(data)), dice.randrange(5)
    if kind == 0:
        return data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]
    if kind == 1:
        return data[:place]
    if kind == 2:
        return data[:place] + bytes([dice.randrange(256)]) + data[place:]
    if kind == 3:
        end = place + dice.randrange(1, 600)
        return data[:place] + bytes(len(data[place:end])) + data[end:]
    other = dice.randrange(len(data))
    return data[:place] + data[other : other + 64] + data[place + 64 :]


def test_after_any_change_the_data_is_right_or_refused(sets: Path) -> None:
    folder, dice = sets / "validation", random.Random(0)
    good = [ShardSet.open(folder).sequence(number) for number in range(4)]
    served = 0
    for turn in range(300):
        path = folder / ("index.json" if turn % 2 else "shard-00000.tar")
        before = path.read_bytes()
        path.write_bytes(mutate(before, dice))
        try:
            shards = ShardSet.open(folder)
            for number, expected in enumerate(good):
                for found, right in zip(shards.sequence(number), expected, strict=True):
                    assert np.array_equal(found, right)
            served += 1
        except ShardError as error:
            assert path.name in str(error) and "\n" not in str(error)
            assert verify(folder)
        path.write_bytes(before)
    assert 0 < served < 100  # changes outside the data (tar headers, padding) do no harm


def test_verify_finds_all_faults_at_once(sets: Path) -> None:
    assert [verify(sets / split) for split in ("train", "validation", "test")] == [[], [], []]
    change_byte(sets / "train" / "shard-00000.tar", 0)  # the tar header: reading need not notice
    change_byte(sets / "train" / "shard-00002.tar", 900)
    os.truncate(sets / "train" / "shard-00003.tar", 512)
    faults = verify(sets / "train")
    for words in ("00000.tar has changed", "00000.tar is no readable tar", "00002.tar.*CRC-32"):
        assert any(re.search(words, fault) for fault in faults), words
    assert any(re.search("00003.tar is truncated", fault) for fault in faults)


@pytest.mark.parametrize(
    "change, said",
    [
        (at("records", 0, "key", value="another"), "another.input.npy' is not where the index has"),
        (at("items", 0, "controls", value=[0.25]), "says something else than the index"),
        (at("shards", 0, "sha256", value="0" * 64), "SHA-256 differs"),
    ],
)
def test_verify_compares_the_index_with_the_shards(
    sets: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    forge(sets / "train" / "index.json", change)
    assert any(re.search(said, fault) for fault in verify(sets / "train"))


def test_verify_finds_samples_that_are_not_finite(tmp_path: Path) -> None:
    audio_in = np.full((1, SEQUENCE), np.inf, np.float32)
    audio_out = np.zeros((1, SEQUENCE), np.float32)
    folder = store(tmp_path / "sets", {"a": Recording(audio_in, audio_out, [0.0])}, 0)
    assert [("not finite" in fault) for fault in verify(folder)] == [True]


@pytest.mark.parametrize(
    "name, kind, said",
    [
        ("train-0000-000000000.json", tarfile.REGTYPE, "is there 2 times"),
        ("../outside.npy", tarfile.REGTYPE, "is not where the index has it"),
        ("link.npy", tarfile.SYMTYPE, "is no plain file"),
        ("folder", tarfile.DIRTYPE, "is no plain file"),
        ("train-0000-000000000.pkl", tarfile.REGTYPE, "is not where the index has it"),
    ],
)
def test_verify_names_what_else_is_in_a_tar(
    sets: Path, name: str, kind: bytes, said: str
) -> None:
    path = sets / "train" / "shard-00000.tar"
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    state = {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
    forge(sets / "train" / "index.json", at("shards", 0, value=state))
    assert any(said in fault and name in fault for fault in verify(sets / "train"))
    ShardSet.open(sets / "train").sequence(0)  # a reader of the index never meets it


def test_verify_goes_on_after_a_disk_that_fails(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sets / "train" / "shard-00001.tar").unlink()

    def failing(_: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shard_verify, "sha256_of", failing)
    faults, shards = verify(sets / "train"), ShardSet.open(sets / "validation").index.shards
    assert sum("cannot be read (Input/output error)" in fault for fault in faults) > 3
    assert sum("00001.tar cannot be read (No such file" in fault for fault in faults) == 1
    assert len(verify(sets / "validation")) == len(shards)


@pytest.mark.parametrize("sample_format", FORMATS)
@pytest.mark.parametrize("held", [0, 1, 3])
def test_verify_passes_every_format_and_finds_every_changed_byte_of_it(
    tmp_path: Path, sample_format: str, held: int
) -> None:
    folder = store(tmp_path, {"a": noise(900)}, held, sample_format)
    assert verify(folder) == []
    index = ShardSet.open(folder).index
    path = folder / index.shards[0].name
    for member in index.records[0][6:]:
        for place in (member.offset, member.offset + member.size - 1):
            change_byte(path, place)
            faults = verify(folder)
            assert "SHA-256 differs" in faults[0]
            # The header of an array with blocks has no sum; what it says is looked at instead.
            assert any(re.search("CRC-32|no usable samples", fault) for fault in faults[1:])
            change_byte(path, place)


def test_a_set_that_is_replaced_while_it_is_open_is_named(sets: Path) -> None:
    shards = ShardSet.open(sets / "train")
    (sets / "train").rename(sets / "old")
    (sets / "validation").rename(sets / "train")
    with pytest.raises(ShardError, match="train has been replaced by another set since it was"):
        for number in range(shards.n_sequences):
            shards.sequence(number)


def test_a_set_that_is_away_for_a_moment_while_it_is_replaced_is_waited_for(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = ShardSet.open(sets / "train")
    expected = shards.sequence(3)
    (sets / "train").rename(sets / "away")
    monkeypatch.setattr(sources.time, "sleep", lambda _: (sets / "away").rename(sets / "train"))
    assert np.array_equal(shards.sequence(3).input, expected.input)


def test_a_set_that_is_gone_is_a_sentence(sets: Path) -> None:
    shards = ShardSet.open(sets / "train")
    (sets / "train").rename(sets / "away")
    with pytest.raises(ShardError, match="shard-00000.tar cannot be read .No such file"):
        shards.sequence(0)


def test_recordings_beyond_memory_are_a_sentence(tmp_path: Path) -> None:
    shards = ShardSet.open(store(tmp_path, {"a": noise(900)}, 1))
    endless = replace(shards.geometry, lengths=(2**47,), input_length=2**47)
    object.__setattr__(shards.index, "geometry", endless)
    with pytest.raises(ShardError, match="140737488355328 samples of 2 channels are more than"):
        shards.sequence(0)
