"""The length plan, drawn: a whole sequence true to scale, and its beginning enlarged.

The lookback can be a hundred times as long as what the paths eat, so there are two panels: above
everything on one axis in seconds, below some hundred samples around the output's start, block by
block. Every bar is drawn from where it begins to where it ends, on the panel's own scale. It knows
plans and no weights; the same numbers as text are `lengths_table.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon

from sptmod_dist.figures.png import encode
from sptmod_dist.files import atomic_write
from sptmod_dist.model.config import ModelConfig
from sptmod_dist.model.lengths import GroupLengths
from sptmod_dist.model.rows import BlockRow

_BAR = 0.72
_SIGNAL, _AUDIO, _LOOKBACK = "#6fa3dc", "#69b57a", "#e0b25a"
_CONSUMED, _LOST = "#d1495b", "#8e6bb0"
_STYLE: dict[Any, Any] = {
    "font.size": 15,
    "svg.hashsalt": "sptmod-dist lengths",
    "svg.fonttype": "path",
    "hatch.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


class Piece(NamedTuple):
    """A stretch of a bar, in samples from the output's start."""

    start: int
    stop: int
    kind: str
    """`consumed`, `lost`, `cropped` or `kept`."""


@dataclass(frozen=True)
class Bar:
    """What goes into a block, or what it gives to the audio."""

    name: str
    color: str
    pieces: tuple[Piece, ...]
    note: str


def draw(
    paths: Sequence[Path], name: str, model: ModelConfig, schedule: GroupLengths, rate: int
) -> None:
    """Write the drawing, 1400 pixels wide; the same settings give the same bytes of SVG.

    Args:
        paths: each written whole or not at all, in the format of its suffix.
        name: of the training.
        schedule: of its group.
        rate: samples a second.
    """
    bars = list(block_bars(model, schedule.lengths[0]))
    upper, lower = 2.6 + 0.3 * bool(model.spn), 0.9 + 0.38 * len(bars)
    with matplotlib.rc_context(_STYLE):
        height = upper + lower + 2.2
        figure = Figure(figsize=(14, height), dpi=100)
        whole, zoom = figure.subplots(2, height_ratios=[upper, lower])
        figure.subplots_adjust(
            left=0.135,
            right=0.985,
            top=1 - 0.6 / height,
            bottom=1.1 / height,
            hspace=2.2 / (upper + lower),
        )
        title = _title(name, model, schedule)
        figure.suptitle(title, fontsize=17, y=1 - 0.15 / height, parse_math=False)
        _draw_whole(whole, model, schedule, rate)
        _draw_zoom(zoom, bars, schedule.lengths[0])
        _connect(figure, whole, zoom, rate)
        _explain(figure, bars)
        for path in paths:
            with atomic_write(path) as temporary:
                if path.suffix.lower() == ".svg":
                    figure.savefig(temporary, metadata={"Date": None})
                else:
                    temporary.write_bytes(encode(figure)[0])


def block_bars(model: ModelConfig, target_length: int) -> Iterator[Bar]:
    """The bars of the enlarged panel, from the input down to the audio."""
    rows = model.rows(target_length)
    for number, row in enumerate(rows):
        start = target_length - row.receives
        ready = start + row.consumed + row.lost
        begin = ready + (row.signal_crop or 0)
        pieces = [
            Piece(start, start + row.consumed, "consumed"),
            Piece(start + row.consumed, ready, "lost"),
        ]
        if number + 1 < len(rows):
            pieces += [Piece(ready, begin, "cropped"), Piece(begin, target_length, "kept")]
        else:
            pieces.append(Piece(ready, target_length, "kept"))
        yield Bar(f"block {number}", _SIGNAL, tuple(pieces), _received(row))
        if row.audio_crop is not None:
            crop = Piece(ready, ready + row.audio_crop, "cropped")
            kept = Piece(crop.stop, target_length, "kept")
            note = f"{row.emits:,} out{_crop(row.audio_crop)}"
            modulation = "gain" if row.frames is None else f"$\\mu_{{{number}}}$"
            yield Bar(f"{modulation} to audio", _AUDIO, (crop, kept), note)
    audio = Piece(0, target_length, "kept")
    yield Bar("audio path", _AUDIO, (audio,), f"{target_length:,} in and out")


def _received(row: BlockRow) -> str:
    frames = "" if row.frames is None else f", {row.frames:,} frames"
    return f"{row.receives:,} in, eats {row.consumed:,}{frames}{_crop(row.signal_crop)}"


def _crop(samples: int | None) -> str:
    return f", crop {samples:,}" if samples else ""


def _title(name: str, model: ModelConfig, schedule: GroupLengths) -> str:
    name = name if len(name) < 40 else f"{name[:37]}…"
    parts = len(schedule.lengths)
    return (
        f"{name} ({model.kind}): {schedule.hop:,} samples of output in {parts} "
        f"sub-sequence{'s' * (parts > 1)}, latency {model.latency}"
    )


# The whole sequence -----------------------------------------------------------------------------


def _draw_whole(axes: Axes, model: ModelConfig, schedule: GroupLengths, rate: int) -> None:
    plan = model.plan(schedule.lengths[0])
    begins = plan.modulation_start - plan.target_start
    first, hop, looks = -schedule.target_start, schedule.hop, plan.lookback_length
    axes.set_xlim(first / rate, 2 * hop / rate)
    names: list[str] = []
    if looks:
        _box(axes, len(names), -looks, 0, rate, _LOOKBACK, f"{looks:,} = {looks / rate:.2f} s")
        names.append("lookback")
    paths = (("modulation path", begins, _SIGNAL), ("audio path", 0, _AUDIO))
    for name, start, color in paths:
        _sub_sequences(axes, len(names), start, schedule.lengths, rate, color)
        names.append(name)
    ahead = hop - looks if looks else hop + begins
    _box(axes, len(names), ahead, hop, rate, _LOOKBACK if looks else _SIGNAL, "", alpha=0.35)
    _box(axes, len(names), hop, 2 * hop, rate, _AUDIO, "", alpha=0.35)
    names.append("next sequence")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"seconds at {rate:,} Hz, from where the output starts")
    for edge in (0, hop):
        axes.axvline(edge / rate, color="0.35", linewidth=1, linestyle=":", zorder=0)


def _sub_sequences(
    axes: Axes, row: int, begins: int, lengths: Sequence[int], rate: int, color: str
) -> None:
    start, labels = 0, [f"$L_{{{index}}}$ {length:,}" for index, length in enumerate(lengths)]
    low, high = axes.get_xlim()
    # Where one label is too long for its box, all stand in the empty space beside them.
    fit = min(lengths) / rate > 0.0085 * max(map(len, labels)) * (high - low)
    for length, label in zip(lengths, labels, strict=True):
        first = begins if start == 0 else start
        _box(axes, row, first, start + length, rate, color, label if fit else "")
        start += length
    if not fit:
        text = ", ".join(labels if len(labels) < 7 else [*labels[:2], "…", labels[-1]])
        before, after = begins / rate - low, high - start / rate
        side, x = ("right", begins / rate) if before > after else ("left", start / rate)
        away = -0.01 if before > after else 0.01
        axes.text(x + away * (high - low), row, text, ha=side, va="center")


def _box(
    axes: Axes, row: int, start: int, stop: int, rate: int, color: str, label: str, alpha: float = 1
) -> None:
    left, width = start / rate, (stop - start) / rate
    axes.barh(row, width, _BAR, left, color=color, alpha=alpha, edgecolor="white", linewidth=1.2)
    axes.text(left + width / 2, row, label, ha="center", va="center")


# Its beginning ----------------------------------------------------------------------------------


def _draw_zoom(axes: Axes, bars: Sequence[Bar], length: int) -> None:
    low = min(piece.start for bar in bars for piece in bar.pieces)
    span = max(-low, 64)
    high = min(length, round(0.45 * span))
    axes.set_xlim(low - 0.01 * span, high + 0.55 * (high - low))
    for row, bar in enumerate(bars):
        for piece in bar.pieces:
            _stretch(axes, row, piece, bar.color, high)
        if high < length:
            _break_off(axes, row, high, span)
        axes.text(high + 0.03 * span, row, bar.note, va="center", fontsize=14)
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axes.set_ylim(len(bars) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color="0.35", linewidth=1, linestyle=":", zorder=0)
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:,.0f}".replace("-", "\u2212") for tick in ticks])
    axes.spines["bottom"].set_bounds(low, high)
    on = f", on to {length:,}" if high < length else ""
    axes.set_xlabel(f"samples from where the output starts{on}", x=0.32)


def _stretch(axes: Axes, row: int, piece: Piece, color: str, high: int) -> None:
    width = min(piece.stop, high) - piece.start
    if width <= 0:
        return
    colors = {"consumed": _CONSUMED, "lost": _LOST}
    if piece.kind == "cropped":
        axes.barh(
            row, width, _BAR, piece.start, facecolor="white", edgecolor=color, hatch="////",
            linewidth=0.8,
        )
    else:
        axes.barh(row, width, _BAR, piece.start, color=colors.get(piece.kind, color))


def _break_off(axes: Axes, row: int, at: int, span: int) -> None:
    """Two strokes across a bar's end: it goes on."""
    for shift in (0.012, 0.024):
        x = at - shift * span
        axes.plot(
            [x - 0.004 * span, x + 0.004 * span], [row + 0.42, row - 0.42], color="white",
            linewidth=2.5,
        )


def _connect(figure: Figure, whole: Axes, zoom: Axes, rate: int) -> None:
    """Where the lower panel lies in the upper one: a shade that widens towards it."""
    low, high = zoom.spines["bottom"].get_bounds() or zoom.get_xlim()
    ends = [(whole, x / rate, whole.get_ylim()[0]) for x in (low, high)]
    ends += [(zoom, x, zoom.get_ylim()[1]) for x in (high, low)]
    to_figure = figure.transFigure.inverted()
    corners = [to_figure.transform(axes.transData.transform((x, y))) for axes, x, y in ends]
    shade = Polygon(corners, transform=figure.transFigure, facecolor="0.9", zorder=-1)
    figure.add_artist(shade)


def _explain(figure: Figure, bars: Sequence[Bar]) -> None:
    kinds = {piece.kind for bar in bars for piece in bar.pieces if piece.stop > piece.start}
    known = {
        "consumed": Patch(color=_CONSUMED, label="eaten by the convolution"),
        "lost": Patch(color=_LOST, label="first frame, lost to the upsampler"),
        "cropped": Patch(facecolor="white", edgecolor="0.4", hatch="////", label="cropped"),
    }
    handles = [patch for kind, patch in known.items() if kind in kinds]
    if handles:
        figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False)
