"""What a set will hold and in which shard, before a sample is read: arithmetic on lengths alone.

The plan of a set is a function of its items' lengths and of how they shall be cut. So every shard
can be written on its own, in any order and by any number of threads, and the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sptmod_dist.data.checksums import Stored, block_of
from sptmod_dist.data.controls import Setting
from sptmod_dist.data.geometry import Geometry
from sptmod_dist.data.sample_formats import FORMATS, SampleFormat
from sptmod_dist.data.shard_index import Item, record_json

_NPY_HEADER = 128
_TAR_MEMBER = 1024  # its header and its padding, at most
_TAR_END = 10240
_FLAC_WIDTH = 3.1  # bytes a sample of noise, frames' headers included: nothing is larger


@dataclass(frozen=True)
class Cut:
    """How recordings become records and shards."""

    sequences_per_record: int
    """Consecutive sequences in a record, which share their lookback; 0 keeps items whole."""
    sample_format: str
    """A name in `FORMATS`."""
    shard_bytes: int
    """A shard is closed before it grows larger than this; each holds one record at least."""


class Available(NamedTuple):
    """An item that can be had."""

    id: str
    settings: dict[str, Setting]
    controls: list[float]
    samples: int
    """Of the recording."""
    covered: int
    """Of these, from the start, that can be read."""
    sha256: str
    """Of the output's file."""


class PlannedRecord(NamedTuple):
    """A stretch of an item that becomes a record."""

    key: str
    item: int
    start: int
    samples: int
    sequences: int


@dataclass(frozen=True)
class SetPlan:
    """All of a set but its bytes. See `plan_set`."""

    split: str
    geometry: Geometry
    cut: Cut
    items: list[Item]
    shards: list[list[PlannedRecord]]
    """The records of each shard."""

    @property
    def kind(self) -> str:
        """As in the index."""
        return "sequences" if self.cut.sequences_per_record else "items"

    @property
    def format(self) -> SampleFormat:
        """Of the samples."""
        return FORMATS[self.cut.sample_format]

    @property
    def block(self) -> int:
        """As in the index."""
        return block_of(self.format, self.cut.sequences_per_record)

    @property
    def records(self) -> Iterator[tuple[int, PlannedRecord]]:
        """Every record, in order, with the number of its shard."""
        for number, records in enumerate(self.shards):
            for record in records:
                yield number, record

    def stored(self, record: PlannedRecord, field: str) -> Stored:
        """How the samples of a record's `input` or `output` lie in their member."""
        return Stored(self.format, self.block, self._rows(field), record.samples)

    def bytes_of(self, number: int) -> int:
        """Bytes that a shard takes, at most."""
        return _TAR_END + sum(self._record_bytes(record) for record in self.shards[number])

    @property
    def bytes(self) -> int:
        """Bytes that the set takes, at most."""
        return sum(self.bytes_of(number) for number in range(len(self.shards)))

    def _rows(self, field: str) -> int:
        return self.geometry.input_channels + (field == "input") * self.geometry.sidechain_channels

    def _record_bytes(self, record: PlannedRecord) -> int:
        width = self.format.width or _FLAC_WIDTH
        rows = self._rows("input") + self._rows("output")
        about = record_json(self.items[record.item], record.start, record.samples)
        samples = int(width * rows * record.samples)
        return samples + 2 * _NPY_HEADER + len(about) + 3 * _TAR_MEMBER


def plan_set(split: str, geometry: Geometry, cut: Cut, available: Iterable[Available]) -> SetPlan:
    """Plan a set.

    Args:
        split: `train`, `validation` or `test`.
        geometry: what the set is for.
        cut: how it is cut.
        available: the items, in the set's order; one without a whole sequence gets no record,
            unless items are kept whole.
    """
    items: list[Item] = []
    records: list[PlannedRecord] = []
    for number, has in enumerate(available):
        pieces = list(_records(split, number, geometry, cut, has.covered))
        end = max((piece.start + piece.samples for piece in pieces), default=0)
        samples = has.samples if cut.sequences_per_record else has.covered
        sequences = sum(piece.sequences for piece in pieces)
        named = (has.id, has.settings, has.controls)
        items.append(Item(*named, samples, sequences, samples - end, has.sha256))
        records += pieces
    plan = SetPlan(split, geometry, cut, items, [])
    plan.shards.extend(_shards(plan, records))
    return plan


def _records(
    split: str, item: int, geometry: Geometry, cut: Cut, samples: int
) -> Iterator[PlannedRecord]:
    count, held = geometry.n_sequences(samples), cut.sequences_per_record
    if not held:
        yield PlannedRecord(_key(split, item, 0), item, 0, samples, count)
        return
    for first in range(0, count, held):
        sequences, start = min(held, count - first), first * geometry.hop
        length = geometry.target_start + sequences * geometry.hop
        yield PlannedRecord(_key(split, item, start), item, start, length, sequences)


def _key(split: str, item: int, start: int) -> str:
    return f"{split}-{item:04d}-{start:09d}"


def _shards(plan: SetPlan, records: Sequence[PlannedRecord]) -> Iterator[list[PlannedRecord]]:
    shard: list[PlannedRecord] = []
    size = _TAR_END
    for record in records:
        more = plan._record_bytes(record)
        if shard and size + more > plan.cut.shard_bytes:
            yield shard
            shard, size = [], _TAR_END
        shard.append(record)
        size += more
    if shard:
        yield shard
