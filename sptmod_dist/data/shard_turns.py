"""The shards of one rank, read some at a time, a record of each in turns, over and over.

What comes is the same for any number of threads, since each keeps to the turns of its own lanes. It
knows nothing of sequences or batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import count

from sptmod_dist.data.order import epoch_order
from sptmod_dist.data.read_ahead import ReadAhead
from sptmod_dist.data.shard_stream import Recorded, ShardStream

SHARDS_AT_ONCE = 4
"""Shards that a rank reads at once, each in a *lane*; their sequences meet in the buffer."""
_READY = 2  # records that wait for their turn, a lane


class ShardsInTurns:
    """Reads the shards of one rank, some of them at once, over and over.

    What comes is a pure function of shards and key, whatever the number of threads.

    Args:
        shards: places in the index.
        key: of their order.
        workers: threads; 0 reads in the thread that asks.
    """

    def __init__(self, stream: ShardStream, shards: list[int], key: int, workers: int) -> None:
        self._stream, self._shards, self._key = stream, shards, key
        self._lanes = min(SHARDS_AT_ONCE, len(shards))
        step = min(workers, self._lanes) or 1
        self._parts = [self._part(range(first, self._lanes, step)) for first in range(step)]
        self._threads: list[ReadAhead[Recorded | None]] = []
        if workers:
            ready = _READY * -(-self._lanes // step)
            self._threads = [ReadAhead(part, ready, "sptmod-reader") for part in self._parts]

    def passes(self) -> Iterator[Iterator[Recorded]]:
        """Passes over all the shards; each must be gone through before the next."""
        takes: list[Callable[[], Recorded | None]] = [thread.take for thread in self._threads]
        takes = takes or [partial(next, part) for part in self._parts]
        while True:
            lanes = [iter(takes[lane % len(takes)], None) for lane in range(self._lanes)]
            yield (record for record in _in_turns(lanes) if record is not None)

    def close(self) -> None:
        """End the threads; whoever waits for a record gets `Stopped`."""
        for thread in self._threads:
            thread.stop()
        for thread in self._threads:
            thread.join()
        if not self._threads:
            for part in self._parts:
                part.close()

    def _part(self, lanes: range) -> Generator[Recorded | None, None, None]:
        """What one thread reads: in each pass the records of its lanes in turns, and their ends."""
        for number in count():
            order = epoch_order(len(self._shards), self._key, number)
            shards = [self._shards[place] for place in order]
            yield from _in_turns([self._lane(shards[lane :: self._lanes]) for lane in lanes])

    def _lane(self, shards: list[int]) -> Iterator[Recorded]:
        for shard in shards:
            yield from self._stream.records(shard)


def _in_turns(lanes: list[Iterator[Recorded]]) -> Iterator[Recorded | None]:
    """The next of each lane in turns until all have ended; None where one ends."""
    while lanes:
        going = []
        for lane in lanes:
            record = next(lane, None)
            yield record
            if record is not None:
                going.append(lane)
        lanes = going


def key_of(*numbers: int) -> int:
    """A seed from several numbers."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:8], "big")
