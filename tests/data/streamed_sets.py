"""Small sets whose shards hold whatever a test wants, member by member."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from sptmod_dist.data.checksums import Stored, block_of, crc32_of, crc32s
from sptmod_dist.data.geometry import Geometry
from sptmod_dist.data.index_checks import read_index
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
from sptmod_dist.data.shards import ShardSet
from tests.data.small_sets import GEOMETRY

Members = list[tuple[str, bytes]]
"""Names and contents, in the order of a tar."""


def small_set(
    folder: Path,
    shards: list[list[int]],
    sample_format: str = "float32",
    geometry: Geometry = GEOMETRY,
) -> ShardSet:
    """Write a set of noise, each shard with records of so many sequences; one item a shard.

    Args:
        shards: for each of them, the sequences of each of its records.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = max(count for counts in shards for count in counts)
    stored = FORMATS[sample_format]
    provenance = Provenance("0", "a box of noise", "0" * 64, "0" * 64)
    block = block_of(stored, held)
    about = (held, sample_format, block, geometry)
    index = Index("train", "sequences", *about, [], [], [], provenance)
    for number, counts in enumerate(shards):
        index.items.append(_item(number, sum(counts), geometry))
        made = list(_records(index, number, counts))
        members = [member for _, named in made for member in named]
        index.shards.append(write_tar(folder / f"shard-{number:05d}.tar", members))
        places = tar_places(folder / f"shard-{number:05d}.tar")
        index.records.extend(_placed(record, stored.suffix, places) for record, _ in made)
    write_index(folder / INDEX_NAME, index)
    return ShardSet.open(folder)


def write_tar(path: Path, members: Members) -> Shard:
    """Write a shard anew."""
    path.unlink(missing_ok=True)
    file = ShardFile(path)
    for name, data in members:
        file.add(name, data)
    return file.close()


def restate(folder: Path, shard: int, entry: Shard, *records: Record) -> None:
    """Let the index say that a shard, and some records, are as they were written anew."""
    index, _ = read_index(folder / INDEX_NAME)
    shards, replaced = list(index.shards), {record.key: record for record in records}
    shards[shard] = entry
    kept = [replaced.get(record.key, record) for record in index.records]
    write_index(folder / INDEX_NAME, replace(index, shards=shards, records=kept))


def members_of(path: Path) -> Members:
    """What a shard holds."""
    with tarfile.open(path) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def _item(number: int, sequences: int, geometry: Geometry) -> Item:
    samples = geometry.target_start + sequences * geometry.hop
    ratio = 2.0 + number % 7
    settings = {control.name: ratio for control in geometry.controls}
    normalised = [control.normalise(ratio) for control in geometry.controls]
    return Item(f"item-{number}", settings, normalised, samples, sequences, 0, "0" * 64)


def _records(index: Index, number: int, counts: list[int]) -> Iterator[tuple[Record, Members]]:
    geometry, item = index.geometry, index.items[number]
    stored = FORMATS[index.sample_format]
    generator = np.random.default_rng(number)
    shape = (geometry.input_channels + geometry.sidechain_channels, item.samples)
    audio = {"input": generator.uniform(-1, 1, shape).astype(np.float32)}
    audio["output"] = generator.uniform(-1, 1, (geometry.input_channels, item.samples))
    start = 0
    for count in counts:
        samples = geometry.target_start + count * geometry.hop
        key = f"train-{number:04d}-{start:09d}"
        data = {"json": record_json(item, start, samples)}
        sums = {"json": crc32_of(data["json"])}
        for field, whole in audio.items():
            cut = whole[:, start : start + samples].astype(np.float32)
            data[field] = stored.encode(cut, geometry.sample_rate)
            sums[field] = crc32s(data[field], Stored(stored, index.block, *cut.shape))
        members = {field: Member(0, len(data[field]), sums[field]) for field in data}
        names = [(member_name(key, f, stored.suffix), data[f]) for f in ("input", "output", "json")]
        yield Record(key, number, number, start, samples, count, **members), names
        start += count * geometry.hop


def _placed(record: Record, suffix: str, places: dict[str, tuple[int, int]]) -> Record:
    """The record with its members where a reader of tar files finds them."""
    members = {
        field: Member(*places[member_name(record.key, field, suffix)], old.crc32s)
        for field, old in zip(("input", "output", "json"), record[6:], strict=True)
    }
    return record._replace(**members)
