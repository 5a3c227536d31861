"""A training set's recordings in memory, decoded once: sequences are cut out of them by number.

The batches are bit for bit those that the shards give. Recordings stand there once, whatever
lookbacks the shards hold several times: 160 items of 96 s take 5.4 GB. It knows no ranks; memory
that a node's processes share is the matter of `shared_memory.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from sptmod_dist.data.free_memory import free_memory
from sptmod_dist.data.geometry import Geometry, ShardError
from sptmod_dist.data.shards import ShardSet


def resident_samples(shard_set: ShardSet) -> int:
    """How many numbers the recordings of a set are, over all channels; four bytes each."""
    items = range(len(shard_set.items))
    return _rows(shard_set.geometry) * sum(shard_set.covered(item) for item in items)


def decode(shard_set: ShardSet, memory: np.ndarray, workers: int) -> None:
    """Fill `memory` with the recordings, several at a time.

    Args:
        shard_set: whose.
        memory: [resident_samples(shard_set)], float32.
        workers: threads, one at least.

    Raises:
        ShardError: a record cannot be read.
    """
    outputs = shard_set.geometry.input_channels

    def fill(number: int) -> None:
        item = recordings[number]
        if item.size:
            shard_set.item_into(number, item[:-outputs], item[-outputs:])

    recordings = _recordings(shard_set, memory)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        list(pool.map(fill, range(len(recordings))))


class InMemory:
    """The recordings in this machine's memory.

    Args:
        shard_set: whose recordings they are.
        memory: [resident_samples(shard_set)], float32, as `decode` filled it.
    """

    def __init__(self, shard_set: ShardSet, memory: np.ndarray) -> None:
        self._shards = shard_set
        self._recordings = _recordings(shard_set, memory)

    @classmethod
    def load(cls, shard_set: ShardSet, workers: int) -> InMemory:
        """Decode them into memory that no other process sees.

        Raises:
            ShardError: a record cannot be read, or the memory is not there.
        """
        with _said(shard_set, free_memory(), "of memory"):
            memory = np.empty(resident_samples(shard_set), np.float32)
            decode(shard_set, memory, workers)
        return cls(shard_set, memory)

    @property
    def place(self) -> str:
        """What messages call it."""
        return self._shards.place

    @property
    def geometry(self) -> Geometry:
        """What the set was made for."""
        return self._shards.geometry

    @property
    def n_sequences(self) -> int:
        """How many sequences there are."""
        return self._shards.n_sequences

    def prefetch(self, numbers: Iterable[int]) -> AbstractContextManager[None]:
        """All is there already."""
        return nullcontext()

    def controls(self, number: int) -> np.ndarray:
        """[n_params], each 0 … 1."""
        return self._shards.controls(number)

    def read_into(self, number: int, audio_in: np.ndarray, audio_out: np.ndarray) -> None:
        """Fill [C + S, T] and [C, T]."""
        item, start = self._shards.locate(number)
        stretch = slice(start, start + self.geometry.sequence_length)
        outputs = self.geometry.input_channels
        audio_in[...] = self._recordings[item][:-outputs, stretch]
        audio_out[...] = self._recordings[item][-outputs:, stretch]


class OnDevice:
    """The recordings in a device's memory, from where whole batches are gathered.

    Args:
        shard_set: whose recordings they are.
        device: such as this rank's GPU.

    Raises:
        ShardError: a record cannot be read, or the device has not the memory.
    """

    def __init__(self, shard_set: ShardSet, device: torch.device) -> None:
        self._shards, self._device = shard_set, device
        free, where = free_memory(), "of memory"
        if device.type == "cuda":
            free, where = torch.cuda.mem_get_info(device)[0], "on the GPU"
        with _said(shard_set, free, where):
            self._recordings = [self._load(item) for item in range(len(shard_set.items))]
        self._controls = torch.tensor(shard_set.item_controls, device=device)

    @property
    def place(self) -> str:
        """What messages call it."""
        return self._shards.place

    @property
    def n_sequences(self) -> int:
        """How many sequences there are."""
        return self._shards.n_sequences

    def gather(self, numbers: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of these sequences: input [b, C + S, T], output [b, C, T], controls."""
        geometry = self._shards.geometry
        outputs, length = geometry.input_channels, geometry.sequence_length
        places = [self._shards.locate(number) for number in numbers]
        rows = [self._recordings[item][:, start : start + length] for item, start in places]
        audio_in = torch.stack([row[:-outputs] for row in rows])
        audio_out = torch.stack([row[-outputs:] for row in rows])
        items = torch.tensor([item for item, _ in places]).to(self._device, non_blocking=True)
        return audio_in, audio_out, self._controls[items]

    def _load(self, item: int) -> Tensor:
        """One recording, [C + S + C, samples]: the host holds no more than one at a time."""
        outputs = self._shards.geometry.input_channels
        recording = np.empty(
            (_rows(self._shards.geometry), self._shards.covered(item)), np.float32
        )
        if recording.size:
            self._shards.item_into(item, recording[:-outputs], recording[-outputs:])
        return torch.from_numpy(recording).to(self._device)


def _rows(geometry: Geometry) -> int:
    return 2 * geometry.input_channels + geometry.sidechain_channels


def _recordings(shard_set: ShardSet, memory: np.ndarray) -> list[np.ndarray]:
    """Each item's recording, [C + S + C, samples covered], as a view of the memory."""
    rows = _rows(shard_set.geometry)
    covered = [shard_set.covered(item) for item in range(len(shard_set.items))]
    ends = accumulate(rows * samples for samples in covered)
    return [
        memory[end - rows * samples : end].reshape(rows, samples)
        for end, samples in zip(ends, covered, strict=True)
    ]


@contextmanager
def _said(shard_set: ShardSet, free: int, where: str) -> Iterator[None]:
    """Say that memory is not there: before anything is read, where the system tells."""
    size = 4 * resident_samples(shard_set)
    try:
        if size > free:
            raise MemoryError
        yield
    except (MemoryError, torch.cuda.OutOfMemoryError):  # or a limit of which it does not tell
        raise ShardError(
            f"the recordings of {shard_set.place} take {size / 1e9:.2f} GB, which are not to be "
            f"had ({free / 1e9:.2f} GB {where} are free, but for limits of this process): set "
            "data.resident to null, which reads them from the shards"
        ) from None
