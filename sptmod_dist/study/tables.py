"""Medians and deviations over the trainings of each configuration, as the paper's tables have them.

Source: DAFx25, tables 1 to 6: the median over the splits of the best streamed validation loss, its
median absolute deviation (not scaled), and the median time. Plain numbers in and out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sptmod_dist.study.results import Outcome

Cell = tuple[int, int, int]
"""N, B, L."""


@dataclass(frozen=True)
class Quantity:
    """One of the tables' quantities."""

    name: str
    """As `paper_tables.json` has it."""
    title: str
    digits: int
    of: Callable[[Sequence[Outcome]], float]


@dataclass(frozen=True)
class Group:
    """Trainings that share a table: those of a dataset and of the grid's other keys."""

    name: str
    dataset: str
    outcomes: tuple[Outcome, ...]

    def cells(self, quantity: Quantity) -> dict[Cell, float]:
        """The quantity of each configuration that has finished trainings."""
        found: dict[Cell, list[Outcome]] = {}
        for outcome in self.outcomes:
            found.setdefault((outcome.n, outcome.b, outcome.length), []).append(outcome)
        return {cell: quantity.of(outcomes) for cell, outcomes in sorted(found.items())}


def median_loss(outcomes: Sequence[Outcome]) -> float:
    """The median best ST loss, x 10."""
    return 10 * statistics.median(outcome.best.st for outcome in outcomes)


def mad_loss(outcomes: Sequence[Outcome]) -> float:
    """The median absolute deviation of the best ST loss, x 10."""
    return 10 * mad([outcome.best.st for outcome in outcomes])


def median_hours(outcomes: Sequence[Outcome]) -> float:
    """The median time to within 5 % of the least validation loss, in hours."""
    return statistics.median(outcome.hours for outcome in outcomes)


def median_gap(outcomes: Sequence[Outcome]) -> float:
    """The median exposure bias, ST less WT at the best ST, x 10."""
    return 10 * statistics.median(o.best.st - o.best.wt for o in outcomes)


def count(outcomes: Sequence[Outcome]) -> float:
    """How many trainings are in a cell."""
    return len(outcomes)


def mad(values: Sequence[float]) -> float:
    """The median of the distances from the median."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values)


TABLES = (
    Quantity("median_loss_x10", "median best ST loss x 10", 2, median_loss),
    Quantity("mad_loss_x10", "median absolute deviation of the best ST loss x 10", 2, mad_loss),
    Quantity("median_hours", "median hours to within 5 % of the least loss", 2, median_hours),
)
"""Tables 1 and 2, 3 and 4, 5 and 6."""
GAP = Quantity("median_gap_x10", "median of ST - WT x 10 at the best ST", 2, median_gap)
COUNT = Quantity("trainings", "finished trainings", 0, count)


def groups_of(outcomes: Iterable[Outcome]) -> list[Group]:
    """The outcomes by dataset and other keys, in the order in which they come."""
    found: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        others = ", ".join(f"{key} {value}" for key, value in outcome.others)
        found.setdefault((outcome.dataset, others), []).append(outcome)
    return [
        Group(", ".join(filter(None, key)), key[0], tuple(members))
        for key, members in found.items()
    ]
