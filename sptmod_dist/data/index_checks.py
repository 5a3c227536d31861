"""Reading an index of shards with suspicion: every field's type, range and agreement with the rest.

All that stands in an index.json is checked here, once, so that whoever reads shards can trust its
numbers. This file opens the index alone, never a shard; the records, of which there may be very
many, are the matter of `record_checks`.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sptmod_dist.data.controls import Control, Setting
from sptmod_dist.data.field_checks import (
    BadField,
    all_differ,
    each,
    fields,
    integer,
    number,
    one_of,
    text,
    unit_number,
)
from sptmod_dist.data.geometry import Geometry, ShardError
from sptmod_dist.data.record_checks import read_records
from sptmod_dist.data.recordings import SPLITS
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_index import (
    FORMAT,
    HOW_TO_BUILD,
    KINDS,
    SHARD_NAME,
    Index,
    Item,
    Provenance,
    Shard,
    is_unchanged,
)
from sptmod_dist.errors import UserError

_LARGEST_BLOCK = 2**20  # samples: it is read at once
_SHA256 = "[0-9a-f]{64}"


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
        # Without waiting for a writer, should it be a pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as f:
            if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
                raise ShardError(f"{path} is no plain file: build the set with `{HOW_TO_BUILD}`")
            data = f.read()
    except OSError as error:
        raise ShardError(
            f"{path} cannot be read ({error.strerror}): build the set with `{HOW_TO_BUILD}`"
        ) from None
    return parse_index(data, str(path))


def parse_index(data: bytes, place: str) -> tuple[Index, str]:
    """As `read_index`, from the bytes of an index.json.

    Args:
        data: all of them.
        place: where they come from, for messages.

    Raises:
        ShardError: as `read_index`.
    """
    try:
        with _without_collecting():
            return _parse(data), hashlib.sha256(data).hexdigest()
    except (BadField, UserError, ValueError, OverflowError, RecursionError) as error:
        fault = str(error).rstrip(".")
        raise ShardError(
            f"{place} is no good index ({fault}): build the set again with "
            f"`{HOW_TO_BUILD} --overwrite`"
        ) from None


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Keep the garbage collector from going through millions of objects that all stay.

    With it, a set of 125,000 records takes nearly three times as long to open.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parse(data: bytes) -> Index:
    top = json.loads(data, parse_constant=_refuse_constant)
    if not isinstance(top, dict) or "format" not in top:
        raise BadField("it states no format")
    if top["format"] != FORMAT:
        raise BadField(f"its format is {top['format']!r:.60}, this version reads {FORMAT}")
    if not is_unchanged(data):
        raise BadField("its checksum does not fit, so it has changed since it was written")
    return _index(top)


def _refuse_constant(name: str) -> None:
    raise BadField(f"it contains {name}")


def _index(top: dict[str, Any]) -> Index:
    names = "format split kind sequences_per_record sample_format block sample_rate input_channels"
    names += " sidechain_channels controls lengths input_length hop provenance shards items records"
    fields(top, (names + " checksum").split(), "the index")
    geometry = _geometry(top)
    index = Index(
        split=one_of(top["split"], SPLITS, "split"),
        kind=one_of(top["kind"], KINDS, "kind"),
        sequences_per_record=integer(top["sequences_per_record"], "sequences_per_record"),
        sample_format=one_of(top["sample_format"], FORMATS, "sample_format"),
        block=integer(top["block"], "block", 0, _LARGEST_BLOCK),
        geometry=geometry,
        shards=each(top["shards"], "shards", _shard),
        items=each(top["items"], "items", lambda value, at: _item(value, at, geometry)),
        records=[],
        provenance=_provenance(top["provenance"]),
    )
    if (index.kind == "items") != (index.sequences_per_record == 0):
        raise BadField(f"sequences_per_record is {index.sequences_per_record} for {index.kind}")
    if index.block and not FORMATS[index.sample_format].width:
        raise BadField(f"block is {index.block}, and {index.sample_format} has none")
    all_differ((control.name for control in geometry.controls), "controls")
    all_differ((shard.name for shard in index.shards), "shards")
    all_differ((item.id for item in index.items), "items")
    return dataclasses.replace(index, records=read_records(top["records"], index))


def _geometry(top: dict[str, Any]) -> Geometry:
    controls = each(top["controls"], "controls", Control.from_dict, least=0)
    geometry = Geometry(
        sample_rate=integer(top["sample_rate"], "sample_rate", 1),
        input_channels=integer(top["input_channels"], "input_channels", 1, 1024),
        sidechain_channels=integer(top["sidechain_channels"], "sidechain_channels", 0, 1024),
        controls=tuple(controls),
        lengths=tuple(each(top["lengths"], "lengths", lambda v, at: integer(v, at, 1))),
        input_length=integer(top["input_length"], "input_length", 1),
    )
    if geometry.target_start < 0:
        raise BadField("input_length is less than the first of lengths")
    if top["hop"] != geometry.hop:
        raise BadField("hop is not the sum of lengths")
    return geometry


def _provenance(value: Any) -> Provenance:
    names = [field.name for field in dataclasses.fields(Provenance)]
    fields(value, names, "provenance")
    text(value["converted_from"], "provenance.converted_from", f"({_SHA256})?")
    return Provenance(**{name: text(value[name], f"provenance.{name}") for name in names})


def _shard(value: Any, at: str) -> Shard:
    fields(value, Shard._fields, at)
    name = text(value["name"], f"{at}.name", SHARD_NAME.pattern)
    sha256 = text(value["sha256"], f"{at}.sha256", _SHA256)
    return Shard(name, integer(value["bytes"], f"{at}.bytes"), sha256)


def _setting(control: Control, value: Any, at: str) -> Setting:
    if control.scale != "list":
        return number(value, at)
    try:
        return control.setting(value)
    except UserError as error:
        raise BadField(f"{at}: {error}") from None


def _item(value: Any, at: str, geometry: Geometry) -> Item:
    fields(value, Item._fields, at)
    settings = value["settings"]
    names = [control.name for control in geometry.controls]
    fields(settings, names, f"{at}.settings")
    controls = each(value["controls"], f"{at}.controls", unit_number, least=len(names))
    if len(controls) != len(names):
        raise BadField(f"{at}.controls has {len(controls)} values for {len(names)} controls")
    item = Item(
        id=text(value["id"], f"{at}.id", r".+"),
        settings={
            control.name: _setting(control, settings[control.name], f"{at}.settings.{control.name}")
            for control in geometry.controls
        },
        controls=controls,
        samples=integer(value["samples"], f"{at}.samples", 1),
        sequences=integer(value["sequences"], f"{at}.sequences"),
        dropped=integer(value["dropped"], f"{at}.dropped"),
        sha256=text(value["sha256"], f"{at}.sha256", _SHA256),
    )
    if item.sequences > geometry.n_sequences(item.samples) or item.dropped > item.samples:
        raise BadField(f"{at} cannot hold so many sequences or drop so many samples")
    return item
