"""Which moments of the validation items are shown: where the device moves most.

Chosen by the recordings alone, so that every training on them shows the same ones. It knows numbers
and neither networks nor processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sptmod_dist.data.controls import shown
from sptmod_dist.data.shard_index import Item
from sptmod_dist.metrics.levels import frame_samples


class Moment(NamedTuple):
    """The stretch of one item in which its device moves most."""

    start: int
    stop: int
    """Samples."""
    movement: float
    """Decibels that the gain goes up and down, summed over the stretch."""


class Excerpt(NamedTuple):
    """A moment that is shown."""

    item: int
    """Its place in the set."""
    start: int
    stop: int


def busiest(gain: np.ndarray, samples: int, rate: int, seconds: float) -> Moment:
    """The stretch of so many seconds over which the gain changes most, the first of equal ones.

    The change is that from each frame to the next, where the input is audible in both.

    Args:
        gain: `metrics.gain_curve` of the input and the device's output.
        samples: of the item; a shorter one is its own stretch.

    Shape: gain [K].
    """
    frame, length = frame_samples(rate), min(samples, round(seconds * rate))
    change = np.nan_to_num(np.abs(np.diff(gain)))  # NaN: inaudible
    window = min(max(1, length // frame), len(change))
    sums = np.concatenate([[0.0], np.cumsum(change)])
    moved = sums[window:] - sums[: len(sums) - window]
    first = int(np.argmax(moved))
    start = min(first * frame, samples - length)
    return Moment(start, start + length, float(moved[first]))


def choose(moments: Mapping[int, Moment], items: Sequence[Item], count: int) -> list[Excerpt]:
    """Those with the most movement, one of each setting of the controls before a second one.

    Args:
        moments: by the item's place.
        items: of the set.
        count: how many at most.
    """
    order = sorted(moments, key=lambda item: (-moments[item].movement, item))
    by_setting: dict[tuple[float, ...], list[int]] = {}
    for item in order:
        by_setting.setdefault(tuple(items[item].controls), []).append(item)
    first = [same[0] for same in by_setting.values()]
    rest = [item for item in order if item not in first]
    chosen = sorted((first + rest)[:count])
    return [Excerpt(item, moments[item].start, moments[item].stop) for item in chosen]


def in_words(item: Item) -> str:
    """An item's settings; its name where it has none."""
    words = ", ".join(f"{name} {shown(value)}" for name, value in item.settings.items())
    return words or item.id
