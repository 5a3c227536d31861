"""The level-curve plot: input level against output level, the device's beside the model's.

The usual picture of a compressor's static behaviour. It draws numbers and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sptmod_dist.files import atomic_write
from sptmod_dist.metrics import LevelCurve

MOST_SETTINGS = 6
"""More curves than this cannot be told apart."""


class CurvePair(NamedTuple):
    """The curves of one setting of the controls."""

    target: LevelCurve
    model: LevelCurve


def draw(path: Path, curves: Mapping[str, CurvePair]) -> None:
    """Write the plot as a PNG file, 700 x 600 pixels, legible at half that size.

    Args:
        path: written whole or not at all.
        curves: by the setting in words; of more than six, six spread evenly are drawn.
    """
    with matplotlib.rc_context({"font.size": 15, "lines.linewidth": 3}):
        figure = Figure(figsize=(7, 6), dpi=100, layout="constrained")
        fill(figure.add_subplot(), curves)
        with atomic_write(path) as temporary:
            figure.savefig(temporary)


def fill(axes: Axes, curves: Mapping[str, CurvePair]) -> None:
    """Draw into axes that somebody else writes; `curves` as in `draw`."""
    axes.axline((0, 0), slope=1, color="0.75", linewidth=1.5, linestyle=":", label="unchanged")
    shown = _spread(list(curves))
    for number, setting in enumerate(shown):
        _draw_pair(axes, curves[setting], setting, f"C{number}")
    _describe(axes, len(shown), len(curves))


def _draw_pair(axes: Axes, pair: CurvePair, setting: str, color: str) -> None:
    label = f"{setting}, " if setting else ""
    axes.plot(*pair.target, color=color, alpha=0.45, linewidth=6, label=f"{label}device")
    axes.plot(*pair.model, color=color, linestyle="--", label=f"{label}model")


def _describe(axes: Axes, shown: int, available: int) -> None:
    axes.set_xlabel("input level, dB")
    axes.set_ylabel("output level, dB")
    selection = "" if shown == available else f", {shown} of {available} settings"
    axes.set_title(f"Level curves{selection}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=12, loc="best")


def _spread(settings: list[str]) -> list[str]:
    count = min(len(settings), MOST_SETTINGS)
    return [settings[i] for i in np.linspace(0, len(settings) - 1, count).round().astype(int)]
