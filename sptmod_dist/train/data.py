"""The data of a training: its sets opened and compared, and whatever gives their groups.

Collective: every rank does it together with the others. Where settings say how the training set is
read, this is where they are obeyed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sptmod_dist.data.geometry import Needs, ShardError
from sptmod_dist.data.loader import Batches, GroupLoader, Sequences
from sptmod_dist.data.remote import RemoteSet, open_source
from sptmod_dist.data.resident import InMemory, OnDevice, decode, resident_samples
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.data.shared_memory import SharedMemory
from sptmod_dist.data.stream import StreamLoader
from sptmod_dist.train.config import DataConfig, TrainConfig
from sptmod_dist.train.engine import Engine

REMEDY = "sptmod-dist shards build --config CONFIG --manifest MANIFEST --out FOLDER --overwrite"


@dataclass(frozen=True)
class Data:
    """What a training learns from and is judged by."""

    loader: GroupLoader | StreamLoader
    """Gives the training groups."""
    validation: ShardSet
    """Whole items."""
    about: dict[str, Any]
    """Sample rate, controls, and the fingerprints of both sets: what a checkpoint notes."""
    notes: list[str]
    """What the user should know of how it is read, a sentence each."""


def needs_of(config: TrainConfig) -> Needs:
    """What a training's model needs of its shards."""
    model, lengths = config.model, config.lengths
    input_length = model.plan(lengths[0]).input_length
    return Needs(
        lengths, input_length, model.input_channels, model.sidechain_channels, model.n_params
    )


def open_set(config: DataConfig, where: str) -> ShardSet:
    """Open a set, wherever it is.

    Raises:
        ShardError: it cannot be reached or used.
    """
    return ShardSet.of(open_source(where, config.cache_folder, config.cache_gigabytes))


def open_data(engine: Engine, config: TrainConfig) -> Data:
    """Open the sets of a training and get its training set ready to be read.

    Raises:
        SharedError: a set is missing, faulty, of another geometry or split, shares a recording with
            another, or does not fit into memory.
    """
    train, validation = engine.together(lambda: _open_sets(config))
    loader = _open_loader(engine, config, train)
    about = {
        "sample_rate": train.geometry.sample_rate,
        "controls": [control.to_dict() for control in train.geometry.controls],
        "fingerprints": {"train": train.fingerprint, "validation": validation.fingerprint},
    }
    if config.data.stream:  # which has an order of its own
        about["stream_buffer"] = config.data.stream_buffer
    return Data(loader, validation, about, list(_notes(train, loader, config.data)))


def _open_sets(config: TrainConfig) -> tuple[ShardSet, ShardSet]:
    places = {"train": config.data.train, "validation": config.data.validation}
    if config.data.test is not None:  # for the evaluation, but the time to say so is now
        places["test"] = config.data.test
    sets = {split: open_set(config.data, where) for split, where in places.items()}
    # The training set says which controls there are and at what rate; the other sets and the
    # model's lengths must follow.
    has = sets["train"].geometry
    geometry = needs_of(config).geometry(has.sample_rate, has.controls, sets["train"].place)
    for split, shards in sets.items():
        shards.require_split(split, f"data.{split}")
        sets[split] = shards.cut_for(geometry)  # whole items serve any lengths
        sets[split].require(geometry, REMEDY)
    _require_apart(sets)
    return sets["train"], sets["validation"]


def _require_apart(sets: dict[str, ShardSet]) -> None:
    """Refuse a recording that is in two sets: what was learned must not be measured on."""
    seen: dict[str, tuple[str, str]] = {}
    for split, shards in sets.items():
        for item in shards.items:
            before, name = seen.setdefault(item.sha256, (split, item.id))
            if before != split:
                raise ShardError(
                    f"data.{before} and data.{split} hold the same recording ('{name}' and "
                    f"'{item.id}'): build all sets of one manifest, in which it has one split"
                )


def _notes(
    train: ShardSet, loader: GroupLoader | StreamLoader, data: DataConfig
) -> Iterator[str]:
    if isinstance(loader, StreamLoader):
        yield loader.promise
    elif isinstance(train.source, RemoteSet) and not (train.source.fits or data.resident):
        size = sum(shard.bytes for shard in train.index.shards)
        yield (
            f"{train.place} has {size / 1e9:.1f} GB, more than the cache may hold: an exact order "
            "needs all of it in every group, so shards will come again and again; set "
            "data.cache_gigabytes higher, or data.stream to true"
        )


def _open_loader(
    engine: Engine, config: TrainConfig, train: ShardSet
) -> GroupLoader | StreamLoader:
    data, rank = config.data, engine.rank
    how = (config.batch_size, rank, engine.world_size, config.seed)
    pinned = engine.device.type == "cuda"
    if data.stream:
        return engine.together(
            lambda: StreamLoader(train, *how, data.workers, data.stream_buffer, pinned)
        )
    engine.together(lambda: Batches(train, *how))  # known before minutes of decoding
    return GroupLoader(_sequences(engine, data, train), *how, data.workers, pinned)


def _sequences(engine: Engine, data: DataConfig, train: ShardSet) -> Sequences | OnDevice:
    if data.resident == "device":
        return engine.together(lambda: OnDevice(train, engine.device))
    return _in_memory(engine, train, data.workers) if data.resident else train


def _in_memory(engine: Engine, train: ShardSet, workers: int) -> InMemory:
    """The recordings in memory that the processes of each node share."""
    if engine.world_size == 1:
        return engine.together(lambda: InMemory.load(train, workers))
    name = engine.on_main(lambda: secrets.token_hex(8))
    size = resident_samples(train)
    held: list[SharedMemory] = []  # apart: where another rank refuses, this one's has to go too
    try:
        engine.together(
            lambda: held.append(
                SharedMemory(name, size, lambda array: decode(train, array, workers))
            )
        )
    finally:  # all have come by now: the name is of no more use
        for memory in held:
            memory.unlink()
    return InMemory(train, held[0].array)
