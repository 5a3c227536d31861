"""The report's figures: heat maps, box plots, the gap between ST and WT, curves; PNG and SVG.

It draws numbers and knows nothing of how they were found. Every figure can be read at half its
size: no text is smaller than `_SMALL` points at 100 dots an inch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from sptmod_dist.files import atomic_write
from sptmod_dist.study.tables import Cell

FORMATS = (".png", ".svg")
PAGE = 12
"""Panels of curves in one figure."""
_SIZE, _SMALL = 15, 13
_STYLE: Any = {"font.size": _SIZE, "svg.hashsalt": "sptmod", "axes.titlesize": _SIZE}
_MARKS = "osD^vP*X"


def heat_map(
    path: Path, title: str, panels: Mapping[str, Mapping[Cell, float]], digits: int
) -> None:
    """Tables beside each other under one scale of colours: rows B and N, columns L.

    Args:
        path: without its suffix.
        panels: a title and its cells for each table; a cell that is missing stays blank.
    """
    rows = sorted({(b, n) for cells in panels.values() for n, b, _ in cells})
    columns = sorted({length for cells in panels.values() for _, _, length in cells})
    values = [value for cells in panels.values() for value in cells.values()]
    norm = _norm(values)
    width = len(panels) * (1.3 * len(columns) + 1.6) + 1.6
    with matplotlib.rc_context(_STYLE):
        figure = Figure((max(width, 8.0), 0.5 * len(rows) + 2.2), dpi=100, layout="constrained")
        figure.suptitle(title)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for place, (name, cells) in zip(axes, panels.items(), strict=True):
            _heat(place, name, cells, rows, columns, norm, digits)
        scale = figure.colorbar(ScalarMappable(norm, "viridis_r"), ax=list(axes), shrink=0.9)
        scale.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        scale.ax.yaxis.set_minor_formatter(lambda value, _: "")
        _save(figure, path)


def number(value: float, digits: int) -> str:
    """With so many decimals, or one digit that counts where these would show none."""
    return f"{value:.{digits}f}" if abs(value) >= 10.0**-digits or not value else f"{value:.1g}"


def _norm(values: Sequence[float]) -> Normalize:
    low, high = min(values), max(values)
    if low > 0 and high > 3 * low:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1)


def _heat(
    axes: Axes,
    title: str,
    cells: Mapping[Cell, float],
    rows: Sequence[tuple[int, int]],
    columns: Sequence[int],
    norm: Normalize,
    digits: int,
) -> None:
    table = np.full((len(rows), len(columns)), np.nan)
    for (n, b, length), value in cells.items():
        table[rows.index((b, n)), columns.index(length)] = value
    axes.imshow(np.ma.masked_invalid(table), norm=norm, cmap="viridis_r", aspect="auto")
    best = min(cells.values(), default=math.nan)
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            color = "white" if norm(value) > 0.55 else "black"
            weight = "bold" if value == best else "normal"
            text = number(value, digits)
            axes.text(column, row, text, ha="center", va="center", color=color, weight=weight)
    axes.set_title(title)
    axes.set_xticks(range(len(columns)), [str(length) for length in columns])
    axes.set_yticks(range(len(rows)), [f"B {b}  N {n}" for b, n in rows])
    axes.set_xlabel("L, samples")
    edges = [k - 0.5 for k in range(1, len(rows)) if rows[k][0] != rows[k - 1][0]]
    axes.hlines(edges, -0.5, len(columns) - 0.5, color="white", linewidth=3)
    axes.tick_params(length=0)


def box_plots(path: Path, title: str, label: str, boxes: Mapping[str, Sequence[float]]) -> None:
    """A box a name, with every value beside it; boxes lie, so that long names can be read."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure((11, 0.55 * len(boxes) + 2.0), dpi=100, layout="constrained")
        axes = figure.subplots()
        axes.boxplot(list(boxes.values()), orientation="horizontal", widths=0.6, showfliers=False)
        for number, values in enumerate(boxes.values(), 1):
            height = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
            axes.plot(values, number + np.asarray(height), "o", color="C0", alpha=0.6, ms=5)
        axes.set_yticks(range(1, len(boxes) + 1), list(boxes))
        axes.invert_yaxis()
        axes.set(title=title, xlabel=label)
        axes.grid(axis="x", alpha=0.4)
        _save(figure, path)


def gap(path: Path, title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """A quantity over N, a line a name."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure((11, 6.5), dpi=100, layout="constrained")
        axes = figure.subplots()
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, max(2, len(lines))))
        for number, (name, points) in enumerate(lines.items()):
            x, y = zip(*points, strict=True)
            mark = _MARKS[number % len(_MARKS)]
            axes.plot(x, y, marker=mark, color=colors[number], label=name, ms=8)
        axes.set_xticks(sorted({x for points in lines.values() for x, _ in points}))
        axes.axhline(0, color="0.6", linewidth=1)
        axes.set(title=title, xlabel="N", ylabel="median of ST - WT, x 10")
        axes.grid(alpha=0.4)
        columns = 1 if len(lines) <= 14 else 2
        figure.legend(loc="outside right upper", fontsize=_SMALL, ncols=columns)
        _save(figure, path)


def curves(
    path: Path, title: str, panels: Mapping[str, Sequence[Sequence[tuple[int, float, float]]]]
) -> None:
    """ST and WT over iterations, a panel a configuration, a line a training.

    Args:
        panels: of each configuration, for each training (iteration, ST, WT); `PAGE` at most.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    with matplotlib.rc_context(_STYLE):
        size = (4.6 * columns + 0.8, 3.0 * rows + 1.3)
        figure = Figure(size, dpi=100, layout="constrained")
        figure.suptitle(f"{title}: ST (lines), WT (dashed)")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
        for place, (name, trainings) in zip(axes, panels.items(), strict=False):
            _curves(place, name, trainings)
        for place in list(axes)[len(panels) :]:
            place.set_visible(False)
        figure.supxlabel("iterations")
        figure.supylabel("validation loss")
        _save(figure, path)


def _curves(
    axes: Axes, title: str, trainings: Sequence[Sequence[tuple[int, float, float]]]
) -> None:
    for number, points in enumerate(trainings):
        iterations, st, wt = zip(*points, strict=True)
        mark = "o" if len(points) == 1 else ""
        axes.plot(iterations, st, f"{mark}-", color=f"C{number % 10}", linewidth=1.5)
        axes.plot(iterations, wt, "--", color=f"C{number % 10}", linewidth=0.9)
    if max((max(p[1], p[2]) for t in trainings for p in t), default=0) > 0:
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:.3g}")
    axes.tick_params(which="both", labelsize=_SMALL)
    axes.tick_params(axis="x", labelrotation=0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_title(title, fontsize=_SMALL)
    axes.grid(alpha=0.4, which="both")


def _save(figure: Figure, path: Path) -> None:
    for suffix in FORMATS:
        with atomic_write(path.with_name(path.name + suffix)) as temporary:
            figure.savefig(temporary, metadata={"Date": None} if suffix == ".svg" else None)
