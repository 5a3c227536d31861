"""Levels in frames of 10 ms: the static level curve, and the gain over time.

Plain functions on NumPy arrays or CPU tensors, in float64; they know nothing of models or files.
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

AUDIBLE_DB = -60.0
"""Where the input is quieter, a gain is a ratio of noises and not judged."""

OUTPUT_FLOOR_DB = -100.0
"""Lower levels of an output count as this: a gate's gain has an end."""


class LevelCurve(NamedTuple):
    """Output level against input level, RMS in dB of full scale, in ascending input level."""

    input_db: np.ndarray
    output_db: np.ndarray


def frame_samples(rate: int) -> int:
    """Samples of a frame: 10 ms, as nearly as whole samples can be."""
    return max(1, round(FRAME_SECONDS * rate))


def frame_levels(audio: ArrayLike, sample_rate: int) -> np.ndarray:
    """RMS over all channels of each whole frame of 10 ms, in dB of full scale; -200 for silence.

    A full-scale sine has -3 dB.

    Shape: [C, T] -> [K].
    """
    x = np.asarray(audio)
    if x.ndim != 2:
        raise ValueError(f"audio {x.shape} must be [C, T]")
    frame = frame_samples(sample_rate)
    frames = x[:, : x.shape[1] // frame * frame].reshape(x.shape[0], -1, frame)
    power = np.einsum("ckn,ckn->k", frames, frames, dtype=np.float64, casting="safe")
    return 10 * np.log10(np.maximum(power / (x.shape[0] * frame), 1e-20))


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


def gain_curve(input: ArrayLike, output: ArrayLike, rate: int) -> np.ndarray:
    """The gain over time, a compressor's own quantity: the output's level minus the input's, in dB.

    One value a whole frame of 10 ms: L(output) - L(input), where L(x) is 10 log10 of the mean
    square over all channels. NaN where the input is below `AUDIBLE_DB`; an output below
    `OUTPUT_FLOOR_DB` counts as that.

    Args:
        input: the audio input, not the sidechain.
        output: the device's or a model's, aligned with it.
        rate: samples a second.

    Shape: [C, T] twice -> [K].

    Raises:
        ValueError: shapes that differ.
    """
    x, y = np.asarray(input), np.asarray(output)
    if x.shape != y.shape:
        raise ValueError(f"input {x.shape} and output {y.shape} must have one shape")
    return gain_of_levels(frame_levels(x, rate), frame_levels(y, rate))


def gain_of_levels(input_levels: np.ndarray, output_levels: np.ndarray) -> np.ndarray:
    """`gain_curve` of levels that are known already. Shape: [K] twice -> [K]."""
    gain = np.maximum(output_levels, OUTPUT_FLOOR_DB) - input_levels
    return np.where(input_levels >= AUDIBLE_DB, gain, np.nan)
