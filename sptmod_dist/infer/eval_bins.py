"""Items by the setting of one control: the positions of a switch, the thirds of a range.

Plain numbers; it knows nothing of models or audio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sptmod_dist.data.controls import Control, shown
from sptmod_dist.infer.eval_names import short
from sptmod_dist.infer.evaluation import ItemResult

PARTS = 3
"""Of a range, equal as a model sees it."""


class Bin(NamedTuple):
    """The items of one part of a control's range."""

    label: str
    """Such as `2 to 3.17:1`."""
    items: tuple[ItemResult, ...]


def bins(control: Control, items: Sequence[ItemResult]) -> list[Bin]:
    """The parts of a control that have items, in order."""
    parts: dict[int, list[ItemResult]] = {}
    for item in items:
        place = control.normalise(item.settings[control.name])
        parts.setdefault(_part(control, place), []).append(item)
    labels = list(_labels(control))
    return [Bin(labels[part], tuple(parts[part])) for part in sorted(parts)]


def _part(control: Control, place: float) -> int:
    """Which part a place from 0 to 1 is in; a boundary belongs to the upper one."""
    if control.positions:
        return round(place * (len(control.positions) - 1))
    return min(int(place * PARTS + 1e-9), PARTS - 1)


def _labels(control: Control) -> Iterator[str]:
    space = "" if control.unit.startswith((":", "%")) else " "
    unit = f"{space}{control.unit}".rstrip()
    if control.positions:
        yield from (f"{shown(position)}{unit}" for position in control.positions)
        return
    edges = [short(control.at(n / PARTS)) for n in range(PARTS + 1)]
    yield from (f"{low} to {high}{unit}" for low, high in zip(edges, edges[1:], strict=False))
