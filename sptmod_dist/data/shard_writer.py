"""Writing one set of shards: items in, tar files and their index out.

It writes into a folder that is not yet in use and knows nothing of manifests or of what was there
before. The format is described in shards/README.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sptmod_dist.data.checksums import Stored, block_of, crc32_of, crc32s
from sptmod_dist.data.geometry import Geometry, ShardError
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_file import ShardFile, tar_places
from sptmod_dist.data.shard_index import (
    INDEX_NAME,
    Index,
    Item,
    Member,
    Provenance,
    Record,
    Shard,
    member_name,
    record_json,
    write_index,
)

_TAR_OVERHEAD = 1024  # bytes a member: its header, its padding


class _Piece(NamedTuple):
    """A stretch of an item that becomes a record."""

    start: int
    samples: int
    sequences: int


class _Pending(NamedTuple):
    """A record whose place is known when its shard is closed."""

    key: str
    item: int
    piece: _Piece
    sums: dict[str, str]


class SetWriter:
    """Writes the items of one split, one after the other, in constant memory.

    Args:
        folder: exists and is empty.
        split: `train`, `validation` or `test`.
        geometry: what the set is for.
        sequences_per_record: items are cut into records of so many consecutive sequences, which
            share their lookback, the last of an item perhaps of fewer; 0 keeps items whole.
        shard_bytes: a shard is closed when the next record would make it larger than this.
        sample_format: a name in `FORMATS`.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        geometry: Geometry,
        sequences_per_record: int,
        shard_bytes: int,
        sample_format: str,
    ) -> None:
        self.folder = folder
        self.split = split
        self.geometry = geometry
        self.sequences_per_record = sequences_per_record
        self.shard_bytes = shard_bytes
        self.format = FORMATS[sample_format]
        self.block = block_of(self.format, sequences_per_record)
        self.items: list[Item] = []
        self._shards: list[Shard] = []
        self._records: list[Record] = []
        self._pending: list[_Pending] = []
        self._open: ShardFile | None = None

    def add(
        self,
        name: str,
        settings: dict[str, float],
        controls: list[float],
        audio_in: np.ndarray,
        audio_out: np.ndarray,
        sha256: str,
    ) -> Item:
        """Write one item.

        Args:
            name: the item's id.
            settings: of the device's controls, by name.
            controls: the same, normalised, in the geometry's order.
            sha256: of the file that the output was read from.

        Shape:
            audio_in: [C + S, T];  audio_out: [C, T]

        Raises:
            ShardError: the sample format cannot hold the audio.
        """
        samples = audio_in.shape[1]
        pieces = list(self._pieces(samples))
        covered = max((piece.start + piece.samples for piece in pieces), default=0)
        sequences = sum(piece.sequences for piece in pieces)
        item = Item(name, settings, controls, samples, sequences, samples - covered, sha256)
        for piece in pieces:
            stretch = slice(piece.start, piece.start + piece.samples)
            audio = {"input": audio_in[:, stretch], "output": audio_out[:, stretch]}
            self._add_record(item, piece, audio)
        self.items.append(item)
        return item

    def finish(self, provenance: Provenance) -> Index:
        """Close the last shard and write the index: from now on this is a set."""
        self._close_shard()
        index = Index(
            split=self.split,
            kind="sequences" if self.sequences_per_record else "items",
            sequences_per_record=self.sequences_per_record,
            sample_format=self.format.name,
            block=self.block,
            geometry=self.geometry,
            shards=self._shards,
            items=self.items,
            records=self._records,
            provenance=provenance,
        )
        write_index(self.folder / INDEX_NAME, index)
        return index

    def abandon(self) -> None:
        """Close what is open, after a failure."""
        if self._open is not None:
            self._open.abandon()

    def _pieces(self, samples: int) -> Iterator[_Piece]:
        count = self.geometry.n_sequences(samples)
        if not self.sequences_per_record:
            yield _Piece(0, samples, count)
            return
        for first in range(0, count, self.sequences_per_record):
            held = min(self.sequences_per_record, count - first)
            length = self.geometry.target_start + held * self.geometry.hop
            yield _Piece(first * self.geometry.hop, length, held)

    def _add_record(self, item: Item, piece: _Piece, audio: dict[str, np.ndarray]) -> None:
        members = {field: self._encode(item, field, audio[field]) for field in audio}
        members["json"] = record_json(item, piece.start, piece.samples)
        size = sum(len(data) + _TAR_OVERHEAD for data in members.values())
        if self._open is not None and self._open.size + size > self.shard_bytes:
            self._close_shard()
        if self._open is None:
            self._open = ShardFile(self.folder / f"shard-{len(self._shards):05d}.tar")
        key = f"{self.split}-{len(self.items):04d}-{piece.start:09d}"
        for field, data in members.items():
            self._open.add(member_name(key, field, self.format.suffix), data)
        sums = {
            field: crc32s(members[field], Stored(self.format, self.block, *audio[field].shape))
            for field in audio
        }
        sums["json"] = crc32_of(members["json"])
        self._pending.append(_Pending(key, len(self.items), piece, sums))

    def _encode(self, item: Item, field: str, audio: np.ndarray) -> bytes:
        try:
            return self.format.encode(audio, self.geometry.sample_rate)
        except ValueError as error:
            raise ShardError(
                f"the {field} of item '{item.id}' cannot be stored as {self.format.name} "
                f"({error}): build with data.sample_format float32"
            ) from None

    def _close_shard(self) -> None:
        if self._open is None:
            return
        shard = self._open.close()
        self._open = None
        places = tar_places(self.folder / shard.name)
        self._records += [self._settled(pending, places) for pending in self._pending]
        self._pending = []
        self._shards.append(shard)

    def _settled(self, pending: _Pending, places: dict[str, tuple[int, int]]) -> Record:
        """The record with its members where a reader of tar files finds them."""

        def member(field: str) -> Member:
            name = member_name(pending.key, field, self.format.suffix)
            return Member(*places[name], pending.sums[field])

        return Record(
            pending.key,
            len(self._shards),
            pending.item,
            *pending.piece,
            input=member("input"),
            output=member("output"),
            json=member("json"),
        )
