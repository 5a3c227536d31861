"""The pictures show what is worth a look: where a gain moves, and the ends of the list of items."""

from __future__ import annotations

import numpy as np
import pytest

from sptmod_dist.infer.eval_figures import STRETCH_SECONDS, _liveliest, _shown
from sptmod_dist.infer.evaluation import Errors, ItemResult


def items(count: int) -> list[ItemResult]:
    errors = Errors(1, 1, 1, 1)
    return [ItemResult(str(n), {}, 1, 1.0, {"total": -float(n)}, errors) for n in range(count)]


@pytest.mark.parametrize(
    "count, expected",
    [
        (1, {"only": "0"}),
        (2, {"worst": "0", "best": "1"}),
        (3, {"worst": "0", "median": "1", "best": "2"}),
        (10, {"worst": "0", "median": "4", "best": "9"}),
    ],
)
def test_the_worst_the_median_and_the_best_are_shown_each_once(
    count: int, expected: dict[str, str]
) -> None:
    assert {name: item.id for name, item in _shown(items(count)).items()} == expected


@pytest.mark.parametrize("at", [0, 4.5, 9])
def test_the_stretch_that_is_drawn_holds_the_gain_that_moves(at: float) -> None:
    seconds = np.arange(1200) / 100
    device = np.where((seconds >= at) & (seconds < at + 2), -10.0, -1.0)
    device[::7] = np.nan
    part = _liveliest(device)
    assert part.stop - part.start == 100 * STRETCH_SECONDS
    assert part.start <= 100 * at + 100 and part.stop >= 100 * at + 100


def test_a_short_or_inaudible_item_is_drawn_all_the_same() -> None:
    assert _liveliest(np.zeros(40)) == slice(None)
    assert _liveliest(np.full(1000, np.nan)) == slice(0, 400)
