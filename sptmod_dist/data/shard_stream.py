"""A shard read once from its first byte to its last, as it comes from a disk or a network.

webdataset's iterators take the tar apart and put members together to records; each member is
checked against the index before anything is made of it. webdataset's openers and decoders are never
used: they would run commands and pickles. It knows nothing of orders, batches or ranks.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from webdataset.tariterators import group_by_keys, tar_file_expander

from sptmod_dist.data.checksums import Stored, crc32s
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.sample_formats import FORMATS, PlainFormat
from sptmod_dist.data.shard_file import faulty
from sptmod_dist.data.shard_index import FIELDS, Member, Record, Shard, member_name
from sptmod_dist.data.shards import ShardSet

_MAGIC = slice(257, 262)  # of a plain tar
_PORTION = 1 << 16  # bytes that are asked for at once; tarfile asks for few


class Recorded(NamedTuple):
    """A record and its audio, full scale ±1, not to be written to."""

    record: Record
    input: np.ndarray
    """[C + S, samples]"""
    output: np.ndarray
    """[C, samples]"""


class ShardStream:
    """Reads shards of a set from end to end, in any number of threads at once.

    Args:
        shard_set: its source gives the bytes, its index says what they must be.
    """

    def __init__(self, shard_set: ShardSet) -> None:
        self._index, self._source = shard_set.index, shard_set.source
        self._format = FORMATS[self._index.sample_format]
        outputs = shard_set.geometry.input_channels
        self._rows = (outputs + shard_set.geometry.sidechain_channels, outputs)
        self._records = self._index.records_by_shard()

    @property
    def shards(self) -> list[int]:
        """The shards that hold sequences, by their places in the index."""
        return [shard for shard, records in enumerate(self._records) if records]

    def records(self, shard: int) -> Generator[Recorded, None, None]:
        """The records of a shard, in the order of its bytes.

        Memory holds the record that was given last, and the next. Members are checked as they come:
        records before a fault have been given by then. What webdataset passes over is not looked
        at: folders, links, names such as `__x__/y`, and all that stands after the tar's end.

        Raises:
            ShardError: the bytes cannot be had, end early or are no tar; or the tar's files are not
                those members that the index names, each once, a record's together.
        """
        entry = self._index.shards[shard]
        path = f"{self._source.place}/{entry.name}"  # where it comes from, cached or not
        with closing(self._source.stream(entry)) as stream:
            members = self._checked(_members(_Body(stream, path, entry), path), shard, path)
            for sample in group_by_keys(members):
                yield self._recorded(sample, path)

    def _checked(
        self, members: Iterator[dict[str, Any]], shard: int, path: str
    ) -> Iterator[dict[str, Any]]:
        """Members as they come; then none unknown, doubled or changed is let through."""
        expected = dict(self._expected(shard))
        seen = set()
        for found in members:
            if found:  # else it is the mark of the tar's end
                name = found["fname"]
                if name not in expected:
                    fault = "twice" if name in seen else "of which the index does not know"
                    raise faulty(path, f"holds {name!r:.200} {fault}")
                seen.add(name)
                found["data"] = self._content(found["data"], name, *expected.pop(name), path)
            yield found
        if expected:
            raise faulty(path, f"lacks {next(iter(expected))}")

    def _expected(self, shard: int) -> Iterator[tuple[str, tuple[Record, str]]]:
        suffix = self._format.suffix
        for record in self._records[shard]:
            for field in FIELDS:
                yield member_name(record.key, field, suffix), (record, field)

    def _content(
        self, data: bytes, name: str, record: Record, field: str, path: str
    ) -> Record | np.ndarray:
        """What the bytes of a member mean: audio; the JSON says no more than the index."""
        member: Member = getattr(record, field)
        if len(data) != member.size:
            fault = f"holds {len(data)} bytes of {name} instead of {member.size}"
            raise faulty(path, fault)
        rows = self._rows[field == "output"]
        block = 0 if field == "json" else self._index.block
        if crc32s(data, Stored(self._format, block, rows, record.samples)) != member.crc32s:
            raise faulty(path, f"has changed bytes in {name} (its CRC-32 differs)")
        if field == "json":
            return record
        try:
            return self._audio(data, rows, record.samples)
        except ValueError as error:
            raise faulty(path, f"has no usable samples in {name} ({error})") from None

    def _audio(self, data: bytes, rows: int, samples: int) -> np.ndarray:
        stored = self._format
        if not isinstance(stored, PlainFormat) or not stored.is_memory:
            return stored.decode(data, rows, samples)
        start = len(data) - rows * samples * stored.width
        stored.check_header(data[:start], rows, samples)
        return np.frombuffer(data, np.float32, offset=start).reshape(rows, samples)

    def _recorded(self, sample: dict[str, Any], path: str) -> Recorded:
        key, suffix = sample["__key__"], self._format.suffix
        parts = [f"input.{suffix}", f"output.{suffix}", "json"]
        for part in parts:
            if part not in sample:
                raise faulty(path, f"lacks {key}.{part} beside the others of its record")
        audio_in, audio_out, record = (sample[part] for part in parts)
        return Recorded(record, audio_in, audio_out)


def _members(body: _Body, path: str) -> Iterator[dict[str, Any]]:
    """Name and bytes of each plain file of a tar, and an empty one for its end."""
    try:
        yield from tar_file_expander([{"url": path, "stream": body}])
    except Exception as error:  # tarfile lets its parsers' errors of many kinds out
        fault = f"is no readable tar file ({type(error).__name__})"
        raise body.fault or faulty(path, fault) from None


class _Body:
    """The bytes of a shard as tarfile reads them: no more than the index says, and no fewer.

    Attributes:
        fault: a copy of what was raised here, since webdataset adds to the words of errors.
    """

    def __init__(self, stream: BinaryIO, path: str, shard: Shard) -> None:
        self.fault: ShardError | None = None
        self._stream, self._path, self._shard = stream, path, shard
        self._come = 0  # bytes
        self._ready = memoryview(b"")  # of them, those that nobody has read

    def read(self, size: int) -> bytes:
        """The next bytes: as many as are asked for, fewer only at the end."""
        try:
            return self._read(min(size, self._shard.bytes - self._come + len(self._ready)))
        except ShardError as error:
            self.fault = ShardError(*error.args)
            raise

    def _read(self, size: int) -> bytes:
        begins, portions = self._come == 0, []
        while size > 0:
            self._ready = self._ready or memoryview(self._portion())
            portions.append(self._ready[:size])
            self._ready = self._ready[size:]
            size -= len(portions[-1])
        data = b"".join(portions)
        if begins and data[_MAGIC] != b"ustar":  # what is compressed might have no end
            raise faulty(self._path, "is no plain tar file")
        return data

    def _portion(self) -> bytes:
        try:
            data = self._stream.read(min(_PORTION, self._shard.bytes - self._come))
        except OSError as error:
            raise faulty(self._path, f"cannot be read ({error.strerror or error})") from None
        if not data:
            fault = f"is truncated, {self._come} bytes instead of {self._shard.bytes}"
            raise faulty(self._path, fault)
        self._come += len(data)
        return data
