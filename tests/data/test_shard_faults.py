"""Whatever happens to a set, its data is right or it is refused in words."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist.data import sources
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.data.shards import ShardSet
from tests.data.damage import change_byte, refused
from tests.data.small_sets import noise, store


def replace_by_link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere").name)


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
