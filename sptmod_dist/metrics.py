"""Figures that describe how close an effect comes: ESR, the best static gain, the level curve.

Plain functions on NumPy arrays or CPU tensors, in float64, without gradients or floors: these
report, `losses.py` trains. They know nothing of models or files.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

FRAME_SECONDS = 0.01
"""Length of the frames whose levels are compared: 10 ms, ten periods of the 1 kHz steps."""

LOWEST_DB = -70.0
"""Input levels below this have no place in a level curve: silence has no gain."""

LEAST_FRAMES = 5
"""A bin with fewer frames says more about chance than about the effect."""


class StaticGain(NamedTuple):
    """The best that a mere volume knob can do."""

    gain: float
    """The factor `g` that minimises the sum of (y - g x)^2."""
    error: float
    """That least sum."""
    esr: float
    """The same over the energy of y."""


class LevelCurve(NamedTuple):
    """Output level against input level, RMS in dB of full scale, in ascending input level."""

    input_db: np.ndarray
    output_db: np.ndarray


def energy(audio: ArrayLike) -> float:
    """Sum of squares."""
    flat = np.asarray(audio, dtype=np.float64).ravel()
    return float(flat @ flat)


def error_energy(prediction: ArrayLike, target: ArrayLike) -> float:
    """Sum of squared differences.

    Raises:
        ValueError: shapes that differ.
    """
    p, y = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if p.shape != y.shape:
        raise ValueError(f"prediction {p.shape} and target {y.shape} must have one shape")
    return energy(p - y)


def ratio(error: float, reference: float) -> float:
    """An error over a reference: infinite against nothing, unless the error is nothing too."""
    if reference == 0:
        return 0.0 if error == 0 else float("inf")
    return error / reference


def esr(prediction: ArrayLike, target: ArrayLike) -> float:
    """Error-to-signal ratio: the error's energy over the target's, over all samples given.

    Shape: any, both the same.
    """
    return ratio(error_energy(prediction, target), energy(target))


def best_static_gain(input: ArrayLike, target: ArrayLike) -> StaticGain:
    """The one number that, multiplied onto the input, comes closest to the target.

    Shape: any, both the same. A silent input gets the gain 0.
    """
    x, y = np.asarray(input, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"input {x.shape} and target {y.shape} must have one shape")
    size = energy(x)
    gain = float(x.ravel() @ y.ravel()) / size if size else 0.0
    error = energy(y - gain * x)
    return StaticGain(gain, error, ratio(error, energy(y)))


def frame_levels(audio: ArrayLike, sample_rate: int) -> np.ndarray:
    """RMS over all channels of each whole frame of 10 ms, in dB of full scale; -200 for silence.

    A full-scale sine has -3 dB.

    Shape: [C, T] -> [K].
    """
    x = np.asarray(audio, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"audio {x.shape} must be [C, T]")
    frame = max(1, round(FRAME_SECONDS * sample_rate))
    frames = x[:, : x.shape[1] // frame * frame].reshape(x.shape[0], -1, frame)
    return 10 * np.log10(np.maximum(np.square(frames).mean(axis=(0, 2)), 1e-20))


def level_curve(input_levels: np.ndarray, output_levels: np.ndarray) -> LevelCurve:
    """Which level comes out for which level in: the median of each bin of input level.

    The median leaves out the moments in which the gain is still moving.

    Args:
        input_levels: `frame_levels` of what steers the effect (the sidechain where there is one).
        output_levels: those of its output, of the same frames.

    Shape: [K] twice.
    """
    heard = input_levels >= LOWEST_DB
    input_levels, output_levels = input_levels[heard], output_levels[heard]
    bins = np.round(input_levels)  # of 1 dB
    points = []
    for value in np.unique(bins):
        inside = bins == value
        if np.count_nonzero(inside) >= LEAST_FRAMES:
            points.append((np.median(input_levels[inside]), np.median(output_levels[inside])))
    columns = np.array(points, dtype=np.float64).reshape(-1, 2)
    return LevelCurve(columns[:, 0], columns[:, 1])
