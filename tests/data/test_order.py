"""The order of the data is a pure function, the same for every number of processes."""

from __future__ import annotations

import numpy as np
import pytest

from sptmod_dist.data.order import epoch_order, n_groups, rank_rows
from sptmod_dist.errors import UserError

MASK = 2**64 - 1


def splitmix64(value: int) -> int:
    z = (value + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_an_epoch_holds_each_sequence_once(n: int) -> None:
    order = epoch_order(n, seed=3, epoch=5)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(n))


def test_splitmix64_is_the_published_generator() -> None:
    # The first outputs of the reference implementation seeded with 1234567.
    state, outputs = 1234567, []
    for _ in range(3):
        outputs.append(splitmix64(state))
        state = (state + 0x9E3779B97F4A7C15) & MASK
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("seed, epoch", [(0, 0), (7, 12), (-1, 3), (2**70 + 5, 2**40)])
def test_the_order_is_the_sort_by_plain_integer_hashes(seed: int, epoch: int) -> None:
    state = splitmix64(splitmix64(seed % 2**64) ^ epoch)
    expected = sorted(range(500), key=lambda i: splitmix64(state ^ i))
    assert epoch_order(500, seed, epoch).tolist() == expected


def test_the_order_never_changes_between_versions() -> None:
    # A checkpoint's cursor means this order: these numbers must not change.
    assert epoch_order(10, seed=0, epoch=0).tolist() == [0, 9, 1, 6, 3, 5, 4, 2, 8, 7]
    assert epoch_order(10, seed=0, epoch=1).tolist() == [8, 3, 0, 1, 5, 2, 7, 4, 9, 6]


def test_every_seed_and_every_epoch_has_its_own_order() -> None:
    orders = {tuple(epoch_order(50, s, e).tolist()) for s in range(20) for e in range(20)}
    assert len(orders) == 400


def test_places_of_a_sequence_over_epochs_are_uniform() -> None:
    places = np.array([np.argmax(epoch_order(8, 1, epoch) == 3) for epoch in range(4000)])
    counts = np.bincount(places, minlength=8)
    assert abs(counts - 500).max() < 120  # 5.7 standard deviations of a binomial


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 8, 12, 24])
def test_the_ranks_rows_tile_the_global_batch(world_size: int) -> None:
    rows = [row for rank in range(world_size) for row in rank_rows(24, rank, world_size)]
    assert rows == list(range(24))


@pytest.mark.parametrize(
    "batch_size, world_size, nearest",
    [(10, 4, "8 or 12"), (3, 4, "take 4"), (1, 2, "take 2"), (0, 3, "take 3"), (-1, 2, "take 2")],
)
def test_a_batch_that_the_processes_do_not_divide_is_refused_with_the_nearest(
    batch_size: int, world_size: int, nearest: str
) -> None:
    with pytest.raises(UserError, match=nearest):
        rank_rows(batch_size, 0, world_size)


def test_only_whole_groups_count() -> None:
    assert [n_groups(n, 4) for n in (0, 3, 4, 7, 8)] == [0, 0, 1, 1, 2]
