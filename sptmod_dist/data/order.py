"""The order of the data: a pure function of (seed, epoch), cut into groups and into ranks' rows.

One permutation of all sequences an epoch, cut into global batches of B; rank r of W takes rows
r·b … (r+1)·b of each, b = B/W. Nothing here depends on the number of processes or workers, on a
generator's state or on a library's version. It knows only integers: no shards, no torch.
"""

from __future__ import annotations

import numpy as np

from sptmod_dist.errors import UserError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def _splitmix64(values: np.ndarray) -> np.ndarray:
    """One step of splitmix64 from each state in `values` (uint64; arithmetic wraps around)."""
    z = values + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


def epoch_order(n_sequences: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of all sequences in one epoch.

    Sequences are sorted by a hash of (seed, epoch, id), so that the order is the same on every
    machine, and a tie (never seen in practice) goes to the smaller id.

    Args:
        n_sequences: how many sequences the set holds; 1e6 take about 0.1 s.
        seed: the run's one seed; any integer, taken modulo 2^64.
        epoch: counted from 0.

    Shape:
        output: [n_sequences], int64, each of 0 … n_sequences − 1 once

    Source:
        Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014 (splitmix64).
    """
    state = np.array([seed % 2**64], dtype=np.uint64)  # arrays wrap silently, scalars would warn
    state = _splitmix64(state) ^ np.uint64(epoch)
    ids = np.arange(n_sequences, dtype=np.uint64)
    hashes = _splitmix64(_splitmix64(state) ^ ids)
    return np.argsort(hashes, kind="stable").astype(np.int64)


def n_groups(n_sequences: int, batch_size: int) -> int:
    """The number of groups in an epoch: whole global batches only, the same on every rank."""
    return n_sequences // batch_size


def rank_rows(batch_size: int, rank: int, world_size: int) -> range:
    """The rows of each global batch that a rank takes.

    Args:
        batch_size: B, over all processes.
        rank: r, from 0.
        world_size: W, the number of processes; it must divide B.

    Raises:
        UserError: W does not divide B; the nearest batch sizes that would do are given.
    """
    if batch_size < 1 or batch_size % world_size:
        below = max(batch_size, 0) // world_size * world_size
        nearest = [str(size) for size in (below, below + world_size) if size >= 1]
        raise UserError(
            f"a batch size of {batch_size} over all processes does not divide over "
            f"{world_size} processes: take {' or '.join(nearest)}"
        )
    share = batch_size // world_size
    return range(rank * share, (rank + 1) * share)
