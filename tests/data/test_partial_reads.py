"""A part of a record is read alone: the blocks that it touches, checked, and not a byte more."""

from __future__ import annotations

import os
from collections.abc import Sequence as Views
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist.data import members
from sptmod_dist.data.checksums import Stored, block_of, crc32s
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.members import read_stretch
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_index import Member

ROWS, SAMPLES, BLOCK = 2, 1000, 64  # fifteen blocks and one of 40 samples in each row
BEFORE = b"what another member has"
PLAIN = [name for name in FORMATS if FORMATS[name].width]
STRETCHES = [
    (0, 1000), (0, 1), (999, 1000), (960, 1000), (959, 961),
    (64, 128), (63, 129), (64, 192), (70, 100), (100, 700), (0, 64), (936, 1000),
]  # fmt: skip


class Shard:
    """A file with one member in it, whose reads are noted."""

    def __init__(self, path: Path, name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
        audio = np.random.default_rng(1).uniform(-1, 1, (ROWS, SAMPLES)).astype(np.float32)
        self.path, self.stored = path, Stored(FORMATS[name], block, ROWS, SAMPLES)
        data = self.stored.format.encode(audio, 8000)
        self.audio = self.stored.format.decode(data, ROWS, SAMPLES)
        self.member = Member(len(BEFORE), len(data), crc32s(data, self.stored))
        self.samples_at = len(BEFORE) + len(data) - ROWS * SAMPLES * self.stored.format.width
        path.write_bytes(BEFORE + data + b"and another")
        self.touched: set[int] = set()
        self.count = 0
        self._preadv = os.preadv
        monkeypatch.setattr(members.os, "preadv", self._noted)

    def _noted(self, descriptor: int, views: Views[memoryview], offset: int) -> int:
        count = self._preadv(descriptor, views, offset)
        self.touched |= set(range(offset, offset + count))
        self.count += count
        return count

    def read(self, start: int, stop: int) -> np.ndarray:
        out = np.full((ROWS, stop - start), np.nan, np.float32)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            read_stretch(descriptor, self.path, "x.npy", self.member, self.stored, start, out)
        finally:
            os.close(descriptor)
        return out

    def places(self, row: int, first: int, last: int) -> range:
        """The bytes of some samples of a row."""
        width = self.stored.format.width
        start = self.samples_at + row * SAMPLES * width
        return range(start + first * width, start + last * width)

    def of_blocks(self, start: int, stop: int) -> set[int]:
        """The bytes of the blocks that a stretch touches."""
        first, last = start // BLOCK * BLOCK, min(-(-stop // BLOCK) * BLOCK, SAMPLES)
        return {place for row in range(ROWS) for place in self.places(row, first, last)}

    def flip(self, place: int) -> None:
        data = bytearray(self.path.read_bytes())
        data[place] ^= 1 << place % 8
        self.path.write_bytes(data)


@pytest.fixture(params=PLAIN)
def shard(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shard:
    return Shard(tmp_path / "shard", request.param, BLOCK, monkeypatch)


@pytest.mark.parametrize("portion", [1, 64, 200, 65_536])
def test_a_stretch_is_read_by_its_blocks_alone(
    shard: Shard, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("_PLACED", "_DECODED"):
        monkeypatch.setattr(members, kind, portion)
    for start, stop in STRETCHES:
        shard.touched, shard.count = set(), 0
        assert np.array_equal(shard.read(start, stop), shard.audio[:, start:stop])
        assert shard.touched == shard.of_blocks(start, stop)
        assert shard.count == len(shard.touched)  # and each byte once


def test_a_changed_bit_is_refused_where_it_is_read_and_only_there(shard: Shard) -> None:
    dice = np.random.default_rng(2)
    for row in range(ROWS):
        for first in range(0, SAMPLES, BLOCK):
            changed = int(dice.choice(shard.places(row, first, min(first + BLOCK, SAMPLES))))
            shard.flip(changed)
            for start, stop in STRETCHES:
                if changed in shard.of_blocks(start, stop):
                    with pytest.raises(ShardError, match="changed bytes in x.npy .its CRC-32 dif"):
                        shard.read(start, stop)
                else:
                    assert np.array_equal(shard.read(start, stop), shard.audio[:, start:stop])
            shard.flip(changed)


@pytest.mark.parametrize("name", FORMATS)
def test_without_blocks_any_changed_bit_of_the_member_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = Shard(tmp_path / "shard", name, 0, monkeypatch)
    end = len(BEFORE) + shard.member.size
    for portion in (300, 65_536):
        monkeypatch.setattr(members, "_PLACED", portion)
        monkeypatch.setattr(members, "_DECODED", portion)
        for start, stop in STRETCHES:
            assert np.array_equal(shard.read(start, stop), shard.audio[:, start:stop])
        for changed in [*range(len(BEFORE), end, 211), len(BEFORE), end - 1]:
            shard.flip(changed)
            with pytest.raises(ShardError, match="changed bytes in x.npy .its CRC-32 differs"):
                shard.read(100, 130)
            shard.flip(changed)
    for changed in (len(BEFORE) - 1, end):
        shard.flip(changed)
        assert np.array_equal(shard.read(100, 130), shard.audio[:, 100:130])


@pytest.mark.parametrize("block", [0, BLOCK])
def test_reads_that_the_system_cuts_short_are_gone_on_with(
    shard: Shard, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = Shard(tmp_path / "other", shard.stored.format.name, block, monkeypatch)
    whole = shard._preadv

    def short(descriptor: int, views: Views[memoryview], offset: int) -> int:
        return whole(descriptor, [views[0][:37]], offset)

    monkeypatch.setattr(shard, "_preadv", short)
    for start, stop in STRETCHES:
        assert np.array_equal(shard.read(start, stop), shard.audio[:, start:stop])


@pytest.mark.parametrize("block", [0, BLOCK])
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_ends_or_fails_within_a_member_is_named(
    name: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = Shard(tmp_path / "shard", name, block if FORMATS[name].width else 0, monkeypatch)
    os.truncate(shard.path, len(BEFORE) + shard.member.size - 1)
    with pytest.raises(ShardError, match="shard ends within x.npy"):
        shard.read(0, SAMPLES)

    def failing(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(members.os, "preadv", failing)
    with pytest.raises(ShardError, match="shard cannot be read at x.npy .Input/output error"):
        shard.read(0, SAMPLES)


def test_an_array_of_another_type_is_refused_though_its_sum_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = Shard(tmp_path / "shard", "float32", 0, monkeypatch)
    data = shard.path.read_bytes().replace(b"'<f4'", b"'<i4'")[len(BEFORE) :][: shard.member.size]
    shard.path.write_bytes(BEFORE + data)
    shard.member = shard.member._replace(crc32s=crc32s(data, shard.stored))
    with pytest.raises(ShardError, match="no usable samples in x.npy .it holds int32"):
        shard.read(0, SAMPLES)


def test_stretches_beyond_the_member_are_no_stretches(shard: Shard) -> None:
    for start, stop in ((-1, 5), (990, 1001)):
        with pytest.raises(ValueError):
            shard.read(start, stop)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("held, n_sums", [(1, 1), (0, 6), (2, 6)])
def test_sums_cover_blocks_of_each_row(name: str, held: int, n_sums: int) -> None:
    stored = Stored(FORMATS[name], block_of(FORMATS[name], held), 2, 2 * 8192 + 1)
    data = stored.format.encode(np.zeros((2, stored.samples), np.float32), 8000)
    assert len(crc32s(data, stored)) == 8 * n_sums
    assert block_of(FORMATS["flac"], held) == 0
