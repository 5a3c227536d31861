"""Reading a set of shards: any sequence or item by its number, checked at every read.

A set is an index and tar files, written by `shard_build`, from wherever a `Source` gets them. A
read goes straight to the bytes that the index names: nothing else in a tar is ever looked at, and
nothing is ever unpickled. It must not know of models, batches or ranks.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sptmod_dist.data.checksums import Stored
from sptmod_dist.data.geometry import Geometry, ShardError
from sptmod_dist.data.members import read_stretch
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_index import HOW_TO_BUILD, Index, Item, Record, member_name
from sptmod_dist.data.sources import LocalFolder, Source
from sptmod_dist.model.lengths import GroupLengths


class Sequence(NamedTuple):
    """Audio of the device and the controls it was recorded under; full scale ±1, float32."""

    input: np.ndarray
    """[C + S, T], the sidechain after the audio."""
    output: np.ndarray
    """[C, T]"""
    controls: np.ndarray
    """[n_params], each 0 … 1."""


class ShardSet:
    """An opened set. It holds no open file and remembers no read: any number of threads may read.

    Args:
        source: of the bytes.
        index: what is in them.
        fingerprint: the SHA-256 of the index file; it stands for the content of the whole set.

    Attributes:
        item_controls: [items, n_params], each 0 … 1, not to be written to.
    """

    def __init__(self, source: Source, index: Index, fingerprint: str) -> None:
        self.source = source
        self.index = index
        self.fingerprint = fingerprint
        self._format = FORMATS[index.sample_format]
        self._ends = list(accumulate(record.sequences for record in index.records))
        self._items = [record.item for record in index.records]
        self.item_controls = np.array([item.controls for item in index.items], np.float32)

    @classmethod
    def open(cls, folder: str | Path) -> ShardSet:
        """Open a set in a folder: read its index, check that every shard is there.

        Raises:
            ShardError: it is missing, unfinished, damaged or of another version.
        """
        return cls.of(LocalFolder(folder))

    @classmethod
    def of(cls, source: Source) -> ShardSet:
        """Open a set, wherever it is.

        Raises:
            ShardError: as `open`.
        """
        shard_set = cls(source, *source.read_index())
        try:
            for shard in shard_set.index.shards:
                source.check(shard)
        except ShardError as error:
            raise shard_set._explained(error) from None
        return shard_set

    @property
    def place(self) -> str:
        """What messages call it: the folder or the URL."""
        return self.source.place

    @property
    def geometry(self) -> Geometry:
        """What the set was made for."""
        return self.index.geometry

    @property
    def items(self) -> list[Item]:
        """The recordings in the set."""
        return self.index.items

    @property
    def n_sequences(self) -> int:
        """How many sequences `sequence` can give."""
        return self._ends[-1]

    def require_split(self, split: str, key: str) -> None:
        """Refuse a set of another split: what was learned must not be measured on.

        Args:
            split: `train`, `validation` or `test`.
            key: the setting that names this set.

        Raises:
            ShardError: naming the setting, the set and what it holds.
        """
        if self.index.split != split:
            raise ShardError(f"{key} is {self.place}, a {self.index.split} set: give a {split} set")

    def require(self, geometry: Geometry, how_to_build: str = HOW_TO_BUILD) -> None:
        """Refuse a set that was made for something else.

        Args:
            geometry: what is needed.
            how_to_build: the command that makes the right set.

        Raises:
            ShardError: every difference, and the command.
        """
        differences = self.geometry.differences(geometry)
        if differences:
            raise ShardError(
                f"{self.place} was made for something else ({'; '.join(differences)}): "
                f"build the right set with `{how_to_build}`"
            )

    def cut_for(self, lengths: GroupLengths) -> ShardSet:
        """The same recordings in sequences of other lengths, bit for bit those of a set built so.

        Args:
            lengths: of the sequences to be; of a set that holds no whole items they must be its own
                already, and `require` says where they are not.

        Raises:
            ShardError: a validation or test item is shorter than one sequence.
        """
        geometry = replace(
            self.geometry, lengths=tuple(lengths.lengths), input_length=lengths.input_length
        )
        if self.index.kind != "items" or geometry == self.geometry:
            return self
        counts = [geometry.n_sequences(record.samples) for record in self.index.records]
        cut = zip(self.index.records, counts, strict=True)
        records = [record._replace(sequences=count) for record, count in cut]
        of_item = dict(zip((record.item for record in records), counts, strict=True))
        items = [item._replace(sequences=of_item.get(n, 0)) for n, item in enumerate(self.items)]
        self._require_length(geometry, items)
        index = replace(self.index, geometry=geometry, records=records, items=items)
        return ShardSet(self.source, index, self.fingerprint)

    def _require_length(self, geometry: Geometry, items: Iterable[Item]) -> None:
        short = [item for item in items if not item.sequences and self.index.split != "train"]
        if short:
            raise ShardError(
                f"{self.place}: item '{short[0].id}' has {short[0].samples} samples and one "
                f"sequence needs {geometry.sequence_length}: take longer recordings, or lower the "
                "lengths or the model's lookback"
            )

    def locate(self, number: int) -> tuple[int, int]:
        """The item that a sequence is of, and its first sample in the recording.

        Sequences are numbered item by item, in the order of time.
        """
        record, start = self._place(number)
        return record.item, record.start + start

    def shard_of(self, number: int) -> int:
        """The place in `index.shards` of the shard that holds a sequence."""
        return self._place(number)[0].shard

    def prefetch(self, numbers: Iterable[int]) -> AbstractContextManager[None]:
        """While it is entered, get the shards of these sequences, in this order, ahead of reads."""
        return self.source.prefetch(map(self.shard_of, numbers))

    def controls(self, number: int) -> np.ndarray:
        """The controls of a sequence, [n_params], each 0 … 1."""
        return self.item_controls[self._place(number)[0].item].copy()

    def read_into(self, number: int, audio_in: np.ndarray, audio_out: np.ndarray) -> None:
        """Read one sequence, `geometry.sequence_length` samples, and no more than it takes.

        Args:
            number: from 0.
            audio_in: float32, filled; each row is contiguous. So is
            audio_out.

        Shape:
            audio_in `[C + S, T]`; audio_out `[C, T]`

        Raises:
            ShardError: the bytes cannot be read or have changed; the arrays may hold some of them.
        """
        record, start = self._place(number)
        self._require_shape(self.geometry.sequence_length, audio_in, audio_out)
        self._read(record, start, audio_in, audio_out)

    def sequence(self, number: int) -> Sequence:
        """One sequence, in arrays of its own; else as `read_into`."""
        audio = self._empty(self.geometry.sequence_length)
        self.read_into(number, *audio)
        return Sequence(*audio, self.controls(number))

    def item(self, number: int) -> Sequence:
        """One whole recording, in a set of items.

        Raises:
            ShardError: the set holds only pieces, or the bytes cannot be read or have changed.
        """
        if self.index.kind != "items":
            raise ShardError(
                f"{self.place} holds sequences, no whole recordings: give a validation or test set"
            )
        audio = self._empty(self.covered(number))
        self.item_into(number, *audio)
        return Sequence(*audio, self.item_controls[number].copy())

    def covered(self, item: int) -> int:
        """Samples of a recording that the set holds, from its start; 0 if none."""
        return self.items[item].samples - self.items[item].dropped

    def item_into(self, item: int, audio_in: np.ndarray, audio_out: np.ndarray) -> None:
        """Put a recording together of its records, as far as they cover it, each sample once.

        Args:
            item: its place in `items`.
            audio_in: float32, filled; each row is contiguous. So is
            audio_out.

        Shape:
            audio_in `[C + S, covered(item)]`; audio_out `[C, covered(item)]`

        Raises:
            ShardError: the bytes cannot be read or have changed; the arrays may hold some of them.
        """
        self._require_shape(self.covered(item), audio_in, audio_out)
        done = 0
        for number in range(bisect_left(self._items, item), bisect_right(self._items, item)):
            record = self.index.records[number]
            stretch = slice(done, record.start + record.samples)
            skipped = done - record.start  # the lookback, which the record before has
            self._read(record, skipped, audio_in[:, stretch], audio_out[:, stretch])
            done = stretch.stop

    def _place(self, number: int) -> tuple[Record, int]:
        """The record that a sequence is in, and its first sample there."""
        if not 0 <= number < self.n_sequences:
            raise IndexError(f"sequence {number} of {self.n_sequences}")
        place = bisect_right(self._ends, number)
        record = self.index.records[place]
        first = self._ends[place] - record.sequences
        return record, (number - first) * self.geometry.hop

    def _shapes(self, samples: int) -> tuple[tuple[int, int], tuple[int, int]]:
        outputs = self.geometry.input_channels
        return (outputs + self.geometry.sidechain_channels, samples), (outputs, samples)

    def _empty(self, samples: int) -> tuple[np.ndarray, np.ndarray]:
        of_input, of_output = self._shapes(samples)
        try:
            return np.empty(of_input, np.float32), np.empty(of_output, np.float32)
        except MemoryError:
            raise ShardError(
                f"{self.place}: {samples} samples of {of_input[0] + of_output[0]} channels are "
                "more than the memory holds: build a set of shorter recordings or lengths"
            ) from None

    def _require_shape(self, samples: int, *audio: np.ndarray) -> None:
        """Whoever calls has made the arrays: no user can mend them."""
        found = tuple(array.shape for array in audio)
        if found != self._shapes(samples) or any(array.dtype != np.float32 for array in audio):
            raise ValueError(f"arrays of {found} where float32 {self._shapes(samples)} is read")

    def _read(
        self, record: Record, start: int, audio_in: np.ndarray, audio_out: np.ndarray
    ) -> None:
        """A stretch of a record from `start` on, of both its members."""
        shard = self.index.shards[record.shard]
        try:
            descriptor = self.source.open(shard)
            try:
                path = self.source.path(shard)
                for field, member, out in (
                    ("input", record.input, audio_in),
                    ("output", record.output, audio_out),
                ):
                    name = member_name(record.key, field, self._format.suffix)
                    stored = Stored(self._format, self.index.block, len(out), record.samples)
                    read_stretch(descriptor, path, name, member, stored, start, out)
            finally:
                os.close(descriptor)
        except ShardError as error:
            raise self._explained(error) from None

    def _explained(self, error: ShardError) -> ShardError:
        """The fault of a shard, or that there is another set now, whose shards are others."""
        try:
            _, fingerprint = self.source.read_index()
        except ShardError:
            return error
        if fingerprint == self.fingerprint:
            return error
        return ShardError(
            f"{self.place} has been replaced by another set since it was opened: start again"
        )
