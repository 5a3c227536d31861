"""Reading an index of shards with suspicion: every field's type, range and agreement with the rest.

All that stands in an index.json is checked here, once, so that whoever reads shards can trust its
numbers. This file opens the index alone, never a shard.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sptmod_dist.data.controls import Control
from sptmod_dist.data.geometry import Geometry, ShardError
from sptmod_dist.data.recordings import SPLITS
from sptmod_dist.data.shard_index import (
    FORMAT,
    HOW_TO_BUILD,
    KINDS,
    SHARD_NAME,
    Index,
    Item,
    Member,
    Provenance,
    Record,
    Shard,
    is_unchanged,
)
from sptmod_dist.errors import UserError

_LARGEST = 2**48  # samples or bytes: far more than any recording, far less than an overflow


class _Bad(Exception):
    """What is wrong with a field, and where in the index."""


def read_index(path: Path) -> tuple[Index, str]:
    """Read and check an index.

    Returns:
        The index and its fingerprint: the SHA-256 of its bytes, which through the sums in it
        stands for the whole set.

    Raises:
        ShardError: missing, unreadable, changed since it was written, another version of the
            format, or anything in it that cannot be.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ShardError(
            f"{path} cannot be read ({error.strerror}): build the set with `{HOW_TO_BUILD}`"
        ) from None
    try:
        return _parse(data), hashlib.sha256(data).hexdigest()
    except (_Bad, UserError, ValueError, OverflowError, RecursionError) as error:
        fault = str(error).rstrip(".")
        raise ShardError(
            f"{path} is no good index ({fault}): build the set again with `{HOW_TO_BUILD}`"
        ) from None


def _parse(data: bytes) -> Index:
    fields = json.loads(data, parse_constant=_refuse_constant)
    if not isinstance(fields, dict) or "format" not in fields:
        raise _Bad("it states no format")
    if fields["format"] != FORMAT:
        raise _Bad(f"its format is {fields['format']!r:.60}, this version reads {FORMAT}")
    if not is_unchanged(data):
        raise _Bad("its checksum does not fit, so it has changed since it was written")
    return _index(fields)


def _refuse_constant(name: str) -> None:
    raise _Bad(f"it contains {name}")


def _index(fields: dict[str, Any]) -> Index:
    names = "format split kind sequences_per_record dtype sample_rate input_channels"
    names += " sidechain_channels controls lengths input_length hop provenance shards items records"
    _fields(fields, (names + " checksum").split(), "the index")
    _one_of(fields["dtype"], ("float32",), "dtype")
    geometry = _geometry(fields)
    index = Index(
        split=_one_of(fields["split"], SPLITS, "split"),
        kind=_one_of(fields["kind"], KINDS, "kind"),
        sequences_per_record=_integer(fields["sequences_per_record"], "sequences_per_record"),
        geometry=geometry,
        shards=_each(fields["shards"], "shards", _shard),
        items=_each(fields["items"], "items", lambda value, at: _item(value, at, geometry)),
        records=_each(fields["records"], "records", _record),
        provenance=_provenance(fields["provenance"]),
    )
    _agree(index)
    return index


def _geometry(fields: dict[str, Any]) -> Geometry:
    controls = _each(fields["controls"], "controls", Control.from_dict, least=0)
    geometry = Geometry(
        sample_rate=_integer(fields["sample_rate"], "sample_rate", 1),
        input_channels=_integer(fields["input_channels"], "input_channels", 1, 1024),
        sidechain_channels=_integer(fields["sidechain_channels"], "sidechain_channels", 0, 1024),
        controls=tuple(controls),
        lengths=tuple(_each(fields["lengths"], "lengths", lambda v, at: _integer(v, at, 1))),
        input_length=_integer(fields["input_length"], "input_length", 1),
    )
    if geometry.target_start < 0:
        raise _Bad("input_length is less than the first of lengths")
    if fields["hop"] != geometry.hop:
        raise _Bad("hop is not the sum of lengths")
    return geometry


def _provenance(value: Any) -> Provenance:
    names = ["sptmod_dist", "device", "manifest_sha256", "recordings_sha256"]
    _fields(value, names, "provenance")
    return Provenance(**{name: _text(value[name], f"provenance.{name}") for name in names})


def _shard(value: Any, at: str) -> Shard:
    _fields(value, Shard._fields, at)
    name = _text(value["name"], f"{at}.name", SHARD_NAME.pattern)
    sha256 = _text(value["sha256"], f"{at}.sha256", "[0-9a-f]{64}")
    return Shard(name, _integer(value["bytes"], f"{at}.bytes"), sha256)


def _item(value: Any, at: str, geometry: Geometry) -> Item:
    _fields(value, Item._fields, at)
    settings = value["settings"]
    names = [control.name for control in geometry.controls]
    _fields(settings, names, f"{at}.settings")
    controls = _each(value["controls"], f"{at}.controls", _unit_number, least=len(names))
    if len(controls) != len(names):
        raise _Bad(f"{at}.controls has {len(controls)} values for {len(names)} controls")
    item = Item(
        id=_text(value["id"], f"{at}.id", r".+"),
        settings={name: _number(settings[name], f"{at}.settings.{name}") for name in names},
        controls=controls,
        samples=_integer(value["samples"], f"{at}.samples", 1),
        sequences=_integer(value["sequences"], f"{at}.sequences"),
        dropped=_integer(value["dropped"], f"{at}.dropped"),
    )
    if item.sequences > geometry.n_sequences(item.samples) or item.dropped > item.samples:
        raise _Bad(f"{at} cannot hold so many sequences or drop so many samples")
    return item


def _record(value: Any, at: str) -> Record:
    _fields(value, Record._fields, at)
    return Record(
        key=_text(value["key"], f"{at}.key", r"[A-Za-z0-9][A-Za-z0-9_-]{0,90}"),
        shard=_integer(value["shard"], f"{at}.shard"),
        item=_integer(value["item"], f"{at}.item"),
        start=_integer(value["start"], f"{at}.start"),
        samples=_integer(value["samples"], f"{at}.samples", 1),
        sequences=_integer(value["sequences"], f"{at}.sequences", 1),
        input=_member(value["input"], f"{at}.input"),
        output=_member(value["output"], f"{at}.output"),
        json=_member(value["json"], f"{at}.json"),
    )


def _member(value: Any, at: str) -> Member:
    if not isinstance(value, list) or len(value) != 3:
        raise _Bad(f"{at} is not [offset, size, crc32]")
    return Member(
        _integer(value[0], f"{at} offset"),
        _integer(value[1], f"{at} size"),
        _integer(value[2], f"{at} crc32", 0, 2**32 - 1),
    )


def _agree(index: Index) -> None:
    """Check what the parts of an index say about each other."""
    _all_differ(index.geometry.controls, "controls", lambda control: control.name)
    _all_differ(index.shards, "shards", lambda shard: shard.name)
    _all_differ(index.items, "items", lambda item: item.id)
    _all_differ(index.records, "records", lambda record: record.key)
    found = [0] * len(index.items)
    place = (-1, -1)
    for number, record in enumerate(index.records):
        _check_record(index, record, f"records[{number}]")
        if (record.item, record.start) <= place:
            raise _Bad(f"records[{number}] is not after the one before it")
        place = (record.item, record.start)
        found[record.item] += record.sequences
    for number, item in enumerate(index.items):
        if found[number] != item.sequences:
            raise _Bad(f"items[{number}] has {found[number]} sequences instead of {item.sequences}")
    if index.kind == "items" and len(index.records) != len(index.items):
        raise _Bad("an item has no record")


def _all_differ(entries: Iterable[Any], what: str, name: Callable[[Any], str]) -> None:
    names = [name(entry) for entry in entries]
    if len(set(names)) != len(names):
        raise _Bad(f"two {what} have the same name")


def _check_record(index: Index, record: Record, at: str) -> None:
    geometry = index.geometry
    if record.shard >= len(index.shards) or record.item >= len(index.items):
        raise _Bad(f"{at} names a shard or an item that is not there")
    if record.start + record.samples > index.items[record.item].samples:
        raise _Bad(f"{at} ends after its item")
    if record.sequences != geometry.n_sequences(record.samples):
        raise _Bad(f"{at} has {record.samples} samples, which are not {record.sequences} sequences")
    if index.kind == "sequences":
        exact = geometry.target_start + record.sequences * geometry.hop
        if record.samples != exact or record.sequences > index.sequences_per_record:
            raise _Bad(f"{at} is no record of up to {index.sequences_per_record} sequences")
    elif record.start or record.samples != index.items[record.item].samples:
        raise _Bad(f"{at} is not its whole item")
    _check_members(index, record, at)


def _check_members(index: Index, record: Record, at: str) -> None:
    geometry, end = index.geometry, index.shards[record.shard].bytes
    if any(m.offset + m.size > end for m in (record.input, record.output, record.json)):
        raise _Bad(f"{at} ends after its shard")
    rows = geometry.input_channels
    sizes = (
        (record.input, (rows + geometry.sidechain_channels) * record.samples * 4),
        (record.output, rows * record.samples * 4),
        (record.json, 0),
    )
    for member, least in sizes:
        if not least < member.size < least + 2**16:  # an npy header, or a small JSON object
            raise _Bad(f"{at} has a member of {member.size} bytes, which do not hold its samples")


def _fields(value: Any, names: Any, at: str) -> None:
    if not isinstance(value, dict):
        raise _Bad(f"{at} is not an object")
    missing = [name for name in names if name not in value]
    unknown = [name for name in value if name not in names]
    if missing or unknown:
        said = f"lacks {missing[0]}" if missing else f"has an unknown {unknown[0]!r:.60}"
        raise _Bad(f"{at} {said}")


def _each(value: Any, at: str, read: Callable[[Any, str], Any], least: int = 1) -> list[Any]:
    if not isinstance(value, list) or len(value) < least:
        raise _Bad(f"{at} is not a list of at least {least}")
    return [read(entry, f"{at}[{number}]") for number, entry in enumerate(value)]


def _integer(value: Any, at: str, least: int = 0, most: int = _LARGEST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _Bad(f"{at} is {value!r:.40}, not an integer from {least} to {most}")
    return value


def _number(value: Any, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Bad(f"{at} is {value!r:.40}, not a number")
    if not math.isfinite(value):
        raise _Bad(f"{at} is not finite")
    return float(value)


def _unit_number(value: Any, at: str) -> float:
    if not 0 <= _number(value, at) <= 1:
        raise _Bad(f"{at} is not from 0 to 1")
    return float(value)


def _text(value: Any, at: str, pattern: str = r"[\s\S]*") -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise _Bad(f"{at} is {value!r:.40}, which cannot be")
    return value


def _one_of(value: Any, allowed: tuple[str, ...], at: str) -> str:
    if value not in allowed:
        raise _Bad(f"{at} is {value!r:.40}, not {' or '.join(allowed)}")
    return value
