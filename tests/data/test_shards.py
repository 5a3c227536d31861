"""A set gives back exactly what was recorded, and whatever is wrong with it is refused in words."""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist import audio
from sptmod_dist.data import shard_build
from sptmod_dist.data.controls import Control
from sptmod_dist.data.geometry import Geometry, Needs, ShardError
from sptmod_dist.data.recordings import Manifest, Recording, load_item
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shard_file import npy_array, npy_bytes
from sptmod_dist.data.shard_index import Provenance, dump
from sptmod_dist.data.shard_writer import SetWriter
from sptmod_dist.data.shards import ShardSet, describe, verify
from sptmod_dist.errors import UserError
from tests.data.small_sets import (
    HOP,
    LOOKBACK,
    NEEDS,
    RATE,
    RATIO,
    SAMPLES,
    SEQUENCE,
    build,
    record,
)

GEOMETRY = NEEDS.geometry(RATE, [RATIO], "here")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def sets(built: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    for name in ("recordings", "sets"):
        shutil.copytree(built.parent / name, tmp_path / name)
    return tmp_path / "sets"


def recordings(built: Path) -> dict[str, Recording]:
    manifest = Manifest.read(built.parent / "recordings" / "manifest.yaml")
    return {item.id: load_item(manifest, item) for item in manifest.items}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# What is read is what was recorded


def test_train_sequences_are_the_windows_that_tile_the_recordings(built: Path) -> None:
    train, recorded = ShardSet.open(built / "train"), recordings(built)
    expected = [
        (name, start)
        for name in ("train-a", "train-b", "train-c")
        for start in range(0, SAMPLES[name] - SEQUENCE + 1, HOP)
    ]
    assert train.n_sequences == len(expected) == 17
    for number, (name, start) in enumerate(expected):
        sequence, whole = train.sequence(number), recorded[name]
        assert np.array_equal(sequence.input, whole.input[:, start : start + SEQUENCE])
        assert np.array_equal(sequence.output, whole.output[:, start : start + SEQUENCE])
        assert sequence.controls.tolist() == pytest.approx(whole.vector)


def test_an_item_is_its_whole_recording(built: Path) -> None:
    validation, recorded = ShardSet.open(built / "validation"), recordings(built)
    for number, item in enumerate(validation.items):
        audio_of_item, whole = validation.item(number), recorded[item.id]
        assert np.array_equal(audio_of_item.input, whole.input)
        assert np.array_equal(audio_of_item.output, whole.output)
        assert item.dropped == 0


def test_sequences_of_a_set_of_items_are_windows_of_the_items(built: Path) -> None:
    validation = ShardSet.open(built / "validation")
    assert [validation.item_sequences(n) for n in (0, 1)] == [range(0, 3), range(3, 4)]
    for item in range(2):
        whole = validation.item(item)
        for place, number in enumerate(validation.item_sequences(item)):
            sequence = validation.sequence(number)
            window = slice(place * HOP, place * HOP + SEQUENCE)
            assert np.array_equal(sequence.input, whole.input[:, window])
            assert np.array_equal(sequence.output, whole.output[:, window])


@pytest.mark.parametrize("held", [1, 2, 3, 5, 100])
def test_sequences_are_the_same_however_many_a_record_holds(
    built: Path, tmp_path: Path, held: int
) -> None:
    recorded = recordings(built)
    writer = SetWriter(tmp_path, "train", GEOMETRY, held, 6000)
    for name in ("train-a", "train-b", "train-short", "train-c"):
        whole = recorded[name]
        writer.add(name, {"ratio": 2.0}, whole.vector, whole.input, whole.output)
    index = writer.finish(Provenance("0", "a box", "", ""))
    assert len(index.records) == sum(-(-count // held) for count in (5, 4, 8))
    assert verify(tmp_path) == []
    shards, plain = ShardSet.open(tmp_path), ShardSet.open(built / "train")
    for number in np.random.default_rng(0).permutation(plain.n_sequences):
        assert np.array_equal(shards.sequence(number).input, plain.sequence(number).input)
        assert np.array_equal(shards.sequence(number).output, plain.sequence(number).output)


def test_outputs_after_the_lookback_tile_the_recording(built: Path) -> None:
    train = ShardSet.open(built / "train")
    outputs = [train.sequence(n).output[:, LOOKBACK:] for n in train.item_sequences(0)]
    whole = recordings(built)["train-a"].output
    assert np.array_equal(np.concatenate(outputs, axis=1), whole[:, LOOKBACK:])


def test_what_is_read_may_be_written_to_and_is_read_afresh(built: Path) -> None:
    for name in ("train", "validation"):
        shards = ShardSet.open(built / name)
        first = shards.sequence(0)
        kept = first.input.copy()
        first.input[:] = 7.0
        assert np.array_equal(shards.sequence(0).input, kept)
        assert first.input.dtype == first.output.dtype == first.controls.dtype == np.float32


@pytest.mark.parametrize("channels, sidechain", [(1, 1), (2, 0), (2, 2)])
def test_channels_and_sidechain_keep_their_places(
    tmp_path: Path, channels: int, sidechain: int
) -> None:
    manifest = record(tmp_path / "in", {"train-a": 500, "test-a": 400}, channels, sidechain)
    needs = Needs(NEEDS.lengths, NEEDS.input_length, channels, sidechain, 1)
    build_sets(manifest, tmp_path / "out", needs, say=lambda _: None)
    sequence = ShardSet.open(tmp_path / "out" / "train").sequence(1)
    whole = load_item(manifest, manifest.items[0])
    assert np.array_equal(sequence.input, whole.input[:, HOP : HOP + SEQUENCE])
    assert sequence.input.shape[0] == channels + sidechain
    assert sequence.output.shape == (channels, SEQUENCE)


def test_what_is_dropped_is_counted(built: Path) -> None:
    items = {item.id: item for item in ShardSet.open(built / "train").items}
    dropped = {name: item.dropped for name, item in items.items()}
    assert dropped == {
        "train-a": 0,
        "train-b": 50,
        "train-short": SAMPLES["train-short"],
        "train-c": 127,
    }
    assert items["train-short"].sequences == 0


def test_shards_are_closed_before_they_grow_too_large(built: Path) -> None:
    index = ShardSet.open(built / "train").index
    assert len(index.shards) > 3
    assert all(shard.bytes <= 6000 + tarfile.RECORDSIZE for shard in index.shards)


def test_numbers_beyond_the_set_are_no_sequences(built: Path) -> None:
    train = ShardSet.open(built / "train")
    for number in (-1, train.n_sequences):
        with pytest.raises(IndexError):
            train.sequence(number)


def test_a_set_travels_to_another_process(built: Path) -> None:
    validation = ShardSet.open(built / "validation")
    validation.sequence(0)
    copy = pickle.loads(pickle.dumps(validation))
    assert np.array_equal(copy.sequence(1).input, validation.sequence(1).input)


# Other readers


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_webdataset_reads_the_same_without_pickle(
    built: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr(webdataset.utils, "enforce_security", True)
    shards = ShardSet.open(built / split)
    urls = [str(built / split / shard.name) for shard in shards.index.shards]
    dataset = webdataset.WebDataset(urls, shardshuffle=False).decode()
    seen = 0
    for number, (sample, rec) in enumerate(zip(dataset, shards.index.records, strict=True)):
        own = shards.sequence(number) if split == "train" else shards.item(number)
        assert sample["__key__"] == rec.key
        assert np.array_equal(sample["input.npy"], own.input)
        assert np.array_equal(sample["output.npy"], own.output)
        item = shards.items[rec.item]
        assert sample["json"]["item"] == item.id
        assert sample["json"]["start"] == rec.start
        assert sample["json"]["settings"] == item.settings
        assert sample["json"]["controls"] == item.controls
        seen += 1
    assert seen == len(shards.index.records)


def test_the_example_in_the_description_of_the_format_runs(built: Path) -> None:
    pytest.importorskip("webdataset")
    readme = Path(__file__).parents[2] / "shards" / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(), flags=re.DOTALL)
    code = code.replace("shards/data/demo", str(built)) + "assert webdataset.utils.enforce_security"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("ratio") == 17


# Building


def test_equal_recordings_give_equal_bytes(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert snapshot(first) == snapshot(second)
    prints = {ShardSet.open(folder / "train").fingerprint for folder in (first, second)}
    assert len(prints) == 1


def test_no_path_of_this_machine_is_stored(built: Path) -> None:
    for path in built.rglob("*.*"):
        assert str(built.parent).encode() not in path.read_bytes()


def test_the_account_tells_what_was_made(tmp_path: Path) -> None:
    said: list[str] = []
    build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=said.append)
    assert [line.split(":")[0] for line in said] == ["train", "validation", "test"]
    stored, source = 17 * SEQUENCE, sum(SAMPLES[n] for n in SAMPLES if n.startswith("train"))
    assert f"({stored / source:.2f} times the recordings)" in said[0]
    assert "4 items, 17 sequences" in said[0]


def test_the_right_sets_are_not_built_again(sets: Path) -> None:
    before = snapshot(sets), (sets / "train" / "index.json").stat().st_mtime_ns
    said: list[str] = []
    build_sets(record(sets.parent / "recordings"), sets, NEEDS, say=said.append)
    assert (snapshot(sets), (sets / "train" / "index.json").stat().st_mtime_ns) == before
    assert said == [f"{sets}: train, validation, test are up to date"]


def other_audio(folder: Path) -> None:
    path = folder.parent / "recordings" / "train-a-out.wav"
    samples, rate = audio.read(path)
    audio.write(path, samples * 0.5, rate, "FLOAT")


def without_test(folder: Path) -> None:
    path = folder.parent / "recordings" / "manifest.yaml"
    manifest = Manifest.read(path)
    kept = tuple(item for item in manifest.items if item.split != "test")
    Manifest(path, RATE, manifest.device, manifest.controls, kept).write(path)


@pytest.mark.parametrize(
    "change, needs, said",
    [
        (other_audio, NEEDS, "made of other recordings"),
        (without_test, NEEDS, "the recordings have no test items"),
        (None, Needs((64, 64), 100, n_params=1), r"lengths \[64, 32, 32\] instead of \[64, 64\]"),
        (None, Needs(NEEDS.lengths, 99, n_params=1), "input_length 100 instead of 99"),
        (lambda sets: os.truncate(sets / "test" / "shard-00000.tar", 99), NEEDS, "truncated"),
        (lambda sets: (sets / "test" / "index.json").unlink(), NEEDS, "index.json cannot be read"),
        (lambda sets: (sets / "train").rename(sets / "else"), NEEDS, "train is missing"),
    ],
)
def test_other_sets_are_replaced_only_when_told_to(
    sets: Path, change: Callable[[Path], Any] | None, needs: Needs, said: str
) -> None:
    if change is not None:
        change(sets)
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    before = snapshot(sets)
    with pytest.raises(ShardError, match=f"{said}.*--overwrite"):
        build_sets(manifest, sets, needs, say=lambda _: None)
    assert snapshot(sets) == before
    if "index.json cannot" in said:
        return  # a folder without an index is not known to be ours: see the next test
    folders = build_sets(manifest, sets, needs, overwrite=True, say=lambda _: None)
    assert [verify(folder) for folder in folders] == [[]] * len(folders)
    assert {p.name for p in sets.iterdir()} - {"else"} == {folder.name for folder in folders}
    assert ShardSet.open(sets / "train").geometry == needs.geometry(RATE, [RATIO], "")


@pytest.mark.parametrize("stranger", ["notes.txt", "holiday.tar", ".hidden"])
def test_nothing_is_replaced_that_is_not_a_set(sets: Path, stranger: str) -> None:
    (sets / "validation" / stranger).write_text("mine")
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    with pytest.raises(ShardError, match=f"{stranger}.*move it away"):
        build_sets(manifest, sets, NEEDS, overwrite=True, say=lambda _: None)
    assert (sets / "validation" / stranger).read_text() == "mine"


@pytest.mark.parametrize("kind", ["file", "link", "no index"])
def test_a_stranger_in_the_place_of_a_set_is_left_alone(sets: Path, kind: str) -> None:
    if kind == "no index":
        (sets / "test" / "index.json").unlink()
    else:
        (sets / "test").rename(sets / "aside")
        if kind == "file":
            (sets / "test").write_text("mine")
        else:
            (sets / "test").symlink_to("aside")
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    before = snapshot(sets)
    with pytest.raises(ShardError, match="test stands where a set of shards would be"):
        build_sets(manifest, sets, NEEDS, overwrite=True, say=lambda _: None)
    assert snapshot(sets) == before


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    manifest = record(tmp_path / "demo" / "recordings")
    for overwrite in (False, True):
        build_sets(manifest, tmp_path / "demo", NEEDS, overwrite=overwrite, say=lambda _: None)
        names = {path.name for path in (tmp_path / "demo").iterdir()}
        assert names == {"recordings", "train", "validation", "test"}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError(28, "No space left")])
def test_a_build_that_fails_half_way_leaves_what_was_there(
    sets: Path, existing: bool, error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sets if existing else sets.parent / "new"
    before = snapshot(out)
    calls: list[str] = []

    def failing(manifest: Manifest, item: Any) -> Recording:
        calls.append(item.id)
        if item.split == "validation":
            raise error
        return load_item(manifest, item)

    monkeypatch.setattr(shard_build, "load_item", failing)
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    with pytest.raises(ShardError if isinstance(error, OSError) else error):
        build_sets(manifest, out, NEEDS, overwrite=True, say=lambda _: None)
    assert len(calls) == 5
    assert snapshot(out) == before
    assert sorted(p.name for p in out.iterdir()) == sorted({name.split("/")[0] for name in before})


def test_old_sets_come_back_when_the_new_cannot_take_their_place(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(sets)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if Path(target) == sets / "validation" and self.name == "validation":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    with pytest.raises(ShardError, match="Input/output error"):
        build_sets(manifest, sets, NEEDS, overwrite=True, say=lambda _: None)
    assert snapshot(sets) == before


def test_a_killed_builds_leftovers_are_named(tmp_path: Path) -> None:
    (tmp_path / "out" / ".building-dead").mkdir(parents=True)
    said: list[str] = []
    build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=said.append)
    assert ".building-dead was left" in said[0]


BAD_BUILDS: list[tuple[dict[str, Any], Needs, str]] = [
    ({"samples": {"train-a": 500, "test-a": SEQUENCE - 1}}, NEEDS, "test item 'test-a' has 163"),
    ({"samples": {"train-a": 99, "train-b": 9}}, NEEDS, "train item 'train-a' has 99 samples"),
    ({"channels": 2}, NEEDS, "item 'train-a' has 2 input channels"),
    ({"sidechain": 1}, NEEDS, "item 'train-a' has 2 input channels"),
    ({}, Needs((64,), 100), r"1 controls \(ratio\) where the model takes 0"),
    ({}, Needs((64,), 100, sidechain_channels=1, n_params=1), "has 1 input channels"),
]


@pytest.mark.parametrize("recorded, needs, said", BAD_BUILDS)
def test_recordings_that_cannot_serve_are_refused_and_nothing_is_left(
    tmp_path: Path, recorded: dict[str, Any], needs: Needs, said: str
) -> None:
    manifest = record(tmp_path / "in", **recorded)
    with pytest.raises(ShardError, match=said):
        build_sets(manifest, tmp_path / "out", needs, say=lambda _: None)
    assert list((tmp_path / "out").glob("*")) == []


def test_a_faulty_recording_is_refused_by_its_own_name(tmp_path: Path) -> None:
    manifest = record(tmp_path / "in")
    audio.write(tmp_path / "in" / "test-a-out.wav", np.full((1, 292), np.nan), RATE, "FLOAT")
    with pytest.raises(UserError, match="test-a-out.wav"):
        build_sets(manifest, tmp_path / "out", NEEDS, say=lambda _: None)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ShardError, match="out cannot be made"):
        build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=lambda _: None)


def test_a_disk_that_is_too_small_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10_000

    monkeypatch.setattr(shard_build.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(ShardError, match="the train set takes"):
        build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=lambda _: None)


# Sets for something else


@pytest.mark.parametrize(
    "change, said",
    [
        ({"sample_rate": 44100}, "sample_rate 8000 Hz instead of 44100 Hz"),
        ({"input_channels": 2}, "input_channels 1 instead of 2"),
        ({"sidechain_channels": 1}, "sidechain_channels 0 instead of 1"),
        ({"lengths": (64, 32)}, r"lengths \[64, 32, 32\] instead of \[64, 32\]"),
        ({"input_length": 101}, "input_length 100 instead of 101"),
        ({"controls": ()}, "controls ratio 2.0 to 8.0:1 .log. instead of none"),
        ({"controls": (Control("ratio", 2, 8.5, "log", ":1"),)}, "to 8.5:1"),
        ({"controls": (Control("ratio", 2, 8, "linear", ":1"),)}, "instead of .*linear"),
    ],
)
def test_a_set_for_something_else_is_refused_with_every_difference(
    built: Path, change: dict[str, Any], said: str
) -> None:
    train = ShardSet.open(built / "train")
    train.require(GEOMETRY, "make it so")
    needed = Geometry(**{**vars(GEOMETRY), **change})
    with pytest.raises(ShardError, match=f"{said}.*`make it so`"):
        train.require(needed, "make it so")


def test_all_differences_are_listed_at_once(built: Path) -> None:
    needed = Geometry(44100, 2, 1, (), (64,), 99)
    with pytest.raises(ShardError) as caught:
        ShardSet.open(built / "train").require(needed, "make it so")
    assert all(name in str(caught.value) for name in vars(needed))


def test_a_set_of_pieces_has_no_whole_items(built: Path) -> None:
    with pytest.raises(ShardError, match="no whole recordings"):
        ShardSet.open(built / "train").item(0)


# Damage and malice


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
    (at("records", 0, "input", 2, value=2**32), r"records\[0\].input crc32"),
    (at("records", 0, "input", 2, value=0), "CRC-32 differs"),
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
    (at("kind", value="items"), r"records\[0\] is not its whole item"),
    (at("dtype", value="object"), "dtype is 'object'"),
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
        npy_array(bytearray(data), (1, 4))


@pytest.mark.parametrize("cut", [0, 3, 9, 100, 143])
def test_an_array_that_ends_early_is_no_array(cut: int) -> None:
    data = npy_bytes(np.zeros((1, 4), np.float32))
    assert len(data) == 144
    with pytest.raises(ValueError):
        npy_array(bytearray(data[:cut]), (1, 4))


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
    writer = SetWriter(tmp_path, "test", GEOMETRY, 0, 10**6)
    audio_in = np.full((1, SEQUENCE), np.inf, np.float32)
    writer.add("test-a", {"ratio": 2.0}, [0.0], audio_in, np.zeros((1, SEQUENCE), np.float32))
    writer.finish(Provenance("0", "a box", "", ""))
    assert [("not finite" in fault) for fault in verify(tmp_path)] == [True]


def test_a_description_tells_what_a_set_is_for(built: Path) -> None:
    text = describe(built / "train")
    for words in ("train (sequences)", "a box of noise", "17 of 164 samples", "8000 Hz", "[64, 32"):
        assert words in text
