"""Steady tones whose level steps, found in any audio: where a compressor's timing can be read.

The published stimulus has such steps (DAFx25, section on data); whatever else has them serves as
well. It looks at an input alone and knows nothing of models or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from sptmod_dist.metrics.levels import AUDIBLE_DB, FRAME_SECONDS, frame_levels, frame_samples

STEADY_SECONDS = 0.1
"""So long a level holds before a step and after it."""

LEAST_STEP_DB = 6.0
"""Smaller steps move a gain too little to time it."""

WINDOW_SECONDS = 0.002
"""Length of the sliding window, about: a whole number of periods of the tone."""

LONGEST_STEP_SECONDS = 0.003
"""From a tenth of the power to nine tenths; a step that takes longer is a fade."""

_STEADY_DB = 0.2  # from frame to frame, which need not hold whole periods
_DRIFT_DB = 0.35  # over the frames beside a step
_TONE_SHARE = 0.9  # of the energy, in the highest peak of the spectrum
_LEAST_FRAMES = round(STEADY_SECONDS / FRAME_SECONDS) - 1  # the step may take a part of one
_LONGEST_WINDOW = 3  # frames: a period of 33 Hz

Run = tuple[int, int]
"""Frames [first, end)."""


@dataclass(frozen=True)
class ToneStep:
    """One step of a steady tone."""

    start: int
    """The first sample of the steady level before."""
    place: int
    """The sample at which the level steps."""
    stop: int
    """The end of the steady level after."""
    change_db: float
    """Above 0: attack; below: release."""
    window: int
    """Samples of a sliding window that holds whole periods of the tone."""


def find_tone_steps(audio: np.ndarray, rate: int) -> list[ToneStep]:
    """All steps of at least 6 dB between levels that are steady for 100 ms, in their order.

    Args:
        audio: the input of the device, without its sidechain.
        rate: samples a second.

    Shape: [C, T].
    """
    levels = frame_levels(audio, rate)
    runs = _steady_runs(levels)
    steps = (
        _step(audio, rate, levels, before, after)
        for before, after in zip(runs, runs[1:], strict=False)
    )
    return [step for step in steps if step is not None]


def sliding_power(audio: np.ndarray, window: int) -> np.ndarray:
    """Mean square over all channels of every window of so many samples.

    Shape: [C, T] -> [T - window + 1], none where the audio is shorter.
    """
    power = np.square(audio.astype(np.float64)).mean(axis=0)
    sums = np.concatenate([[0.0], np.cumsum(power)])
    return np.maximum(sums[window:] - sums[:-window], 0) / window


def _steady_runs(levels: np.ndarray) -> list[tuple[int, int]]:
    """Frames [first, end) of audible levels that hold for long enough."""
    breaks = np.flatnonzero(np.abs(np.diff(levels)) > _STEADY_DB) + 1
    bounds = [0, *breaks.tolist(), len(levels)]
    return [
        (first, end)
        for first, end in zip(bounds[:-1], bounds[1:], strict=True)
        if end - first >= _LEAST_FRAMES and levels[first] >= AUDIBLE_DB
    ]


def _step(
    audio: np.ndarray, rate: int, levels: np.ndarray, before: Run, after: Run
) -> ToneStep | None:
    """What lies between two steady runs of frames, if it is a step of a tone."""
    if after[0] - before[1] > 1:  # more than the frame that holds the step
        return None
    ends = levels[before[1] - _LEAST_FRAMES : before[1]], levels[after[0] :][:_LEAST_FRAMES]
    change = float(np.median(ends[1]) - np.median(ends[0]))
    if abs(change) < LEAST_STEP_DB or max(map(np.ptp, ends)) > _DRIFT_DB:
        return None
    frame = frame_samples(rate)
    window = _whole_periods(audio[:, before[0] * frame : before[1] * frame], rate)
    if window is None:
        return None
    start = max(0, (before[1] - 1) * frame - window)
    place = _place(audio[:, start : (after[0] + 1) * frame + window], window, rate)
    if place is None:
        return None
    return ToneStep(before[0] * frame, start + place, after[1] * frame, change, window)


def _place(audio: np.ndarray, window: int, rate: int) -> int | None:
    """The sample at which the power goes from its first value to its last; None if slowly."""
    power = sliding_power(audio, window)
    if power[-1] == power[0]:
        return None
    way = (power - power[0]) / (power[-1] - power[0])
    begins, middle, ends = (int(np.argmax(way >= share)) for share in (0.1, 0.5, 0.9))
    if ends - begins > window + LONGEST_STEP_SECONDS * rate:
        return None
    return middle + window // 2


def _whole_periods(audio: np.ndarray, rate: int) -> int | None:
    """Samples of a window of about 2 ms that holds whole periods; None where there is no tone."""
    channel = audio[np.argmax(np.square(audio).mean(axis=1))].astype(np.float64)
    spectrum = np.abs(fft.rfft(channel * np.hanning(len(channel)))) ** 2
    peak = int(np.argmax(spectrum))
    beside = spectrum[max(0, peak - 3) : peak + 4].sum()
    if not 1 <= peak < len(spectrum) - 1 or beside < _TONE_SHARE * spectrum.sum():
        return None
    lower, top, upper = np.log(spectrum[peak - 1 : peak + 2] + 1e-30)
    bend = min(lower - 2 * top + upper, -1e-9)
    hertz = (peak + 0.5 * (lower - upper) / bend) * rate / len(channel)
    window = round(max(1, round(WINDOW_SECONDS * hertz)) * rate / hertz)
    return window if window <= _LONGEST_WINDOW * frame_samples(rate) else None
