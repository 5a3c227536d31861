"""Groups of sequences from shards that are read from end to end: for sets larger than any disk.

Each epoch the shards are dealt anew to the ranks, as webdataset's `split_by_node` deals them, and
each rank mixes the sequences of its own. Nothing of a shard is kept but what waits in memory.
Exact orders are the matter of `data/loader.py`; what a shard holds, of `data/shard_stream.py`.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import webdataset
from torch import Tensor

from sptmod_dist.data.buffers import Buffers
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.loader import AHEAD, Batches, Group
from sptmod_dist.data.order import epoch_order
from sptmod_dist.data.read_ahead import ReadAhead
from sptmod_dist.data.shard_stream import ShardStream
from sptmod_dist.data.shard_turns import SHARDS_AT_ONCE, ShardsInTurns, key_of
from sptmod_dist.data.shards import ShardSet


class _Window(NamedTuple):
    """A sequence: views of its record, which stays in memory with it."""

    input: np.ndarray
    output: np.ndarray
    item: int


class StreamLoader(Batches):
    """Gives each epoch's groups, equally many on every rank, whatever their shards hold.

    A rank whose shards run out before the epoch's groups goes over them again, in another order;
    one that has more leaves some out, others each time. Memory holds, on each rank, the whole
    records of the buffer's sequences as float32 (at most `buffer` records; fewer where a record
    holds several), at most 20 records more on their way, and `AHEAD` + 3 batches.

    Args:
        shard_set: where they come from.
        batch_size: as in `Batches`; so are
        rank,
        world_size, and
        seed.
        workers: threads that read and decode, at most one a shard that is read at once; 0 reads
            when a group is asked for. The batches are the same for any number.
        buffer: sequences of this rank from which the next one is drawn.
        pin_memory: for copies to a GPU beside the computation.

    Raises:
        UserError: as `Batches`.
        ShardError: the set has fewer shards than there are processes.
    """

    def __init__(
        self,
        shard_set: ShardSet,
        batch_size: int,
        rank: int,
        world_size: int,
        seed: int,
        workers: int = 1,
        buffer: int = 256,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(shard_set, batch_size, rank, world_size, seed)
        self._rank, self._world_size = rank, world_size
        self._workers, self._buffer = workers, buffer
        self._set, self._stream = shard_set, ShardStream(shard_set)
        self._buffers = Buffers(pin_memory)
        self._check()

    @property
    def promise(self) -> str:
        """What order and what resume can be relied on: a sentence for the log."""
        return (
            f"streaming: each epoch deals the {len(self._stream.shards)} shards anew, 1/"
            f"{self._world_size} of them to each process, which mixes {SHARDS_AT_ONCE} at a time "
            f"through a buffer of {self._buffer} sequences and repeats some where it has too few; "
            f"the same seed and number of processes give the same batches again, another number "
            "gives others, and a training that is resumed within an epoch draws the rest of it "
            "anew, so that of this epoch some sequences may come twice and some not at all"
        )

    def groups(self, epoch: int, start: int = 0) -> Iterator[Group]:
        """This rank's groups of an epoch, from any of them on; nothing before is read again.

        With another `start` the shards are dealt anew: the same arguments give the same groups, but
        the groups from `start` on are not those that follow in an epoch read from its beginning.

        Args:
            epoch: from 0.
            start: the first group to give, from 0.

        Raises:
            ShardError: a shard cannot be read, or holds something else than its index says.
        """
        if start >= self.n_groups:
            return
        key = key_of(self.seed, epoch, start)
        shards = self._stream.shards
        dealt = epoch_order(len(shards), key, 0)[self._rank :: self._world_size]
        reading = ShardsInTurns(
            self._stream, [shards[place] for place in dealt], key, self._workers
        )
        groups = self._groups(reading, key, epoch, start)
        ahead = ReadAhead(groups, AHEAD, "sptmod-batches") if self._workers else None
        try:
            for _ in range(start, self.n_groups):
                yield ahead.take() if ahead else next(groups)
        finally:
            if ahead:
                ahead.stop()
            reading.close()
            if ahead:
                ahead.join()

    def _groups(
        self, reading: ShardsInTurns, key: int, epoch: int, start: int
    ) -> Generator[Group, None, None]:
        windows = self._windows(reading, key)
        for index in range(start, self.n_groups):
            yield Group(epoch, index, (), self.rows, *self._batch(windows))

    def _windows(self, reading: ShardsInTurns, key: int) -> Iterator[_Window]:
        """Sequences without end: all of the rank's shards, mixed, then all of them again."""
        hop, length = self._set.geometry.hop, self._set.geometry.sequence_length
        for number, records in enumerate(reading.passes()):
            windows = (
                _Window(audio_in[:, cut], audio_out[:, cut], record.item)
                for record, audio_in, audio_out in records
                for cut in (slice(k * hop, k * hop + length) for k in range(record.sequences))
            )
            draw = random.Random(key_of(key, self._rank, number))
            yield from webdataset.shuffle(self._buffer, initial=self._buffer, rng=draw)(windows)

    def _batch(self, windows: Iterator[_Window]) -> tuple[Tensor, Tensor, Tensor]:
        geometry, rows = self._set.geometry, len(self.rows)
        outputs, samples = geometry.input_channels, geometry.sequence_length
        inputs = outputs + geometry.sidechain_channels
        audio_in = self._buffers.empty(rows, inputs, samples)
        audio_out = self._buffers.empty(rows, outputs, samples)
        items = []
        for row, window in enumerate(islice(windows, rows)):
            audio_in[row].numpy()[:], audio_out[row].numpy()[:] = window.input, window.output
            items.append(window.item)
        return audio_in, audio_out, torch.from_numpy(self._set.item_controls[items])

    def _check(self) -> None:
        shards = len(self._stream.shards)
        if shards < self._world_size:
            raise ShardError(
                f"{self._set.place} has too few shards, {shards} for {self._world_size} processes, "
                "and a stream deals them whole: build smaller ones (data.shard_megabytes), take "
                "fewer processes, or set data.stream to false"
            )
