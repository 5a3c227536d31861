"""Groups of sequences for one rank: this rank's rows of each global batch, in the global order.

An ordinary map-style DataLoader that is told which rows to read; it must never be `prepare`d by
accelerate, which would divide again what is already divided. It knows nothing of sub-sequences or
networks; which rows are whose is decided in `data/order.py`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.order import epoch_order, n_groups, rank_rows
from sptmod_dist.data.shards import ShardSet

_Rows = tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """One rank's share of one global batch of sequences."""

    epoch: int
    index: int
    """Its place in the epoch, from 0."""
    sequence_ids: tuple[int, ...]
    """Of the whole global batch, the same on every rank."""
    rows: range
    """This rank's rows of it."""
    input: Tensor
    """[b, C + S, T]"""
    output: Tensor
    """[b, C, T]"""
    controls: Tensor
    """[b, n_params]"""


class GroupLoader:
    """Gives each epoch's groups, whole global batches only, equally many on every rank.

    One iteration over groups runs at a time: with workers, a new one ends the one before it.

    Args:
        shard_set: where sequences come from.
        batch_size: B, over all processes.
        rank: of this process, from 0.
        world_size: the number of processes; it must divide B.
        seed: of the order.
        workers: processes that read ahead. On a local disk 0 is the fastest for small sequences:
            sending one between processes costs more than reading it.
        pin_memory: for copies to a GPU beside the computation.

    Raises:
        UserError: the processes do not divide B.
        ShardError: the set has fewer than B sequences.
    """

    def __init__(
        self,
        shard_set: ShardSet,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.rows = rank_rows(batch_size, rank, world_size)
        self.batch_size = batch_size
        self.seed = seed
        self.n_sequences = shard_set.n_sequences
        if self.n_groups == 0:
            raise ShardError(
                f"{shard_set.folder} has {self.n_sequences} sequences, fewer than the batch size "
                f"of {batch_size}: lower the batch size, shorten the lengths, or record more"
            )
        self._running: object = None
        self._rows_to_come = _RowsToCome()
        self._batches = DataLoader(
            _RowReader(shard_set),
            batch_size=None,  # an index is a rank's rows already
            sampler=self._rows_to_come,
            collate_fn=_unchanged,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # the global one is not to be drawn from
        )

    @property
    def n_groups(self) -> int:
        """Groups in an epoch."""
        return n_groups(self.n_sequences, self.batch_size)

    @property
    def dropped(self) -> int:
        """Sequences that an epoch leaves out, others each time: they do not fill a batch."""
        return self.n_sequences - self.n_groups * self.batch_size

    def groups(self, epoch: int, start: int = 0) -> Iterator[Group]:
        """This rank's groups of an epoch, from any of them on; what lies before is not read.

        Args:
            epoch: from 0.
            start: the first group to give, from 0.

        Raises:
            ShardError: a record cannot be read, in this process or in a worker.
        """
        ids = _GlobalBatches(epoch_order(self.n_sequences, self.seed, epoch), self.batch_size)
        self._rows_to_come.plan = (ids, start, self.rows)
        self._running = ids
        for index, batch in enumerate(self._read(), start):
            yield Group(epoch, index, ids[index], self.rows, *batch)
            if self._running is not ids:
                raise RuntimeError("another iteration over this loader's groups has begun")

    def _read(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        batches = iter(self._batches)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if "worker" in str(error) and ("killed" in str(error) or "exited" in str(error)):
                    raise ShardError(
                        f"a process that reads ahead has died ({str(error).splitlines()[0]}): set "
                        "data.workers lower, or give it more memory and /dev/shm"
                    ) from error
                raise
            if isinstance(batch, str):
                raise ShardError(batch)
            yield batch


class _GlobalBatches:
    """The sequences of each global batch of an epoch."""

    def __init__(self, order: np.ndarray, batch_size: int) -> None:
        self.order = order
        self.batch_size = batch_size

    def __len__(self) -> int:
        return n_groups(len(self.order), self.batch_size)

    def __getitem__(self, index: int) -> tuple[int, ...]:
        first = index * self.batch_size
        return tuple(self.order[first : first + self.batch_size].tolist())


class _RowsToCome(Sampler[_Rows]):
    """This rank's rows of the groups to come; the loader sets the plan before each iteration."""

    plan: tuple[_GlobalBatches, int, range]

    def __iter__(self) -> Iterator[_Rows]:
        batches, start, rows = self.plan
        return (batches[g][rows.start : rows.stop] for g in range(start, len(batches)))


class _RowReader(Dataset[tuple[Tensor, Tensor, Tensor] | str]):
    """Reads a batch of sequences; a fault comes back as its sentence, to cross from a worker."""

    def __init__(self, shard_set: ShardSet) -> None:
        self.shard_set = shard_set

    def __getitem__(self, ids: _Rows) -> tuple[Tensor, Tensor, Tensor] | str:
        try:
            sequences = [self.shard_set.sequence(number) for number in ids]
        except ShardError as error:
            return str(error)
        inputs, outputs, controls = (np.stack(arrays) for arrays in zip(*sequences, strict=True))
        return torch.from_numpy(inputs), torch.from_numpy(outputs), torch.from_numpy(controls)


def _unchanged(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """Leave the signals that mean "stop soon" to the training process.

    SIGTERM keeps torch's handler: it is how Python ends workers whose loader an error keeps alive.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
