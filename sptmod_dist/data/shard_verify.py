"""Verifying a set: reads all of it and reports every fault, not only the first.

It looks at what reading does not: SHA-256 sums, everything that a tar holds, the records' JSON,
samples that are not finite.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np

from sptmod_dist.data.checksums import Stored, crc32s
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.members import changed, read_bytes, read_member
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_file import faulty, sha256_of, tar_members
from sptmod_dist.data.shard_index import (
    FIELDS,
    Index,
    Member,
    Record,
    Shard,
    member_name,
    record_json,
)
from sptmod_dist.data.sources import LocalFolder, Source


def verify(where: str | Path | Source) -> list[str]:
    """Every fault of a set, each in a sentence; an empty list for a good one.

    Several shards are read at once, each a member at a time.

    Args:
        where: a folder, or the source of a set.
    """
    source = LocalFolder(where) if isinstance(where, (str, Path)) else where
    try:
        index, _ = source.read_index()
    except ShardError as error:
        return [str(error)]
    records = index.records_by_shard()

    def faults_of(number: int) -> list[str]:
        shard = index.shards[number]
        try:
            with os.fdopen(source.open(shard), "rb") as file:
                checks = _ShardChecks(index, shard, source.path(shard), file)
                return list(checks.faults(records[number]))
        except ShardError as error:
            return [str(error)]
        except OSError as error:
            return [str(faulty(source.path(shard), f"cannot be read ({error.strerror})"))]

    with ThreadPoolExecutor() as pool:  # sums and reads let go of the interpreter
        return [fault for found in pool.map(faults_of, range(len(index.shards))) for fault in found]


class _ShardChecks:
    """What is wrong with one shard."""

    def __init__(self, index: Index, shard: Shard, path: Path | str, file: BinaryIO) -> None:
        self._index, self._shard, self._path, self._file = index, shard, path, file
        self._format = FORMATS[index.sample_format]

    def faults(self, records: list[Record]) -> Iterator[str]:
        if sha256_of(self._file) != self._shard.sha256:
            yield f"{self._path} has changed bytes (its SHA-256 differs): copy the set again"
        yield from self._tar_faults(records)
        for record in records:
            yield from self._json_faults(record)
            yield from self._audio_faults(record, "input", record.input)
            yield from self._audio_faults(record, "output", record.output)

    def _tar_faults(self, records: list[Record]) -> Iterator[str]:
        """A tar holds the members of the index, where it has them, and nothing else."""
        try:
            members = tar_members(self._file)
        except (tarfile.TarError, ValueError, OSError) as error:
            yield f"{self._path} is no readable tar file ({error}): copy the set again"
            return
        found = {info.name: (info.offset_data, info.size) for info in members if info.isreg()}
        named = {
            self._name(record, field): (member.offset, member.size)
            for record in records
            for field, member in zip(FIELDS, record[6:], strict=True)
        }
        for name in sorted(named.keys() | found.keys()):
            if named.get(name) != found.get(name):
                yield self._mismatch(name, "is not where the index has it")
        for name, times in sorted(Counter(info.name for info in members).items()):
            if times > 1:
                yield self._mismatch(name, f"is there {times} times")
        for info in members:
            if not info.isreg():
                yield self._mismatch(info.name, "is no plain file")

    def _json_faults(self, record: Record) -> Iterator[str]:
        name = self._name(record, "json")
        item = self._index.items[record.item]
        try:
            data = read_member(self._file.fileno(), self._path, name, record.json)
            if json.loads(data) != json.loads(record_json(item, record.start, record.samples)):
                yield self._mismatch(name, "says something else than the index")
        except ShardError as error:
            yield str(error)
        except (ValueError, RecursionError):
            yield self._mismatch(name, "is no JSON")

    def _audio_faults(self, record: Record, field: str, member: Member) -> Iterator[str]:
        geometry, name = self._index.geometry, self._name(record, field)
        rows = geometry.input_channels + (field == "input") * geometry.sidechain_channels
        stored = Stored(self._format, self._index.block, rows, record.samples)
        try:
            data = read_bytes(self._file.fileno(), self._path, name, member)
            if crc32s(data, stored) != member.crc32s:
                raise changed(self._path, name)
            if not np.isfinite(self._format.decode(data, rows, record.samples)).all():
                yield self._mismatch(name, "holds samples that are not finite")
        except ShardError as error:
            yield str(error)
        except ValueError as error:
            yield str(faulty(self._path, f"has no usable samples in {name} ({error})"))

    def _name(self, record: Record, field: str) -> str:
        return member_name(record.key, field, self._format.suffix)

    def _mismatch(self, name: str, fault: str) -> str:
        return f"{self._path}: {name!r:.200} {fault}: build the set again"
