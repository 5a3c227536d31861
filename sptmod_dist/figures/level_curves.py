"""The level-curve plot: input level against output level, the device's beside the model's.

The usual picture of a compressor's static behaviour. It draws numbers and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill as fill_text
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sptmod_dist.figures import STYLE
from sptmod_dist.files import atomic_write
from sptmod_dist.metrics import LevelCurve

MOST_SETTINGS = 6
"""More curves than this cannot be told apart."""

_LABEL = 34  # characters of a line of the legend
_DEVICE: dict[str, Any] = {"alpha": 0.45, "linewidth": 6}
_MODEL: dict[str, Any] = {"linestyle": "--", "linewidth": 3}


class CurvePair(NamedTuple):
    """The curves of one setting of the controls."""

    target: LevelCurve
    model: LevelCurve


def draw(path: Path, curves: Mapping[str, CurvePair], names: str = "") -> None:
    """Write the plot as a PNG file, 700 x 600 pixels, legible at half that size.

    Args:
        path: written whole or not at all.
        curves: by the setting in words; of more than six, six spread evenly are drawn.
        names: of the controls, where the words are values alone.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 6), dpi=100, layout="constrained")
        fill(figure.add_subplot(), curves, names)
        with atomic_write(path) as temporary:
            figure.savefig(temporary)


def fill(axes: Axes, curves: Mapping[str, CurvePair], names: str = "") -> None:
    """Draw into axes that somebody else writes; `curves` and `names` as in `draw`."""
    axes.axline((0, 0), slope=1, color="0.75", linewidth=1.5, linestyle=":", label="unchanged")
    shown = _spread(list(curves))
    for number, setting in enumerate(shown):
        for curve, style in zip(curves[setting], (_DEVICE, _MODEL), strict=True):
            marker = "o" if len(curve.input_db) == 1 else None  # one level makes no line
            axes.plot(*curve, color=f"C{number}", marker=marker, **style)
    _describe(axes, len(shown), len(curves))
    handles = list(_legend(axes, shown))
    size = 12 if len(handles) < 8 else 10.5
    axes.legend(handles=handles, title=names, fontsize=size, title_fontsize=size, loc="best")


def _legend(axes: Axes, shown: Sequence[str]) -> Iterator[Artist]:
    """What is device and what is model, then a colour a setting."""
    yield axes.get_lines()[0]
    color = "C0" if list(shown) == [""] else "0.35"
    yield Line2D([], [], color=color, label="device", **_DEVICE)
    yield Line2D([], [], color=color, label="model", **_MODEL)
    for number, setting in enumerate(shown):
        if setting:
            yield Line2D([], [], color=f"C{number}", linewidth=3, label=fill_text(setting, _LABEL))


def _describe(axes: Axes, shown: int, available: int) -> None:
    axes.set_xlabel("input level, dB")
    axes.set_ylabel("output level, dB")
    selection = "" if shown == available else f", {shown} of {available} settings"
    axes.set_title(f"Level curves{selection}")
    axes.grid(alpha=0.3)


def _spread(settings: list[str]) -> list[str]:
    count = min(len(settings), MOST_SETTINGS)
    return [settings[i] for i in np.linspace(0, len(settings) - 1, count).round().astype(int)]
