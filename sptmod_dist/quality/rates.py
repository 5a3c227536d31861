"""Recognising a recording that was made at another rate than it states.

It must not know of files.
"""

from __future__ import annotations

import numpy as np

from sptmod_dist.capture.markers import find_markers
from sptmod_dist.quality.correlation import onset_likeness
from sptmod_dist.quality.marked import TOLERANCE

USUAL = (44_100, 48_000, 88_200, 96_000)
_SURE = 8.0
"""Standard deviations by which onsets must agree."""


def other_rate(dry: np.ndarray, wet: np.ndarray, rate: int, distance: float | None) -> float | None:
    """By which factor the wet has more samples a second than it states; None: by none known.

    Args:
        distance: of the dry's markers, where it has any.

    Shape:
        dry `[T]`, wet `[T']`
    """
    ratios = sorted({a / b for a in USUAL for b in USUAL if a != b})
    marked = [r for r in ratios if distance is not None and _marked(wet, rate, r, distance)]
    if marked:
        return marked[0]
    likeness = {ratio: onset_likeness(dry, wet, rate, ratio) for ratio in (1.0, *ratios)}
    best = max(ratios, key=lambda ratio: likeness[ratio])
    sure = likeness[best] > max(_SURE, 1.5 * likeness[1.0])
    return best if sure else None


def _marked(wet: np.ndarray, rate: int, ratio: float, distance: float) -> bool:
    found = find_markers(wet, round(ratio * rate), expected=2)
    if len(found) != 2:
        return False
    apart = found[1].position - found[0].position
    return abs(apart - ratio * distance) <= TOLERANCE * distance
