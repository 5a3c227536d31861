"""The gain over time, drawn: how far a compressor turns down, and when.

It draws numbers and knows nothing of models or audio.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sptmod_dist.figures import STYLE
from sptmod_dist.files import atomic_write

LEAST_RANGE_DB = 3.0
"""A gain that hardly moves must not look as if it did."""

LOWEST_DB = -70.0
"""Of the drawn input level."""


def draw(
    path: Path,
    title: str,
    seconds: np.ndarray,
    input_levels: np.ndarray,
    gains: Mapping[str, np.ndarray],
) -> None:
    """Write gains over time, under the level of the input that they answer: 1000 x 600 pixels.

    Args:
        path: written whole or not at all.
        title: one line.
        seconds: where each frame lies.
        input_levels: in dB of full scale.
        gains: as in `draw_gain`.

    Shape: seconds [K], input_levels [K], each gain [K].
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 6), dpi=100, layout="constrained")
        level, gain = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2.2])
        level.plot(seconds, np.maximum(input_levels, LOWEST_DB), color="0.35", linewidth=1.5)
        level.set(ylabel="input, dB", ylim=(LOWEST_DB, 3), title=title)
        level.grid(alpha=0.3)
        draw_gain(gain, seconds, gains)
        with atomic_write(path) as temporary:
            figure.savefig(temporary)


def draw_gain(axes: Axes, seconds: np.ndarray, gains: Mapping[str, np.ndarray]) -> None:
    """Draw gains over time: the first, the device's, broad and pale, the others over it.

    Args:
        axes: drawn into; its titles and size are the caller's.
        seconds: where each frame lies.
        gains: in dB, by name; NaN, where the input is inaudible, leaves a gap.

    Shape: seconds [K], each gain [K].
    """
    for number, (name, gain) in enumerate(gains.items()):
        if number == 0:
            axes.plot(seconds, gain, color="0.68", linewidth=5, label=name)
        else:
            axes.plot(seconds, gain, color=f"C{number - 1}", linewidth=1.8, label=name)
    axes.axhline(0, color="0.4", linewidth=0.8, linestyle=":")
    if len(seconds) > 1:
        axes.set_xlim(float(seconds[0]), float(seconds[-1]))
    axes.set_ylim(*_limits(list(gains.values())))
    axes.set(xlabel="seconds", ylabel="gain, dB")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")


def _limits(gains: list[np.ndarray]) -> tuple[float, float]:
    """What shows nearly all frames: single ones at an onset must not squeeze the rest."""
    heard = np.concatenate([gain[np.isfinite(gain)] for gain in gains]) if gains else np.zeros(0)
    if not heard.size:
        return -LEAST_RANGE_DB, LEAST_RANGE_DB
    low, high = (float(v) for v in np.percentile(heard, [0.5, 99.5]))
    room = max(0.08 * (high - low), (LEAST_RANGE_DB - (high - low)) / 2)
    return low - room, high + room
