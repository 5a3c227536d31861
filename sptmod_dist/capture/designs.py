"""Which settings to record: one, a grid, or a Latin hypercube; and in which order.

Settings are places from 0 to 1, `[n, d]`, as a model sees them. Source: DAFx25, section on data. It
must not know of files or devices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc

from sptmod_dist.data.controls import Control
from sptmod_dist.errors import UserError

_SAME = 1e-9
_SWEEPS = 50  # of improving an order; few are needed
_EDGE = 1e-6  # of a stratum, that a value keeps away from its bounds


def grid(levels: Sequence[Sequence[float]]) -> np.ndarray:
    """Every combination of each control's places, in an order that turns one knob a take.

    A reflected Gray code: each control runs forth and then back, the last one fastest.

    Shape:
        `[n, d]`
    """
    rows: list[list[float]] = [[]]
    for places in levels:
        forth = [*places]
        rows = [
            [*row, place]
            for number, row in enumerate(rows)
            for place in (forth if number % 2 == 0 else reversed(forth))
        ]
    return np.array(rows, dtype=float).reshape(-1, len(levels))


def latin_hypercube(controls: Sequence[Control], count: int, seed: int) -> np.ndarray:
    """Settings that fill the space of the controls evenly.

    Each continuous control's values fall one in each of `count` equal strata; each position of a
    switch is taken equally often within 1. Points are exchanged until they are spread well in all
    controls together (the centred discrepancy, by scipy). A value is as round as its stratum lets
    it be, so that it can be set and read off by hand.

    Shape:
        `[count, d]`
    """
    sampler = qmc.LatinHypercube(len(controls), rng=seed, optimization="random-cd")
    sample = sampler.random(count)
    for column, control in enumerate(controls):
        if control.positions:  # by rank, since a stratum may lie across two positions
            ranks = sample[:, column].argsort().argsort()
            last = len(control.positions) - 1
            sample[:, column] = ranks * (last + 1) // count / last
        else:
            sample[:, column] = [_round(control, place, count) for place in sample[:, column]]
    return sample


def _round(control: Control, place: float, strata: int) -> float:
    """Where the value with the fewest decimals lies, near `place` in the same stratum."""
    stratum, value = int(place * strata), float(control.at(place))
    for decimals in range(-6, 13):
        try:
            near = control.normalise(round(value, decimals))
        except UserError:  # beyond the range
            continue
        if _EDGE <= near * strata - stratum <= 1 - _EDGE:
            return near
    return place


def discrepancy(controls: Sequence[Control], places: np.ndarray) -> float:
    """The centred discrepancy: 0 would be perfectly even. Positions count as cells of equal size.

    Shape:
        `[n, d]`
    """
    places = np.clip(places, 0.0, 1.0)
    for column, control in enumerate(controls):
        if control.positions:
            count = len(control.positions)
            places[:, column] = (places[:, column] * (count - 1) + 0.5) / count
    return float(qmc.discrepancy(places, method="CD"))


def random_discrepancy(controls: Sequence[Control], count: int, seed: int) -> float:
    """What settings drawn blindly have, the median of 25 draws."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(25):
        places = draw.random((count, len(controls)))
        for column, control in enumerate(controls):
            if control.positions:
                last = len(control.positions) - 1
                places[:, column] = np.floor(places[:, column] * (last + 1)) / last
        found.append(discrepancy(controls, places))
    return float(np.median(found))


def turns(places: np.ndarray) -> int:
    """How many knobs are turned between the takes, from the first to the last."""
    return int((np.abs(np.diff(places, axis=0)) > _SAME).sum())


def easy_order(places: np.ndarray) -> np.ndarray:
    """An order of the rows that turns few knobs between takes, and those not far.

    The nearest neighbour next, then pieces of the way reversed as long as that helps (2-opt). A
    knob that is turned costs 1, and the ways of all of them less than 1: fewer knobs always win.

    Shape:
        `[n, d]` to `[n]`
    """
    count, controls = places.shape
    if count < 3:
        return np.arange(count)
    cost = np.zeros((count, count))
    for column in places.T:
        way = np.abs(column[:, None] - column)
        cost += (way > _SAME) + way / (controls * (controls + 1))
    order = _nearest_first(cost, int(places.sum(axis=1).argmin()))
    for _ in range(_SWEEPS):
        if not _improve(order, cost):
            break
    return order


def _nearest_first(cost: np.ndarray, start: int) -> np.ndarray:
    left = np.ones(len(cost), bool)
    order = [start]
    left[start] = False
    while left.any():
        ahead = np.where(left, cost[order[-1]], np.inf)
        order.append(int(ahead.argmin()))
        left[order[-1]] = False
    return np.array(order)


def _improve(order: np.ndarray, cost: np.ndarray) -> bool:
    """One sweep: for each place the best reversal of a piece that begins after it."""
    changed = False
    for i in range(len(order) - 2):
        ends = np.arange(i + 2, len(order))
        after = np.append(order[ends[1:]], -1)
        before_cost = cost[order[i], order[i + 1]] + np.where(
            after >= 0, cost[order[ends], after], 0.0
        )
        new_cost = cost[order[i], order[ends]] + np.where(
            after >= 0, cost[order[i + 1], after], 0.0
        )
        gain = before_cost - new_cost
        best = int(gain.argmax())
        if gain[best] > _SAME:
            end = ends[best] + 1
            order[i + 1 : end] = order[i + 1 : end][::-1]
            changed = True
    return changed
