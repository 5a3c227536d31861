"""CRC-32 sums over a member of a shard: one for all of it, or one a block of its samples.

With blocks, a part of a record can be read and checked alone. It computes and compares; what is
read, and what a difference means, is the matter of others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from sptmod_dist.data.sample_formats import Buffer, SampleFormat

try:  # several times faster, and then reading takes two thirds of the time
    from isal.isal_zlib import crc32
except ImportError:  # it has no build for every machine; the sums are the same
    from zlib import crc32

DIGITS = 8
"""Hexadecimal digits of one sum."""
BLOCK = 8192
"""Samples that one sum covers, in records that are read in parts."""


class ChecksumError(ValueError):
    """Bytes are not those that the sum was taken of."""


class Stored(NamedTuple):
    """How the samples of a member lie in it."""

    format: SampleFormat
    block: int
    """Samples of one row that a sum covers; 0 where one sum covers the whole member."""
    rows: int
    samples: int


def block_of(sample_format: SampleFormat, sequences_per_record: int) -> int:
    """The block for records of so many sequences (0: whole items): who reads all needs no parts."""
    return 0 if sequences_per_record == 1 or not sample_format.width else BLOCK


def crc32s(data: Buffer, stored: Stored) -> str:
    """The sums of a member, one after the other, in the order of its bytes."""
    return "".join(f"{crc32(block):08x}" for block in _blocks(memoryview(data), stored))


def crc32_of(data: Buffer) -> str:
    """The one sum of a member without blocks."""
    return f"{crc32(data):08x}"


class Checked:
    """Compares sums with the bytes that they cover, which come in order and in any portions.

    Args:
        sums: of the whole member.
        size: bytes that one sum covers.
    """

    def __init__(self, sums: str, size: int) -> None:
        self._sums = struct.unpack(f">{len(sums) // DIGITS}I", bytes.fromhex(sums))
        self._size = size
        self.begin(0)

    def begin(self, number: int) -> None:
        """The next bytes are the first of this block."""
        self._number, self._sum, self._left = number, 0, self._size

    def take(self, data: memoryview) -> None:
        """Some more bytes.

        Raises:
            ChecksumError: a block is complete and its sum differs.
        """
        start = 0
        while len(data) - start >= self._left:
            end = start + self._left
            self._sum = crc32(data[start:end], self._sum)
            self._left, start = 0, end
            self.end()
        self._sum = crc32(data[start:], self._sum)
        self._left -= len(data) - start

    def end(self) -> None:
        """A row ends: its last block may be short.

        Raises:
            ChecksumError: its sum differs.
        """
        if self._left == self._size:
            return
        if self._sum != self._sums[self._number]:
            raise ChecksumError("its CRC-32 differs")
        self._number, self._sum, self._left = self._number + 1, 0, self._size


def _blocks(data: memoryview, stored: Stored) -> Iterator[memoryview]:
    if not stored.block:
        yield data
        return
    width = stored.format.width
    row, size = stored.samples * width, stored.block * width
    for start in range(len(data) - stored.rows * row, len(data), row):
        for first in range(start, start + row, size):
            yield data[first : min(first + size, start + row)]
