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
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from sptmod_dist.files import atomic_write
from sptmod_dist.study.tables import Cell

FORMATS = (".png", ".svg")
PAGE = 12
"""Panels of curves in one figure."""
BOXES = 20
"""Box plots in one figure."""
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
        scale.ax.minorticks_off()
        marks = _between(norm)
        scale.set_ticks(marks, labels=[number(mark, digits) for mark in marks])
        _save(figure, path)


def number(value: float, digits: int) -> str:
    """With so many decimals, or one digit that counts where these would show none."""
    return f"{value:.{digits}f}" if abs(value) >= 10.0**-digits or not value else f"{value:.1g}"


def _between(norm: Normalize) -> list[float]:
    """Some values along a scale, its ends among them."""
    return [float(norm.inverse(share)) for share in (0, 0.25, 0.5, 0.75, 1)]


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
    best, colors = min(cells.values(), default=math.nan), matplotlib.colormaps["viridis_r"]
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            red, green, blue, _ = colors(float(norm(value)))
            color = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else "black"
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


def gap(path: Path, title: str, cells: Mapping[Cell, float]) -> None:
    """A quantity over N, a line a B (its colour) and L (its mark)."""
    lines: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for (n, b, length), value in sorted(cells.items(), key=lambda cell: cell[0][1:]):
        lines.setdefault((b, length), []).append((n, value))
    batches, lengths = (sorted({key[place] for key in lines}) for place in (0, 1))
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(batches)))
    with matplotlib.rc_context(_STYLE):
        figure = Figure((12, 6.5), dpi=100, layout="constrained")
        axes = figure.subplots()
        for (b, length), points in lines.items():
            x, y = zip(*sorted(points), strict=True)
            mark, name = _MARKS[lengths.index(length) % len(_MARKS)], f"B {b}, L {length}"
            color = colors[batches.index(b)]
            axes.plot(x, y, marker=mark, color=color, label=name, ms=9, alpha=0.85)
        axes.set_xticks(sorted({n for n, _, _ in cells}))
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
        axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
        _scale(axes[0], [value for t in panels.values() for p in t for _, *v in p for value in v])
        for place, (name, trainings) in zip(axes, panels.items(), strict=False):
            _curves(place, name, trainings)
        for place in axes[len(panels) :]:
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
    axes.tick_params(which="both", labelsize=_SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_title(title, fontsize=_SMALL)
    axes.grid(alpha=0.4, which="both")


def _scale(axes: Axes, values: Sequence[float]) -> None:
    """Losses that differ by much are shown by their logarithms; all panels share the axis."""
    if min(values) > 0 and max(values) > 3 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")


def _save(figure: Figure, path: Path) -> None:
    for suffix in FORMATS:
        with atomic_write(path.with_name(path.name + suffix)) as temporary:
            figure.savefig(temporary, metadata={"Date": None} if suffix == ".svg" else None)
