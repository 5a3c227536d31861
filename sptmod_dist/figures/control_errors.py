"""Errors against one control: where in its range a model is good, and where it is not.

It draws numbers and knows nothing of models or audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sptmod_dist.figures import STYLE
from sptmod_dist.files import atomic_write

LOWEST_ESR_DB = -100.0
"""What no error at all is drawn as."""

_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "C0", "marker": "o", "markersize": 9, "zorder": 3},
    {"color": "0.55", "marker": "s", "markersize": 7, "fillstyle": "none"},
)


class Axis(NamedTuple):
    """A control as an axis."""

    label: str
    places: Sequence[float]
    """Of the items, along the axis."""
    ticks: Sequence[tuple[float, str]]
    """Places with names."""


class Panel(NamedTuple):
    """Errors of one kind."""

    label: str
    errors: dict[str, list[float | None]]
    """A value an item, by what was measured: the model first."""
    from_zero: bool = False
    """Whether the axis starts there."""


def draw(path: Path, axis: Axis, panels: Sequence[Panel]) -> None:
    """Write panels under one another as a PNG file, 800 x 700 pixels; a line joins the means.

    Args:
        path: written whole or not at all.
        axis: the control.
        panels: each with the errors of the same items.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 7), dpi=100, layout="constrained")
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(rows, panels, strict=True):
            _fill(axes, axis, panel)
        rows[-1].set_xlabel(axis.label)
        if rows[0].get_legend_handles_labels()[0]:
            rows[0].legend(fontsize=13, loc="best")
        with atomic_write(path) as temporary:
            figure.savefig(temporary)


def _fill(axes: Axes, axis: Axis, panel: Panel) -> None:
    for style, (name, errors) in zip(_STYLES, panel.errors.items(), strict=False):
        there = [(p, e) for p, e in zip(axis.places, errors, strict=True) if e is not None]
        if not there:
            continue
        places, values = np.array(there).T
        axes.plot(places, values, linestyle="none", alpha=0.75, label=name, **style)
        axes.plot(*_means(places, values), color=style["color"], linewidth=2, alpha=0.6)
    axes.set_ylabel(panel.label)
    axes.set_xticks([place for place, _ in axis.ticks], [name for _, name in axis.ticks])
    axes.set_xlim(-0.06, 1.06)
    axes.grid(alpha=0.3)
    if panel.from_zero:
        axes.set_ylim(0, max(0.1, axes.get_ylim()[1]))


def _means(places: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the items in each sixth of the range; at one place where a switch has few positions."""
    parts = np.minimum((places * 6 + 1e-9).astype(int), 6)
    points = [(places[parts == n].mean(), values[parts == n].mean()) for n in np.unique(parts)]
    x, y = np.array(points).T
    return x, y
