"""Spectrograms side by side on one scale: a target, a prediction, and what is between them.

It draws numbers and knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

LOWEST_DB, HIGHEST_DB = -100.0, -10.0
"""Of the colours; a full-scale sine has 0 dB."""
LOWEST_HZ = 40.0
_BANDS, _COLUMNS, _WINDOW_SECONDS = 96, 165, 0.046
_COLORS = 64  # together with the greys of letters few enough for a palette
_TICKS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)


def fill(figure: Figure, signals: Mapping[str, np.ndarray], rate: int) -> None:
    """Draw the signals side by side, in one pair of axes: more of them would take most of the time.

    Args:
        figure: without a layout of its own; the space below 0.86 of its height is used.
        signals: by title, all of one length.
        rate: samples a second.

    Shape: each [C, T].
    """
    axes = figure.add_axes((0.07, 0.15, 0.85, 0.65))
    bar = figure.add_axes((0.932, 0.15, 0.012, 0.65))
    seconds = next(iter(signals.values())).shape[1] / rate
    step = 1.04 * seconds
    for number, (title, signal) in enumerate(signals.items()):
        levels, edges = band_levels(signal, rate)
        image = axes.imshow(
            levels,
            origin="lower",
            aspect="auto",
            extent=(number * step, number * step + seconds, 0, _BANDS),
            cmap=colormaps["magma"].resampled(_COLORS),
            vmin=LOWEST_DB,
            vmax=HIGHEST_DB,
            interpolation="nearest",
        )
        axes.text(number * step + seconds / 2, 1.03 * _BANDS, title, ha="center", fontsize="large")
    axes.set_xlim(0, (len(signals) - 1) * step + seconds)
    axes.set(xlabel="seconds", ylabel="Hz")
    axes.set_frame_on(False)
    _mark_seconds(axes, seconds, [number * step for number in range(len(signals))])
    _mark_hertz(axes, edges)
    figure.colorbar(image, cax=bar)
    bar.set_title("dB", fontsize="medium")


def band_levels(signal: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The loudest bin of each band and column, mean power over channels, in dB of a full-scale
    sine; and the bands' edges in Hz.

    Shape: signal [C, T] -> [96, columns], [97].
    """
    size = max(16, round(_WINDOW_SECONDS * rate))
    signal = np.pad(signal, ((0, 0), (0, max(0, size - signal.shape[1]))))
    window = np.hanning(size) / (np.hanning(size).sum() / 2)
    columns = min(_COLUMNS, signal.shape[1] - size + 1)
    starts = np.linspace(0, signal.shape[1] - size, columns).astype(int)
    frames = signal[:, starts[:, None] + np.arange(size)] * window  # [C, columns, size]
    power = np.square(np.abs(np.fft.rfft(frames))).mean(0)  # [columns, bins]
    edges = np.geomspace(min(LOWEST_HZ, rate / 8), rate / 2, _BANDS + 1)
    bins = np.clip((edges * size / rate).astype(int), 0, size // 2)
    loudest = np.maximum.reduceat(power, bins[:-1], axis=1)
    return 10 * np.log10(np.maximum(loudest, 1e-20)).T, edges


def _mark_seconds(axes: Axes, seconds: float, starts: Sequence[float]) -> None:
    ticks = [tick for tick in MaxNLocator(5).tick_values(0, seconds) if 0 <= tick < seconds]
    axes.set_xticks([start + tick for start in starts for tick in ticks])
    axes.set_xticklabels([f"{tick:g}" for _ in starts for tick in ticks])


def _mark_hertz(axes: Axes, edges: np.ndarray) -> None:
    ticks = [tick for tick in _TICKS if edges[0] <= tick <= edges[-1]]
    places = np.interp(np.log(ticks), np.log(edges), np.arange(len(edges)))
    names = [f"{tick // 1000}k" if tick >= 1000 else f"{tick}" for tick in ticks]
    axes.set_yticks(places, names)
