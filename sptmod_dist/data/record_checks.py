"""The records of an index, checked by the column: a set may have hundreds of thousands of them.

A column is looked at as a whole, and entry by entry only where something is wrong with it, to say
with which. What a record means is described in shards/README.md.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sptmod_dist.data.checksums import DIGITS
from sptmod_dist.data.field_checks import (
    LARGEST,
    BadField,
    a_list,
    all_differ,
    fields,
    integer,
    text,
)
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_index import Index, Member, Record

_KEY = r"[A-Za-z0-9][A-Za-z0-9_-]{0,90}"
_SUMS = f"([0-9a-f]{{{DIGITS}}})+"
_SPARE = 2**16  # bytes: an npy header, a small JSON object, what FLAC adds to noise
_FLAC_MOST = 2**12  # samples that a byte of FLAC stands for at most, in silence
_NUMBERS = ("shard", "item", "start", "samples", "sequences")
_MEMBERS = ("input", "output", "json")


class _Members(NamedTuple):
    """A column of members, and their numbers."""

    members: list[Member]
    offsets: np.ndarray
    sizes: np.ndarray
    sums: np.ndarray
    """How many."""


def read_records(value: Any, index: Index) -> list[Record]:
    """The records of an index, of which everything else is known and checked.

    Raises:
        BadField: anything in them that cannot be.
    """
    entries = a_list(value, "records")
    names = set(Record._fields)
    if not all(type(entry) is dict and entry.keys() == names for entry in entries):
        for number, entry in enumerate(entries):
            fields(entry, Record._fields, f"records[{number}]")
    keys = _keys(entries)
    numbers = {name: _integers(entries, name) for name in _NUMBERS}
    members = {field: _members(entries, field) for field in _MEMBERS}
    _check_places(index, **numbers)
    for field, column in members.items():
        _check_members(index, field, column, numbers["shard"], numbers["samples"])
    _check_items(index, **numbers)
    columns: list[list[Any]] = [keys, *(column.tolist() for column in numbers.values())]
    columns += [column.members for column in members.values()]
    return list(map(partial(tuple.__new__, Record), zip(*columns, strict=True)))


def _keys(entries: list[Any]) -> list[str]:
    keys = [entry["key"] for entry in entries]
    fits = re.compile(_KEY).fullmatch
    if not (set(map(type, keys)) == {str} and all(map(fits, keys))):
        for number, key in enumerate(keys):
            text(key, f"records[{number}].key", _KEY)
    all_differ(keys, "records")
    return keys


def _integers(entries: list[Any], name: str) -> np.ndarray:
    least = 1 if name in ("samples", "sequences") else 0
    values = [entry[name] for entry in entries]
    if not _are_integers(values, least):
        for number, value in enumerate(values):
            integer(value, f"records[{number}].{name}", least)
    return np.array(values, np.int64)


def _are_integers(values: Any, least: int = 0) -> bool:
    return set(map(type, values)) == {int} and least <= min(values) and max(values) <= LARGEST


def _members(entries: list[Any], field: str) -> _Members:
    values = [entry[field] for entry in entries]
    if set(map(type, values)) != {list} or set(map(len, values)) != {3}:
        _check_each(values, field)
    offsets, sizes, sums = ([value[k] for value in values] for k in range(3))
    if not (_are_integers(offsets) and _are_integers(sizes) and _are_sums(sums)):
        _check_each(values, field)
    return _Members(
        list(map(partial(tuple.__new__, Member), values)),  # as _make, in a third of its time
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
        np.fromiter(map(len, sums), np.int64, len(sums)) // DIGITS,
    )


def _are_sums(sums: list[Any]) -> bool:
    if set(map(type, sums)) != {str}:
        return False
    whole = all(length and length % DIGITS == 0 for length in set(map(len, sums)))
    return whole and re.fullmatch("[0-9a-f]*", "".join(sums)) is not None


def _check_each(values: list[Any], field: str) -> None:
    for number, value in enumerate(values):
        _member(value, f"records[{number}].{field}")


def _member(value: Any, at: str) -> None:
    if not isinstance(value, list) or len(value) != 3:
        raise BadField(f"{at} is not [offset, size, crc32s]")
    integer(value[0], f"{at} offset")
    integer(value[1], f"{at} size")
    text(value[2], f"{at} crc32s", _SUMS)


def _refuse(bad: np.ndarray, what: str, *columns: np.ndarray) -> None:
    """Name the first record of which something is true that cannot be."""
    if bad.any():
        number = int(np.argmax(bad))
        values = [column[number] for column in columns]
        raise BadField(f"records[{number}] {what.format(*values)}")


def _check_places(
    index: Index,
    shard: np.ndarray,
    item: np.ndarray,
    start: np.ndarray,
    samples: np.ndarray,
    sequences: np.ndarray,
) -> None:
    """Each record's place in its item, and what it holds of it."""
    geometry = index.geometry
    outside = (shard >= len(index.shards)) | (item >= len(index.items))
    _refuse(outside, "names a shard or an item that is not there")
    of_item = np.array([item.samples for item in index.items], np.int64)[item]
    _refuse(start + samples > of_item, "ends after its item")
    held = (samples - geometry.target_start) // geometry.hop
    what = "has {} samples, which are not {} sequences"
    _refuse(sequences != held, what, samples, sequences)
    if index.kind == "sequences":
        most = index.sequences_per_record
        exact = geometry.target_start + sequences * geometry.hop
        what = f"is no record of up to {most} sequences"
        _refuse((samples != exact) | (sequences > most), what)
    else:
        _refuse((start != 0) | (samples != of_item), "is not its whole item")


def _check_members(
    index: Index, field: str, column: _Members, shard: np.ndarray, samples: np.ndarray
) -> None:
    """That the members lie in their shards and can hold what the index says."""
    _, offsets, sizes, sums = column
    ends = np.array([shard.bytes for shard in index.shards], np.int64)[shard]
    _refuse(offsets + sizes > ends, "ends after its shard")
    least, most, expected = _bounds(index, field, samples)
    bad = (sizes <= least) | (sizes >= most + _SPARE)
    _refuse(bad, "has a member of {} bytes, which do not hold its samples", sizes)
    what = f"has {{}} sums of its {field}, which do not cover its samples"
    _refuse(sums != expected, what, sums)


def _bounds(
    index: Index, field: str, samples: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least bytes of a member, the most but for headers, and how many sums it has."""
    none, one = np.zeros_like(samples), np.ones_like(samples)
    if field == "json":
        return none, none, one
    geometry, width = index.geometry, FORMATS[index.sample_format].width
    rows = geometry.input_channels + (field == "input") * geometry.sidechain_channels
    numbers = rows * samples
    if not width:
        return numbers // _FLAC_MOST, 4 * numbers, one
    sums = rows * -(-samples // index.block) if index.block else one
    return width * numbers, width * numbers, sums


def _check_items(
    index: Index,
    shard: np.ndarray,
    item: np.ndarray,
    start: np.ndarray,
    samples: np.ndarray,
    sequences: np.ndarray,
) -> None:
    """That the records of an item follow each other and are all that the item has."""
    same = item[1:] == item[:-1]
    after = (item[1:] > item[:-1]) | (same & (start[1:] > start[:-1]))
    _refuse(np.append(False, ~after), "is not after the one before it")
    found = np.bincount(item, sequences, len(index.items)).astype(np.int64)
    covered = np.zeros(len(index.items), np.int64)
    covered[item] = start + samples  # an item's last record is the last to say
    for number, (has, count, end) in enumerate(zip(index.items, found, covered, strict=True)):
        if count != has.sequences:
            raise BadField(f"items[{number}] has {count} sequences instead of {has.sequences}")
        if has.dropped != has.samples - end:
            raise BadField(f"items[{number}] drops {has.samples - end} samples, not {has.dropped}")
    if index.kind == "items" and len(item) != len(index.items):
        raise BadField("an item has no record")
    if index.kind == "sequences":
        end = (start + sequences * index.geometry.hop)[:-1]
        begins = np.append(0, np.where(same, end, 0))
        _refuse(start != begins, "does not go on where the one before it ends")
