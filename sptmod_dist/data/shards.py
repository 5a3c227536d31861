"""Reading a set of shards: any sequence or item by its number, checked at every read.

A set is a folder with an index.json and tar files, written by `shard_build`. A read goes straight
to the bytes that the index names: nothing else in a tar is ever looked at, and nothing is ever
unpickled. It must not know of models, batches or ranks.
"""

from __future__ import annotations

import json
import os
import tarfile
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sptmod_dist.data.geometry import Geometry, ShardError
from sptmod_dist.data.index_checks import read_index
from sptmod_dist.data.shard_file import (
    check_shard,
    file_sha256,
    open_shard,
    read_array,
    read_member,
    tar_places,
)
from sptmod_dist.data.shard_index import (
    HOW_TO_BUILD,
    INDEX_NAME,
    Index,
    Item,
    Record,
    Shard,
    member_name,
)
from sptmod_dist.data.shard_writer import record_json


class Sequence(NamedTuple):
    """Audio of the device and the controls it was recorded under; full scale ±1, float32."""

    input: np.ndarray
    """[C + S, T], the sidechain after the audio."""
    output: np.ndarray
    """[C, T]"""
    controls: np.ndarray
    """[n_params], each 0 … 1."""


class ShardSet:
    """An opened set. It holds no open file, so it can be sent to worker processes as it is.

    Args:
        folder: of the set.
        index: what is in it.
        fingerprint: the SHA-256 of the index file; it stands for the content of the whole set.
    """

    def __init__(self, folder: Path, index: Index, fingerprint: str) -> None:
        self.folder = folder
        self.index = index
        self.fingerprint = fingerprint
        self._ends = list(accumulate(record.sequences for record in index.records))
        self._last: tuple[int, Sequence] | None = None

    @classmethod
    def open(cls, folder: str | Path) -> ShardSet:
        """Open a set: read its index, check that every shard is there and of the right size.

        Raises:
            ShardError: it is missing, unfinished, damaged or of another version.
        """
        folder = Path(folder)
        index, fingerprint = _read(folder)
        for shard in index.shards:
            check_shard(folder / shard.name, shard)
        return cls(folder, index, fingerprint)

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
            key: the setting that names this folder.

        Raises:
            ShardError: naming the setting, the folder and what it holds.
        """
        if self.index.split != split:
            raise ShardError(
                f"{key} is {self.folder}, a {self.index.split} set: give a {split} set"
            )

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
                f"{self.folder} was made for something else ({'; '.join(differences)}): "
                f"build the right set with `{how_to_build}`"
            )

    def sequence(self, number: int) -> Sequence:
        """One sequence, `geometry.sequence_length` samples long.

        Sequences are numbered item by item, in the order of time.

        Raises:
            ShardError: the bytes cannot be read or have changed.
        """
        if not 0 <= number < self.n_sequences:
            raise IndexError(f"sequence {number} of {self.n_sequences}")
        place = bisect_right(self._ends, number)
        record = self.index.records[place]
        if record.sequences == 1 and record.samples == self.geometry.sequence_length:
            return self._read(record)
        first = self._ends[place] - record.sequences
        start = (number - first) * self.geometry.hop
        return self._cut(self._remembered(place), start)

    def item(self, number: int) -> Sequence:
        """One whole recording, in a set of items.

        Raises:
            ShardError: the set holds only pieces, or the bytes cannot be read or have changed.
        """
        if self.index.kind != "items":
            raise ShardError(
                f"{self.folder} holds sequences, no whole recordings: give a validation or test set"
            )
        return self._read(self.index.records[number])

    def _remembered(self, place: int) -> Sequence:
        """A record of several sequences, kept until another is asked for."""
        if self._last is None or self._last[0] != place:
            self._last = (place, self._read(self.index.records[place]))
        return self._last[1]

    def _cut(self, whole: Sequence, start: int) -> Sequence:
        stretch = slice(start, start + self.geometry.sequence_length)
        return Sequence(
            whole.input[:, stretch].copy(), whole.output[:, stretch].copy(), whole.controls.copy()
        )

    def _read(self, record: Record) -> Sequence:
        shard = self.index.shards[record.shard]
        path = self.folder / shard.name
        outputs = self.geometry.input_channels
        inputs = outputs + self.geometry.sidechain_channels
        descriptor = open_shard(self.folder, shard)
        try:
            names = [member_name(record.key, field) for field in ("input", "output")]
            shape = (inputs, record.samples)
            audio_in = read_array(descriptor, path, names[0], record.input, shape)
            shape = (outputs, record.samples)
            audio_out = read_array(descriptor, path, names[1], record.output, shape)
        finally:
            os.close(descriptor)
        controls = np.array(self.items[record.item].controls, dtype=np.float32)
        return Sequence(audio_in, audio_out, controls)


def verify(folder: str | Path) -> list[str]:
    """Every fault of a set, each in a sentence; an empty list for a good one.

    Reads all of it: sizes, SHA-256 sums, the tar's members against the index, every record.
    """
    folder = Path(folder)
    try:
        index, fingerprint = _read(folder)
    except ShardError as error:
        return [str(error)]
    shard_set = ShardSet(folder, index, fingerprint)
    faults: list[str] = []
    for number, shard in enumerate(index.shards):
        try:
            check_shard(folder / shard.name, shard)
        except ShardError as error:
            faults.append(str(error))
            continue
        records = [record for record in index.records if record.shard == number]
        faults += _shard_faults(folder / shard.name, shard, records)
        faults += (fault for record in records for fault in _record_faults(shard_set, record))
    return faults


def describe(folder: str | Path) -> str:
    """A table of what a set holds and what it was made for."""
    shard_set = ShardSet.open(folder)
    index, geometry = shard_set.index, shard_set.geometry
    samples = sum(item.samples for item in index.items)
    dropped = sum(item.dropped for item in index.items)
    rows = [
        ("split", f"{index.split} ({index.kind})"),
        ("made of", index.provenance.device),
        ("made by", f"sptmod-dist {index.provenance.sptmod_dist}"),
        ("items", f"{len(index.items)}, {samples / geometry.sample_rate / 60:.1f} minutes"),
        ("sequences", f"{shard_set.n_sequences} of {geometry.sequence_length} samples"),
        ("dropped", f"{dropped / geometry.sample_rate:.1f} s"),
        ("shards", f"{len(index.shards)}, {sum(s.bytes for s in index.shards) / 1e6:.1f} MB"),
        ("fingerprint", shard_set.fingerprint),
        *geometry.in_words(),
    ]
    return "\n".join(f"{name:<19} {value}" for name, value in rows)


def _read(folder: Path) -> tuple[Index, str]:
    if not folder.is_dir():
        raise ShardError(
            f"{folder} is no folder with shards (looked in {folder.absolute().parent}): build it "
            f"with `{HOW_TO_BUILD}`"
        )
    inside = [path.parent.name for path in sorted(folder.glob(f"*/{INDEX_NAME}"))]
    if inside and not (folder / INDEX_NAME).exists():
        raise ShardError(
            f"{folder} holds the sets {', '.join(inside)}: name one, such as {folder / inside[0]}"
        )
    return read_index(folder / INDEX_NAME)


def _shard_faults(path: Path, shard: Shard, records: list[Record]) -> Iterator[str]:
    if file_sha256(path) != shard.sha256:
        yield f"{path} has changed bytes (its SHA-256 differs): copy the set again"
    try:
        found = tar_places(path)
    except (tarfile.TarError, ValueError, OSError) as error:
        yield f"{path} is no readable tar file ({error}): copy the set again"
        return
    named = {
        member_name(record.key, field): (member.offset, member.size)
        for record in records
        for field, member in zip(("input", "output", "json"), record[6:], strict=True)
    }
    for name in sorted(named.keys() | found.keys()):
        if named.get(name) != found.get(name):
            yield f"{path}: {name!r:.200} is not where the index has it: build the set again"


def _record_faults(shard_set: ShardSet, record: Record) -> Iterator[str]:
    path = shard_set.folder / shard_set.index.shards[record.shard].name
    try:
        audio = shard_set._read(record)
        if not (np.isfinite(audio.input).all() and np.isfinite(audio.output).all()):
            yield f"{path}: {record.key} holds samples that are not finite: build the set again"
        name = member_name(record.key, "json")
        with open(path, "rb") as file:
            data = read_member(file.fileno(), path, name, record.json)
        item = shard_set.items[record.item]
        if json.loads(data) != json.loads(record_json(item, record.start, record.samples)):
            yield f"{path}: {name} says something else than the index: build the set again"
    except (ShardError, ValueError) as error:
        yield str(error)
