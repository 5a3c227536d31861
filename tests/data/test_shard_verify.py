"""`verify` passes good sets of every format, and finds whatever is wrong with the others."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist.data import shard_verify
from sptmod_dist.data.recordings import Recording
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_file import file_sha256
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.data.shards import ShardSet
from tests.data.damage import at, change_byte, forge
from tests.data.small_sets import SEQUENCE, noise, store


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
