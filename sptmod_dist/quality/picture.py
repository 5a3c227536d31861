"""A picture of a checked take: levels, gain and delay over time, with what was found marked.

It draws numbers and knows nothing of how they were found.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sptmod_dist.files import atomic_write
from sptmod_dist.quality.take_report import TakeReport

COLUMNS = 900
LOWEST_DB = -90.0
_HEARD_DB = -60.0
_SHOWN = 6
_COLORS = {"unfit": "#b3261e", "doubtful": "#a15c00", "sound": "#1b6e3c"}
_LATE = 0.85
"""Of the width: what is marked beyond has its word on the left."""
_MARKS = {"dropout": "#b3261e", "lost samples": "#7b1fa2", "first clipping": "#e65100"}


@dataclass(frozen=True)
class Curves:
    """Levels over time, in dB of full scale (RMS), the wet's where it answers the dry.

    Shape:
        all `[K]`
    """

    seconds: np.ndarray
    dry: np.ndarray
    wet: np.ndarray


def make_curves(dry: np.ndarray, wet: np.ndarray, rate: int, report: TakeReport) -> Curves | None:
    """What `draw` needs of the audio; None where both have nothing in common.

    Shape:
        dry `[C, T]`, wet `[C', T']`
    """
    shift = round(report.latency)
    first, last = max(0, -shift), min(dry.shape[1], wet.shape[1] - shift)
    size = max(1, (last - first) // COLUMNS)
    count = (last - first) // size if last > first else 0
    if count < 2:
        return None
    levels = []
    for side, channel, start in (
        (dry, report.dry_channels[0], first),
        (wet, report.wet_channels[0], first + shift),
    ):
        piece = side[channel, start : start + count * size].reshape(count, size)
        power = np.einsum("kn,kn->k", piece, piece) / size - piece.mean(axis=1) ** 2
        levels.append(10 * np.log10(np.maximum(power, 1e-12)))
    return Curves((first + size * (np.arange(count) + 0.5)) / rate, levels[0], levels[1])


def draw(path: Path, report: TakeReport, curves: Curves | None) -> None:
    """Write the picture as a PNG file, 1200 x 900 pixels. From one thread at a time.

    Args:
        path: written whole or not at all.
        report: of the take.
        curves: of the take; None leaves the words alone.
    """
    with matplotlib.rc_context({"font.size": 11}):
        figure = Figure(figsize=(12, 9), dpi=100)
        grid = figure.add_gridspec(4, 1, height_ratios=[3, 2, 2, 1.7], hspace=0.28)
        grid.update(left=0.08, right=0.97, top=0.93, bottom=0.03)
        title = f"{report.name or 'take'}: {report.verdict}"
        figure.suptitle(title, color=_COLORS[report.verdict], fontweight="bold", y=0.975)
        if curves is not None:
            level = figure.add_subplot(grid[0])
            gain, delay = (figure.add_subplot(grid[n], sharex=level) for n in (1, 2))
            _draw_level(level, report, curves)
            _draw_gain(gain, curves)
            _draw_delay(delay, report)
            level.set_xlim(0, float(curves.seconds[-1] + curves.seconds[0]))
            _mark((level, gain, delay), report)
        words = figure.add_subplot(grid[3])
        words.axis("off")
        words.text(0, 0.72, "\n".join(_lines(report)), va="top", fontsize=10)
        with atomic_write(path) as temporary:
            figure.savefig(temporary)


def _draw_level(axes: Axes, report: TakeReport, curves: Curves) -> None:
    axes.plot(curves.seconds, curves.dry, color="0.55", linewidth=0.9, label="dry")
    axes.plot(curves.seconds, curves.wet, color="C0", linewidth=0.9, label="wet")
    if report.noise_db is not None and report.noise_db > LOWEST_DB:
        axes.axhline(report.noise_db, color="C3", linestyle=":", label="noise of the wet")
    if report.content is not None:
        for place in report.content:
            axes.axvline(place / report.rate, color="0.4", linestyle="--", linewidth=0.8)
    axes.set(ylabel="level (dB)", ylim=(LOWEST_DB, 3))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", ncols=3, fontsize=9)


def _draw_gain(axes: Axes, curves: Curves) -> None:
    gain = np.where(curves.dry > _HEARD_DB, curves.wet - curves.dry, np.nan)
    axes.plot(curves.seconds, gain, color="C2", linewidth=0.9)
    axes.axhline(0, color="0.6", linewidth=0.6)
    axes.set(ylabel="gain (dB)")
    heard = gain[np.isfinite(gain)]
    if heard.size:
        low, high = np.percentile(heard, [0.5, 99.5])
        room = max(1.0, 0.1 * float(high - low))
        axes.set_ylim(float(low) - room, float(high) + room)
    axes.grid(alpha=0.3)


def _draw_delay(axes: Axes, report: TakeReport) -> None:
    axes.set(ylabel="delay (samples)", xlabel="seconds of the dry")
    axes.grid(alpha=0.3)
    axes.ticklabel_format(axis="y", useOffset=False)
    if report.method == "none":
        axes.text(0.5, 0.5, "no delay was found", transform=axes.transAxes, ha="center")
        return
    axes.axhline(report.latency, color="C1", linewidth=0.9)
    if report.delays:
        seconds, delays = np.array(report.delays).T
        axes.plot(seconds, delays, ".", color="C0", markersize=4)
        low, high = np.percentile([*delays, report.latency], [2, 98])
        room = max(0.5, 0.15 * float(high - low))
        axes.set_ylim(float(low) - room, float(high) + room)


def _mark(panels: tuple[Axes, ...], report: TakeReport) -> None:
    """Lines at the places of findings, and what they mean beside them, inside the first panel."""
    last = panels[0].get_xlim()[1]
    for name, place in _places(report):
        seconds = min(max(place, 0.0), last)
        for axes in panels:
            axes.axvline(seconds, color=_MARKS[name], linewidth=1.0, alpha=0.8)
        height = 0.95 - 0.09 * list(_MARKS).index(name)
        panels[0].text(
            seconds, height, f" {name} ", color=_MARKS[name], fontsize=9, va="top",
            ha="right" if seconds > _LATE * last else "left",
            transform=panels[0].get_xaxis_transform(),
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0},
        )  # fmt: skip


def _places(report: TakeReport) -> Iterator[tuple[str, float]]:
    for seconds in report.dropouts[:_SHOWN]:
        yield "dropout", seconds
    for step in report.steps[:_SHOWN]:
        yield "lost samples", step.seconds
    if report.clipping_at is not None:
        yield "first clipping", report.clipping_at - report.latency / report.rate


def _lines(report: TakeReport) -> list[str]:
    """The findings as lines of text."""
    if not report.findings:
        return ["Nothing was found that would spoil training."]
    lines = []
    for finding in report.findings[:_SHOWN]:
        text = f"{finding.severity}: {finding.what} {finding.remedy}".strip()
        lines += textwrap.wrap(text, 150, subsequent_indent="    ")
    if len(report.findings) > _SHOWN:
        lines.append(f"… and {len(report.findings) - _SHOWN} more in report.json")
    return lines
