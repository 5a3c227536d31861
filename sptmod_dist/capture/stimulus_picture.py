"""A picture of a stimulus: waveform, level and spectrogram over time, with its parts named.

It draws numbers and knows nothing of how they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sptmod_dist.files import atomic_write

COLUMNS = 1_250
LOWEST_DB = -80.0
_BANDS = 160
_WINDOW_SECONDS = 0.05
_COLORS = ("0.82", "#cfe3f5", "#fbe3c8", "#d9efd3", "#ecdcf0", "#f7d6d6")


def draw(
    path: Path,
    audio: np.ndarray,
    rate: int,
    sections: Sequence[tuple[str, float, float]],
    title: str,
) -> None:
    """Write the picture as a PNG file, 1400 x 900 pixels.

    Args:
        path: written whole or not at all.
        audio: at least 1 s.
        rate: in Hz.
        sections: the parts in order of time: name, begin and end in seconds.
        title: stands above.

    Shape:
        audio `[T]`
    """
    with matplotlib.rc_context({"font.size": 12}):
        figure = Figure(figsize=(14, 9), dpi=100, layout="constrained")
        figure.suptitle(title)
        waveform, level, spectrum = figure.subplots(3, sharex=True, height_ratios=[2, 2, 3])
        _draw_waveform(waveform, audio, rate)
        _draw_level(level, audio, rate)
        _draw_spectrogram(spectrum, audio, rate)
        _mark(waveform, level, sections)
        spectrum.set_xlim(0, len(audio) / rate)
        with atomic_write(path) as temporary:
            figure.savefig(temporary)


def _draw_waveform(axes: Axes, audio: np.ndarray, rate: int) -> None:
    columns, times = _columns(audio, rate)
    axes.fill_between(times, columns.min(axis=1), columns.max(axis=1), color="C0", linewidth=0)
    axes.set(ylabel="waveform", ylim=(-1.05, 1.05))


def _draw_level(axes: Axes, audio: np.ndarray, rate: int) -> None:
    columns, times = _columns(audio, rate)
    peaks = np.maximum(np.abs(columns).max(axis=1), 10 ** (LOWEST_DB / 20))
    axes.plot(times, 20 * np.log10(peaks), color="C3", linewidth=1)
    axes.set(ylabel="peak level, dB", ylim=(LOWEST_DB, 3), yticks=range(-80, 1, 20))
    axes.grid(axis="y", color="0.85")


def _draw_spectrogram(axes: Axes, audio: np.ndarray, rate: int) -> None:
    levels, times, edges = spectrogram(audio, rate)
    image = axes.pcolormesh(
        times, edges, levels, cmap="magma", vmin=LOWEST_DB, vmax=0.0, rasterized=True
    )
    axes.set(yscale="log", ylabel="frequency, Hz", xlabel="time, s")
    ticks = [50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000]
    ticks = [tick for tick in ticks if edges[0] <= tick <= edges[-1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.figure.colorbar(image, ax=axes, label="dB", pad=0.01)


def _mark(top: Axes, below: Axes, sections: Sequence[tuple[str, float, float]]) -> None:
    """Colour the parts and write their names, short parts upright."""
    for number, (name, begin, end) in enumerate(sections):
        for axes in (top, below):
            axes.axvspan(begin, end, color=_COLORS[number % len(_COLORS)], zorder=0)
        top.annotate(
            name,
            ((begin + end) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=90 if end - begin < 10 else 0,
        )


def spectrogram(audio: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The loudest bin of each of 160 bands from 40 Hz on, in dB of a full-scale sine.

    Shape:
        `[bands, columns]`, the columns' edges in seconds `[columns + 1]`, the bands' edges in Hz
        `[bands + 1]`
    """
    size = round(_WINDOW_SECONDS * rate)
    window = np.hanning(size) / (np.hanning(size).sum() / 2)
    edges = np.geomspace(40.0, rate / 2, _BANDS + 1)
    bins = np.clip((edges * size / rate).astype(int), 0, size // 2)
    starts = np.linspace(0, len(audio) - size, 2 * COLUMNS).astype(int)
    levels = np.empty((_BANDS, COLUMNS))
    for column in range(COLUMNS):
        pair = starts[2 * column : 2 * column + 2]
        magnitude = np.abs(np.fft.rfft([window * audio[at : at + size] for at in pair])).max(axis=0)
        levels[:, column] = np.maximum.reduceat(magnitude, bins[:-1])
    times = np.linspace(0, len(audio) / rate, COLUMNS + 1)
    return 20 * np.log10(np.maximum(levels, 10 ** (LOWEST_DB / 20))), times, edges


def _columns(audio: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """`[columns, n]`, a few samples at the end left out, and each column's middle in seconds."""
    length = len(audio) // COLUMNS
    columns = audio[: COLUMNS * length].reshape(COLUMNS, length)
    return columns, (np.arange(COLUMNS) + 0.5) * length / rate
