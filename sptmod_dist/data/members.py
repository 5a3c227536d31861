"""Reading the members of a shard: byte ranges, checked as they are read, straight into arrays.

It opens nothing and remembers nothing, so any number of threads may read one descriptor. Where
members lie is the matter of the index; what their bytes are, that of `sample_formats`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from sptmod_dist.data.checksums import Checked, ChecksumError, Stored, crc32_of
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.sample_formats import FlacFormat, PlainFormat
from sptmod_dist.data.shard_file import faulty
from sptmod_dist.data.shard_index import Member

_DECODED = 65_536  # samples that are read, checked and decoded at once: they fit a core's cache
_PLACED = 4_194_304  # those that are read to where they are wanted: few calls beat the cache


def read_bytes(descriptor: int, path: Path | str, name: str, member: Member) -> bytearray:
    """The bytes of a member as they are.

    Args:
        descriptor: of the shard.
        path: of the shard, and
        name: of the member, for messages.

    Raises:
        ShardError: they cannot be read or end early.
    """
    data = bytearray(member.size)
    _MemberReader(descriptor, path, name).fill([memoryview(data)], member.offset)
    return data


def read_member(descriptor: int, path: Path | str, name: str, member: Member) -> bytearray:
    """The bytes of a member that has one CRC-32, which fits.

    Raises:
        ShardError: they cannot be read, end early, or have changed.
    """
    data = read_bytes(descriptor, path, name, member)
    if crc32_of(data) != member.crc32s:
        raise changed(path, name)
    return data


def read_stretch(
    descriptor: int,
    path: Path | str,
    name: str,
    member: Member,
    stored: Stored,
    start: int,
    out: np.ndarray,
) -> None:
    """Read consecutive samples of a member, and no byte besides them and what their sums cover.

    Args:
        descriptor: of the shard.
        path: of the shard, and
        name: of the member, for messages.
        member: where it lies.
        stored: how its samples lie in it.
        start: the first sample wanted.
        out: float32, filled; each row is contiguous. Samples that are stored as float32 go straight
            from the file into it.

    Shape:
        out `[rows, n]`

    Raises:
        ShardError: the bytes cannot be read, end early, have changed, or are no such samples.
    """
    if len(out) != stored.rows or not 0 <= start <= stored.samples - out.shape[1]:
        raise ValueError(f"{out.shape} from sample {start} of {stored.rows} x {stored.samples}")
    try:
        if isinstance(stored.format, FlacFormat):
            data = read_member(descriptor, path, name, member)
            stored.format.decode_stretch(data, stored.samples, start, out)
        else:
            assert isinstance(stored.format, PlainFormat)
            reader = _MemberReader(descriptor, path, name)
            _StretchReader(reader, member, stored, stored.format).read(start, out)
    except ChecksumError:
        raise changed(path, name) from None
    except ValueError as error:
        raise faulty(path, f"has no usable samples in {name} ({error})") from None


class _MemberReader:
    """Reads byte ranges of a shard; its faults name the shard and the member."""

    def __init__(self, descriptor: int, path: Path | str, name: str) -> None:
        self._descriptor, self._path, self._name = descriptor, path, name

    def fill(self, views: list[memoryview], offset: int) -> None:
        """Fill the views, in which the bytes from `offset` on follow each other."""
        views = [view for view in views if len(view)]
        while views:  # one call reads at most 2 GiB, and may be cut short by a signal
            try:
                count = os.preadv(self._descriptor, views, offset)
            except OSError as error:
                fault = f"cannot be read at {self._name} ({error.strerror})"
                raise faulty(self._path, fault) from None
            if count == 0:
                raise faulty(self._path, f"ends within {self._name}")
            offset += count
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if count:
                views[0] = views[0][count:]


class _StretchReader:
    """Reads a stretch of an array, portion by portion.

    What the sums cover before and after the stretch, and what is to be decoded, goes to a memory of
    its own.
    """

    def __init__(
        self, reader: _MemberReader, member: Member, stored: Stored, plain: PlainFormat
    ) -> None:
        self._reader, self._member, self._stored, self._plain = reader, member, stored, plain
        self._width, unit = plain.width, stored.block or 1
        portion = _PLACED if plain.is_memory else _DECODED
        self._portion = max(1, portion // unit) * unit
        self._data = member.offset + member.size - stored.rows * stored.samples * plain.width
        self._memory = np.empty(0, np.uint8).data
        self._checked = Checked(member.crc32s, stored.block * plain.width or member.size)

    def read(self, start: int, out: np.ndarray) -> None:
        """Fill `out`; see `read_stretch`."""
        stored, block = self._stored, self._stored.block
        first, last = 0, stored.samples
        if block:
            first = start // block * block
            last = min(-(-(start + out.shape[1]) // block) * block, stored.samples)
        header = b"" if block else self._take_header()
        for row in range(stored.rows):
            if block:
                self._checked.begin(row * -(-stored.samples // block) + first // block)
            for at in range(first, last, self._portion):
                self._take(row, at, min(at + self._portion, last), start, out[row])
            if block:
                self._checked.end()
        if not block:
            self._plain.check_header(header, stored.rows, stored.samples)

    def _take_header(self) -> bytes:
        """What stands before the samples; with blocks no sum covers it and none needs it."""
        header = memoryview(bytearray(self._data - self._member.offset))
        self._reader.fill([header], self._member.offset)
        self._checked.take(header)
        return bytes(header)

    def _take(self, row: int, first: int, last: int, start: int, out: np.ndarray) -> None:
        """The samples from `first` to `last` of a row: into `out` those that are wanted."""
        low = min(max(first, start), last)
        high = max(min(last, start + len(out)), low)
        wanted = out[low - start : high - start]
        edges = (low - first) * self._width, (last - high) * self._width
        size = wanted.size * self._width
        placed = wanted.view(np.uint8).data if self._plain.is_memory else None
        memory = self._scratch(sum(edges) + (size if placed is None else 0))
        before, after = memory[: edges[0]], memory[len(memory) - edges[1] :]
        middle = memory[edges[0] : edges[0] + size] if placed is None else placed
        offset = self._data + (row * self._stored.samples + first) * self._width
        self._reader.fill([before, middle, after], offset)
        for view in (before, middle, after):
            self._checked.take(view)
        if placed is None and len(wanted):
            self._plain.decode_into(middle, wanted)

    def _scratch(self, size: int) -> memoryview:
        """So many bytes, the same for every portion."""
        if len(self._memory) < size:
            self._memory = np.empty(size, np.uint8).data
        return self._memory[:size]


def changed(path: Path | str, name: str) -> ShardError:
    """What is said of a member whose bytes are not those of the index."""
    return faulty(path, f"has changed bytes in {name} (its CRC-32 differs)")
