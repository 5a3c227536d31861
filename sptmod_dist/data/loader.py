"""Groups of sequences for one rank: this rank's rows of each global batch, in the global order.

Threads read ahead, straight into the batch's memory: reading, checking and decoding let go of the
interpreter, and nothing is sent between processes. The loader must never be `prepare`d by
accelerate, which would divide again what is already divided. It knows nothing of sub-sequences or
networks; which rows are whose is decided in `data/order.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sptmod_dist.data.buffers import Buffers
from sptmod_dist.data.geometry import Geometry, ShardError
from sptmod_dist.data.order import epoch_order, n_groups, rank_rows
from sptmod_dist.data.resident import OnDevice
from sptmod_dist.data.threads import Threads

AHEAD = 2
"""Groups that are read while another is learned from."""

_Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Group:
    """One rank's share of one global batch of sequences."""

    epoch: int
    index: int
    """Its place in the epoch, from 0."""
    sequence_ids: tuple[int, ...]
    """Of the whole global batch, the same on every rank; none where no rank knows the others'."""
    rows: range
    """This rank's rows of it."""
    input: Tensor
    """[b, C + S, T]"""
    output: Tensor
    """[b, C, T]"""
    controls: Tensor
    """[b, n_params]"""


class Sequences(Protocol):
    """Where sequences come from, by number: a set of shards, or its recordings in memory."""

    @property
    def place(self) -> str:
        """What messages call it."""

    @property
    def geometry(self) -> Geometry:
        """What it was made for."""

    @property
    def n_sequences(self) -> int:
        """How many there are."""

    def prefetch(self, numbers: Iterable[int]) -> AbstractContextManager[None]:
        """While it is entered, get what these sequences need, in this order, ahead of reads."""

    def controls(self, number: int) -> np.ndarray:
        """[n_params], each 0 … 1."""

    def read_into(self, number: int, audio_in: np.ndarray, audio_out: np.ndarray) -> None:
        """Fill [C + S, T] and [C, T]; from several threads at once."""


class Batches:
    """How a set is cut into whole global batches, equally many on every rank.

    Args:
        sequences: of which there are so many.
        batch_size: B, over all processes.
        rank: of this process, from 0.
        world_size: the number of processes; it must divide B.
        seed: of the order.

    Raises:
        UserError: the processes do not divide B.
        ShardError: the set has fewer than B sequences.
    """

    def __init__(
        self,
        sequences: Sequences | OnDevice,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
    ) -> None:
        self.rows = rank_rows(batch_size, rank, world_size)
        self.batch_size, self.seed = batch_size, seed
        self.n_sequences = sequences.n_sequences
        if self.n_groups == 0:
            raise ShardError(
                f"{sequences.place} has {self.n_sequences} sequences, fewer than the batch size "
                f"of {batch_size}: lower the batch size, shorten the lengths, or record more"
            )

    @property
    def n_groups(self) -> int:
        """Groups in an epoch."""
        return n_groups(self.n_sequences, self.batch_size)

    @property
    def dropped(self) -> int:
        """Sequences that an epoch leaves out, others each time: they do not fill a batch."""
        return self.n_sequences - self.n_groups * self.batch_size


class GroupLoader(Batches):
    """Gives each epoch's groups, whole global batches only, equally many on every rank.

    Memory holds the group that was given last and `AHEAD` more, one more while one is handed over.

    Args:
        sequences: where they come from.
        batch_size: as in `Batches`; so are
        rank,
        world_size, and
        seed.
        workers: threads that read ahead; 0 reads when a group is asked for. What lies on the
            device needs none.
        pin_memory: for copies to a GPU beside the computation.

    Raises:
        UserError: as `Batches`.
    """

    def __init__(
        self,
        sequences: Sequences | OnDevice,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        workers: int = 1,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(sequences, batch_size, rank, world_size, seed)
        self._sequences = sequences
        self._buffers = Buffers(pin_memory)
        needed = workers and not isinstance(sequences, OnDevice)
        self._pool = Threads(workers, "sptmod-reader") if needed else None

    def groups(self, epoch: int, start: int = 0) -> Iterator[Group]:
        """This rank's groups of an epoch, from any of them on; what lies before is not read.

        Args:
            epoch: from 0.
            start: the first group to give, from 0.

        Raises:
            ShardError: a record cannot be read.
        """
        order = epoch_order(self.n_sequences, self.seed, epoch)
        batches = order[: self.n_groups * self.batch_size].reshape(-1, self.batch_size)
        mine = batches[start:, self.rows.start : self.rows.stop]
        for index, batch in enumerate(self._batches(mine), start):
            yield Group(epoch, index, tuple(batches[index].tolist()), self.rows, *batch)

    def _batches(self, mine: np.ndarray) -> Iterator[_Batch]:
        """The batches of these sequences, [groups, rows]."""
        batches = (tuple(row.tolist()) for row in mine)
        if isinstance(self._sequences, OnDevice):
            yield from map(self._sequences.gather, batches)
            return
        with self._sequences.prefetch(map(int, mine.flat)):
            yield from self._read(self._sequences, batches)

    def _read(
        self, sequences: Sequences, batches: Iterator[tuple[int, ...]]
    ) -> Iterator[_Batch]:
        """Batches in their order, some of them read ahead."""
        begun: deque[_Reading] = deque()
        try:
            for numbers in batches:
                begun.append(_Reading(sequences, numbers, self._buffers, self._pool))
                if self._pool is None or len(begun) > AHEAD:
                    yield begun.popleft().finish()
            while begun:
                yield begun.popleft().finish()
        finally:  # nobody wants the rest
            for reading in begun:
                reading.cancel()


class _Reading:
    """A batch that is being read, a row at a time."""

    def __init__(
        self,
        sequences: Sequences,
        numbers: tuple[int, ...],
        buffers: Buffers,
        pool: Threads | None,
    ) -> None:
        geometry, rows = sequences.geometry, len(numbers)
        outputs, samples = geometry.input_channels, geometry.sequence_length
        inputs = outputs + geometry.sidechain_channels
        self._numbers, self._sequences = numbers, sequences
        self._input = buffers.empty(rows, inputs, samples)
        self._output = buffers.empty(rows, outputs, samples)
        self._begun: list[Future[None]] = []
        if pool is not None:
            self._begun = [pool.submit(self._read, row) for row in range(rows)]

    def finish(self) -> _Batch:
        """Wait until all is read."""
        for row in range(len(self._numbers)):
            if self._begun:
                self._begun[row].result()
            else:
                self._read(row)
        controls = np.stack([self._sequences.controls(number) for number in self._numbers])
        return self._input, self._output, torch.from_numpy(controls)

    def cancel(self) -> None:
        """Read no more rows than are being read."""
        for future in self._begun:
            future.cancel()

    def _read(self, row: int) -> None:
        audio_in, audio_out = self._input[row].numpy(), self._output[row].numpy()
        self._sequences.read_into(self._numbers[row], audio_in, audio_out)
