"""The index of a set of shards: what is in it, where its bytes lie, and what made it.

This file knows the types of an index and its file; that every number in it makes sense is the
matter of `index_checks`. It never opens a shard. The format is described in shards/README.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sptmod_dist.data.controls import Setting
from sptmod_dist.data.geometry import Geometry
from sptmod_dist.files import atomic_write

FORMAT = "sptmod-shards-2"
INDEX_NAME = "index.json"
SHARD_NAME = re.compile(r"shard-[0-9]{5,8}\.tar")
KINDS = ("sequences", "items")
FIELDS = ("input", "output", "json")
"""Of a record, each a member, in this order."""
HOW_TO_BUILD = "sptmod-dist shards build"

_CHECKSUM = '"checksum": "{}"\n}}\n'


class Shard(NamedTuple):
    """One tar file of the set."""

    name: str
    bytes: int
    sha256: str


class Item(NamedTuple):
    """One recording under one setting of the controls."""

    id: str
    settings: dict[str, Setting]
    controls: list[float]
    """The settings normalised to 0 … 1, in the order of the geometry's controls."""
    samples: int
    sequences: int
    dropped: int
    """Samples that stand in no record."""
    sha256: str
    """Of the file that the output was read from: the same recording anywhere has the same."""


class Member(NamedTuple):
    """Where a member's bytes lie in its shard, and their sums (see `checksums`)."""

    offset: int
    size: int
    crc32s: str


class Record(NamedTuple):
    """Some consecutive sequences of one item, or a whole item."""

    key: str
    shard: int
    item: int
    start: int
    samples: int
    sequences: int
    input: Member
    output: Member
    json: Member


def member_name(key: str, field: str, suffix: str) -> str:
    """The name in the tar of a record's `input`, `output` or `json`, with its format's suffix."""
    return f"{key}.json" if field == "json" else f"{key}.{field}.{suffix}"


def record_json(item: Item, start: int, samples: int) -> bytes:
    """A record's JSON member: what the arrays are, for readers without the index."""
    fields = {"item": item.id, "start": start, "samples": samples}
    return json.dumps({**fields, "settings": item.settings, "controls": item.controls}).encode()


@dataclass(frozen=True)
class Provenance:
    """What made the set. Never a path of the machine that it was made on."""

    sptmod_dist: str
    """The version of this package."""
    device: str
    manifest_sha256: str
    recordings_sha256: str
    """Of the manifest and of every audio file that it names."""
    converted_from: str = ""
    """The fingerprint of the set that this one was made of instead of recordings, or empty."""


@dataclass(frozen=True)
class Index:
    """The whole of an index.json."""

    split: str
    kind: str
    """`sequences`: records of pre-windowed sequences; `items`: records of whole items."""
    sequences_per_record: int
    """The most sequences that a record holds; 0 for whole items."""
    sample_format: str
    """A name in `FORMATS`."""
    block: int
    """Samples that one CRC-32 covers; 0 where one covers a whole member."""
    geometry: Geometry
    shards: list[Shard]
    items: list[Item]
    records: list[Record]
    provenance: Provenance

    def records_by_shard(self) -> list[list[Record]]:
        """The records of each shard, in the order of `shards`."""
        found: list[list[Record]] = [[] for _ in self.shards]
        for record in self.records:
            found[record.shard].append(record)
        return found


def write_index(path: Path, index: Index) -> None:
    """Write an index, whole or not at all; its last field is the SHA-256 of all before it."""
    fields: dict[str, Any] = {"format": FORMAT, "split": index.split, "kind": index.kind}
    fields |= {"sequences_per_record": index.sequences_per_record}
    fields |= {"sample_format": index.sample_format, "block": index.block}
    fields |= _geometry_fields(index.geometry)
    fields |= {"provenance": asdict(index.provenance)}
    fields |= {"shards": [shard._asdict() for shard in index.shards]}
    fields |= {"items": [item._asdict() for item in index.items]}
    fields |= {"records": [record._asdict() for record in index.records]}
    with atomic_write(path) as temporary:
        temporary.write_bytes(dump(fields))


def dump(fields: dict[str, Any]) -> bytes:
    """The bytes of an index.json: one line a field, one line an entry, the checksum last."""
    lines = [f"{json.dumps(key)}: {_dump_value(value)},\n" for key, value in fields.items()]
    body = "{\n" + "".join(lines)
    return (body + _CHECKSUM.format(_sha256(body.encode()))).encode()


def is_unchanged(data: bytes) -> bool:
    """Whether the checksum at the end of an index.json fits what stands before it."""
    end = max(0, len(data) - len(_CHECKSUM.format("0" * 64)))
    return data[end:] == _CHECKSUM.format(_sha256(data[:end])).encode()


def _dump_value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]"
    return json.dumps(value)


def _geometry_fields(geometry: Geometry) -> dict[str, Any]:
    return {
        "sample_rate": geometry.sample_rate,
        "input_channels": geometry.input_channels,
        "sidechain_channels": geometry.sidechain_channels,
        "controls": [control.to_dict() for control in geometry.controls],
        "lengths": list(geometry.lengths),
        "input_length": geometry.input_length,
        "hop": geometry.hop,
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
