"""Loaders that are measured: ours in every mode, and others as their documentation advises.

Each gives batches without an end, as a training would take them: float32 tensors of input
[B, 1, T], output [B, 1, T] and controls [B, 1], in random order, in the memory of this process. It
knows nothing of time.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.data_sets import import_streaming

Batch = tuple[Tensor, Tensor, Tensor]
LONG = 1_000
"""Epochs that are chained where a loader would otherwise start anew after each one."""
BUFFER = 128
"""Sequences in the shuffle buffer of whatever reads in a stream, in each worker."""


@dataclass(frozen=True)
class Source:
    """What a loader is to read, and in what portions."""

    loader: str
    """One of `LOADERS`."""
    folder: str
    samples: int
    """Of a sequence."""
    hop: int
    batch_size: int
    workers: int
    seed: int = 0

    def open(self) -> Iterator[Batch]:
        """Batches without an end."""
        return LOADERS[self.loader](self)

    def to_dict(self) -> dict[str, Any]:
        """As it travels."""
        return asdict(self)


PINNED = torch.cuda.is_available()


# Ours ------------------------------------------------------------------------------------------


def _local(source: Source) -> Iterator[Batch]:
    from sptmod_dist.data.shards import ShardSet

    return _groups(source, ShardSet.open(source.folder))


def _remote(source: Source) -> Iterator[Batch]:
    """From the cache of a set that came through a pipe, all of it before the first batch."""
    from sptmod_dist.data.remote import open_source
    from sptmod_dist.data.shards import ShardSet

    cache = Path(source.folder).with_name("cache")
    where = f"pipe:cat {shlex.quote(source.folder)}/{{}}"
    shards = ShardSet.of(open_source(where, cache, cache_gigabytes=1000.0))
    for shard in shards.index.shards:
        os.close(shards.source.open(shard))
    return _groups(source, shards)


def _resident(source: Source, where: str) -> Iterator[Batch]:
    from sptmod_dist.data.resident import InMemory, OnDevice
    from sptmod_dist.data.shards import ShardSet

    shards = ShardSet.open(source.folder)
    if where == "device":
        return _groups(source, OnDevice(shards, torch.device("cuda")))
    return _groups(source, InMemory.load(shards, source.workers))


def _stream(source: Source) -> Iterator[Batch]:
    from sptmod_dist.data.shards import ShardSet
    from sptmod_dist.data.stream import StreamLoader

    shards = ShardSet.open(source.folder)
    buffer = BUFFER * max(1, source.workers)
    how = (source.batch_size, 0, 1, source.seed, source.workers, buffer, PINNED)
    return _epochs(StreamLoader(shards, *how))


def _groups(source: Source, sequences: Any) -> Iterator[Batch]:
    from sptmod_dist.data.loader import GroupLoader

    how = (source.batch_size, 0, 1, source.seed, source.workers, PINNED)
    return _epochs(GroupLoader(sequences, *how))


def _epochs(loader: Any) -> Iterator[Batch]:
    for epoch in itertools.count():
        for group in loader.groups(epoch):
            yield group.input, group.output, group.controls


# Others ----------------------------------------------------------------------------------------


def _webdataset(source: Source) -> Iterator[Batch]:
    """Shards drawn again without an end, a buffer, batches made by the workers, as tensors."""
    import webdataset

    shards = sorted(str(path) for path in Path(source.folder).glob("*.tar"))
    dataset = (
        webdataset.WebDataset(shards, resampled=True, shardshuffle=False, seed=source.seed)
        .shuffle(BUFFER)
        .decode()
        .to_tuple("input.npy", "output.npy", "json")
        .map_tuple(torch.from_numpy, torch.from_numpy, _controls)
        .batched(source.batch_size, collation_fn=torch.utils.data.default_collate, partial=False)
    )
    loader = webdataset.WebLoader(
        dataset, batch_size=None, num_workers=source.workers, pin_memory=PINNED
    )
    yield from loader


def _controls(about: dict[str, Any]) -> Tensor:
    return torch.tensor(about["controls"], dtype=torch.float32)


def _mosaicml(source: Source) -> Iterator[Batch]:
    """Local shards in its default shuffle, told of the batch size, under torch's loader."""
    streaming = import_streaming()
    probe = json.loads((Path(source.folder) / "index.json").read_text())
    size = LONG * sum(shard["samples"] for shard in probe["shards"])
    dataset = streaming.StreamingDataset(
        local=source.folder,
        shuffle=True,
        shuffle_seed=source.seed,
        batch_size=source.batch_size,
        epoch_size=size,
    )
    for batch in _loaded(source, dataset, None):
        yield batch["input"], batch["output"], batch["controls"]


class Recordings(Dataset[tuple[np.ndarray, np.ndarray, np.ndarray]]):
    """Sequences of recordings that are mapped into memory, cut where they are asked for."""

    def __init__(self, folder: Path, samples: int, hop: int) -> None:
        # Written to nowhere: torch warns of arrays that it may not write to.
        mapped = {end: _map(folder, end) for end in ("input", "output")}
        self._input, self._output = mapped["input"], mapped["output"]
        controls = json.loads((folder / "controls.json").read_text())
        self._controls = np.array(controls, np.float32)
        self._samples, self._hop = samples, hop
        counts = [max(0, (a.shape[1] - samples) // hop + 1) for a in self._input]
        self._ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        item = bisect_right(self._ends, number)
        start = (number - (self._ends[item - 1] if item else 0)) * self._hop
        stretch = slice(start, start + self._samples)
        return (
            self._input[item][:, stretch],
            self._output[item][:, stretch],
            self._controls[item],
        )


def _map(folder: Path, end: str) -> list[np.ndarray]:
    paths = sorted(folder.glob(f"*-{end}.npy"))
    return [np.asarray(np.load(path, mmap_mode="c")) for path in paths]


def _memory_map(source: Source) -> Iterator[Batch]:
    """A map-style dataset under torch's loader, which stacks rows straight into shared memory."""
    dataset = Recordings(Path(source.folder), source.samples, source.hop)
    generator = torch.Generator().manual_seed(source.seed)
    sampler = RandomSampler(dataset, num_samples=LONG * len(dataset), generator=generator)
    yield from _loaded(source, dataset, sampler)


def _loaded(source: Source, dataset: Any, sampler: Any) -> Iterator[Any]:
    loader = DataLoader(
        dataset,
        source.batch_size,
        sampler=sampler,
        num_workers=source.workers,
        drop_last=True,
        pin_memory=PINNED,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        yield from loader


LOADERS: dict[str, Callable[[Source], Iterator[Batch]]] = {
    "local": _local,
    "remote": _remote,
    "resident_ram": lambda source: _resident(source, "ram"),
    "resident_device": lambda source: _resident(source, "device"),
    "stream": _stream,
    "webdataset": _webdataset,
    "mosaicml": _mosaicml,
    "memory_map": _memory_map,
}
