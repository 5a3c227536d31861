"""Whatever happens to a set's bytes, a reader gives the right data or a ShardError.

`make fuzz` tries 10,000 mutations of each part; `make test` a few of each.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.shard_index import dump
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.data.shards import Sequence, ShardSet
from tests.data.small_sets import build

TURNS = int(os.environ.get("SPTMOD_FUZZ", "60"))
FORMATS = ["float32", "pcm24", "pcm16", "flac"]

pytestmark = pytest.mark.timeout(max(120, TURNS))


@dataclass
class Target:
    """A set that is about to be damaged, and what it gives while it is whole."""

    folder: Path
    right: list[Sequence]

    def read(self) -> bool:
        """Whether all of it could be read, which must then be right."""
        try:
            found = ShardSet.open(self.folder)
            sequences = [found.sequence(number) for number in range(found.n_sequences)]
        except ShardError as error:
            assert "\n" not in str(error)
            return False
        assert len(sequences) == len(self.right)
        for one, other in zip(sequences, self.right, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        return True


@pytest.fixture(scope="module", params=[(name, K) for name in FORMATS for K in (1, 3)])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    sample_format, sequences_per_record = request.param
    built = build(
        tmp_path_factory.mktemp("fuzz"),
        sample_format=sample_format,
        sequences_per_record=sequences_per_record,
    )
    folder = built / "train"
    whole = ShardSet.open(folder)
    return Target(folder, [whole.sequence(number) for number in range(whole.n_sequences)])


def flip(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << dice.randrange(8))]) + data[place + 1 :]


def cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data))]


def insert(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + dice.randbytes(dice.randrange(1, 9)) + data[place:]


def remove(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + data[place + dice.randrange(1, 600) :]


def blank(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    end = min(len(data), place + dice.randrange(1, 600))
    return data[:place] + bytes(end - place) + data[end:]


def copy_within(data: bytes, dice: random.Random) -> bytes:
    place, other = dice.randrange(len(data)), dice.randrange(len(data))
    piece = data[other : other + dice.choice([1, 64, 512, 2048])]
    return data[:place] + piece + data[place + len(piece) :]


def extend(data: bytes, dice: random.Random) -> bytes:
    return data + dice.randbytes(dice.randrange(1, 2000))


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    flip, cut, insert, remove, blank, copy_within, extend
]


@pytest.mark.parametrize("part", ["index.json", "shard"])
def test_after_any_change_of_its_bytes_the_data_is_right_or_refused(
    target: Target, part: str
) -> None:
    dice, served = random.Random(part), 0
    for _ in range(TURNS):
        path = dice.choice(sorted(target.folder.glob(f"{part}*")))
        before = path.read_bytes()
        path.write_bytes(dice.choice(MUTATIONS)(before, dice))
        served += target.read()
        path.write_bytes(before)
    assert target.read()
    assert served < TURNS / 2  # tar headers and padding carry nothing that a reader needs


HOSTILE: list[object] = [0, -1, 1, 2**31, 2**48, 2**63, 10**30, 1.5, True, None]
HOSTILE += ["", "../x", "\0", [], {}, "0" * 8]


def forged(data: bytes, dice: random.Random) -> bytes:
    """An index in which some values are others, and whose checksum fits."""
    fields = json.loads(data)
    del fields["checksum"]
    for _ in range(dice.randrange(1, 3)):
        _change_somewhere(fields, dice)
    return dump(fields)


def _change_somewhere(place: object, dice: random.Random) -> None:
    while True:
        assert isinstance(place, (dict, list))
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = dice.choice(keys)
        inner = place[key]  # type: ignore[call-overload,index]
        if isinstance(inner, (dict, list)) and inner and dice.random() < 0.9:
            place = inner
            continue
        kind = dice.randrange(4)
        if kind == 0:
            place[key] = dice.choice(HOSTILE)  # type: ignore[call-overload,index]
        elif kind == 1:
            del place[key]  # type: ignore[arg-type]
        elif kind == 2 and isinstance(inner, int):
            nearby = inner + dice.choice([-512, -1, 1, 512])
            place[key] = nearby  # type: ignore[call-overload,index]
        elif isinstance(place, list):
            place.insert(dice.randrange(len(place) + 1), dice.choice(place))
        else:
            place[dice.choice(["x", "dtype", "format", "shards"])] = inner
        return


# What says nothing of the audio may be forged: whoever can forge the checksum as well made the set.
def test_a_forged_index_is_refused_or_gives_audio_of_the_set(target: Target) -> None:
    dice = random.Random("forged")
    path = target.folder / "index.json"
    audio = {part.tobytes() for sequence in target.right for part in sequence[:2]}
    before = path.read_bytes()
    for _ in range(TURNS):
        path.write_bytes(forged(before, dice))
        try:
            found = ShardSet.open(target.folder)
            sequences = [found.sequence(number) for number in range(found.n_sequences)]
        except ShardError as error:
            assert "\n" not in str(error)
            continue
        finally:
            path.write_bytes(before)
        for sequence in sequences:
            assert {sequence.input.tobytes(), sequence.output.tobytes()} <= audio


def test_verify_never_fails_on_what_it_verifies(target: Target, tmp_path: Path) -> None:
    dice = random.Random("verify")
    for _ in range(max(1, TURNS // 20)):
        folder = tmp_path / "copy"
        shutil.copytree(target.folder, folder)
        path = dice.choice(sorted(folder.iterdir()))
        data = path.read_bytes()
        changed = dice.choice(MUTATIONS)(data, dice)
        path.write_bytes(changed)
        assert bool(verify(folder)) == (changed != data)
        shutil.rmtree(folder)
