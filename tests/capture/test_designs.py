"""Settings that fill the space of the controls, in an order that is little work."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sptmod_dist.capture import designs
from sptmod_dist.data.controls import Control

THRESHOLD = Control("threshold", -40.0, 0.0)
ATTACK = Control("attack", 0.1, 30.0, "log")
RATIO = Control("ratio", scale="list", positions=(2, 4, 10, 20))
KNEE = Control("knee", scale="list", positions=("hard", "soft", "softer"))
SPACES = [(THRESHOLD,), (THRESHOLD, ATTACK), (RATIO, KNEE), (THRESHOLD, RATIO, ATTACK, KNEE)]


@pytest.mark.parametrize("controls", SPACES, ids=len)
@pytest.mark.parametrize("count", [1, 2, 7, 16, 160])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_hypercube_has_one_value_in_each_stratum_and_each_position_equally_often(
    controls: tuple[Control, ...], count: int, seed: int
) -> None:
    places = designs.latin_hypercube(controls, count, seed)
    assert places.shape == (count, len(controls))
    for column, control in zip(places.T, controls, strict=True):
        values = [control.normalise(control.at(float(place))) for place in column]
        if control.positions:
            last = len(control.positions) - 1
            used = np.bincount(np.round(np.array(values) * last).astype(int), minlength=last + 1)
            assert used.max() - used.min() <= 1
        else:
            assert sorted(np.floor(np.array(values) * count)) == list(range(count))


def test_a_hypercube_is_more_even_than_chance_and_repeats() -> None:
    controls = SPACES[-1]
    places = designs.latin_hypercube(controls, 64, 3)
    assert np.array_equal(places, designs.latin_hypercube(controls, 64, 3))
    blind = designs.random_discrepancy(controls, 64, 3)
    assert designs.discrepancy(controls, places) < 0.8 * blind


@pytest.mark.parametrize("sizes", [(1,), (4,), (4, 4), (2, 3, 4), (3, 1, 2, 2)])
def test_a_grid_holds_every_combination_and_turns_one_knob_a_take(sizes: tuple[int, ...]) -> None:
    levels = [np.linspace(0, 1, size).tolist() for size in sizes]
    places = designs.grid(levels)
    assert len({tuple(row) for row in places}) == len(places) == np.prod(sizes)
    assert designs.turns(places) == len(places) - 1


@pytest.mark.parametrize("controls", SPACES, ids=len)
def test_an_order_holds_every_take_once_and_turns_no_more_knobs(
    controls: tuple[Control, ...],
) -> None:
    places = designs.latin_hypercube(controls, 60, 0)
    order = designs.easy_order(places)
    assert sorted(order) == list(range(60))
    assert designs.turns(places[order]) <= designs.turns(places)
    ways = [np.abs(np.diff(p, axis=0)).sum() for p in (places, places[order])]
    assert ways[1] < ways[0]


def test_switches_are_turned_as_seldom_as_can_be() -> None:
    places = designs.latin_hypercube((RATIO, KNEE), 48, 0)
    assert designs.turns(places[designs.easy_order(places)]) == 11  # twelve settings, 4 takes each


@pytest.mark.parametrize("control", [
    Control("a", -0.001, 0.001),
    Control("a", 20, 20_000, "log"),
    Control("a", 1 / 3, 2 / 3),
    Control("a", 1e9, 1e9 + 1),
])
@pytest.mark.parametrize("count", [1, 3, 160])
def test_round_values_stay_in_their_strata_whatever_the_range(control: Control, count: int) -> None:
    places = designs.latin_hypercube((control,), count, 0)[:, 0]
    values = [control.at(float(place)) for place in places]
    strata = [int(control.normalise(value) * count) for value in values]
    assert sorted(strata) == list(range(count))


def test_fewer_knobs_are_worth_any_way() -> None:
    places = np.array([[0.0, 0.0], [0.1, 0.1], [1.0, 0.0], [1.0, 1.0]])
    assert designs.easy_order(places).tolist() in ([0, 2, 3, 1], [1, 0, 2, 3], [1, 3, 2, 0])


def test_an_order_is_better_than_always_going_to_the_nearest() -> None:
    """Which needs 19 turns here, since it leaves takes behind."""
    grid = np.random.default_rng(4).permutation(designs.grid([[0, 0.5, 1], [0, 0.5, 1], [0, 1]]))
    assert designs.turns(grid[designs.easy_order(grid)]) == len(grid) - 1
    assert designs.turns(grid) > len(grid)


def test_an_order_of_a_thousand_takes_is_found_in_little_time() -> None:
    places = np.random.default_rng(0).random((1000, 4)).round(1)
    began = time.process_time()
    order = designs.easy_order(places)
    assert time.process_time() - began < 5
    assert designs.turns(places[order]) < 0.6 * designs.turns(places)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_piece_of_an_order_is_better_turned_round(seed: int) -> None:
    places = designs.latin_hypercube(SPACES[-1], 30, seed)
    ordered = places[designs.easy_order(places)]

    def work(rows: np.ndarray) -> float:
        ways = np.abs(np.diff(rows, axis=0))
        return float((ways > 1e-9).sum() + ways.sum() / (4 * 5))

    for start in range(1, 29):
        for stop in range(start + 2, 31):
            other = ordered.copy()
            other[start:stop] = ordered[start:stop][::-1]
            assert work(other) > work(ordered) - 1e-8
