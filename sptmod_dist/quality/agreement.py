"""What all windows of a take say together, where each alone may be wrong.

A device with filters delays bright sounds and dull ones differently, so that the delay of windows
wanders with the music; but each frequency keeps its phase. How well the windows agree frequency by
frequency tells lost samples, and a clock that runs apart, from that. And where tones are so steady
that hardly a window has a delay of its own, all windows added up may have one. It must not know of
files or markers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter

from sptmod_dist.quality.correlation import (
    CHUNK,
    Track,
    grid,
    peaks,
    rough_delays,
    white_windows,
    window_size,
)

FOLLOWS = 0.2
"""Of 1, how much all windows together must agree before a wet counts as made from the dry.
Unrelated music reaches 0.15, and most of it 0.05."""
GAIN = 1.01
"""By how much windows must agree better with a step or a drift than without. Lost samples gain 2 %
and more, filters nothing."""
_SMOOTH = 5
"""Windows whose median counts."""
_MOST_STEPS = 8
"""More are not tried one by one."""


class Together(NamedTuple):
    """The delay of all windows together in samples, its sign, and how much they agree on it."""

    delay: float
    sign: int
    agreement: float


class Course(NamedTuple):
    """How a delay develops: by `slope` a sample, and by `steps`, each a place in the dry and the
    samples that the delay grows there."""

    slope: float
    steps: tuple[tuple[float, int], ...]


def together(dry: np.ndarray, wet: np.ndarray, rate: int) -> Together:
    """The best delay of all windows together, near those that onsets suggest.

    Shape:
        dry `[T]`, wet `[T']`
    """
    guesses = rough_delays(dry, wet, rate)
    return max((_near(dry, wet, rate, guess) for guess in guesses), key=lambda one: one.agreement)


def believed(
    dry: np.ndarray,
    wet: np.ndarray,
    rate: int,
    latency: float,
    course: Course,
    known: bool = False,
) -> Course:
    """What is left of a course without that which does not let the windows agree better.

    Args:
        latency: where the course begins, in samples.
        known: markers tell the slope, and what the steps are together; only steps that cancel each
            other may go.

    Shape:
        dry `[T]`, wet `[T']`
    """
    most = _agreement(dry, wet, rate, _delays(len(dry), rate, latency, course))
    found = [
        (_agreement(dry, wet, rate, _delays(len(dry), rate, latency, simpler)), simpler)
        for simpler in _simpler(course)
        if not known or (simpler.slope, _sum(simpler)) == (course.slope, _sum(course))
    ]
    best, simpler = max(found, key=lambda one: one[0], default=(0.0, course))
    if not found or GAIN * best < most:
        return course
    return believed(dry, wet, rate, latency, simpler, known)


def wanders(
    dry: np.ndarray,
    wet: np.ndarray,
    rate: int,
    track: Track,
    latency: float,
    course: Course,
) -> bool:
    """Whether the windows agree better with the delays that they have themselves than with a
    course: then something happened that it does not tell.

    Args:
        track: windows with a delay of their own, in order.

    Shape:
        dry `[T]`, wet `[T']`
    """
    middles = grid(len(dry), rate) + window_size(rate) / 2
    smooth = median_filter(track.delays, _SMOOTH, mode="nearest")
    own = _agreement(dry, wet, rate, np.interp(middles, track.middles, smooth))
    return own > GAIN * _agreement(dry, wet, rate, _delays(len(dry), rate, latency, course))


def _sum(course: Course) -> int:
    return sum(samples for _, samples in course.steps)


def _simpler(course: Course) -> Iterator[Course]:
    """Nothing at all, the slope or the steps alone, two steps fewer, one fewer."""
    slope, steps = course
    found = [Course(0.0, ()), Course(slope, ()), Course(0.0, steps)]
    if len(steps) <= _MOST_STEPS:
        for fewer in (2, 1):
            found += [
                Course(slope, steps[:at] + steps[at + fewer :])
                for at in range(len(steps) - fewer + 1)
            ]
    return (one for one in found if one != course)


def _delays(frames: int, rate: int, latency: float, course: Course) -> np.ndarray:
    """The delay of each window on a course. `[W]`"""
    middles = grid(frames, rate) + window_size(rate) / 2
    delays = latency + course.slope * middles
    for place, samples in course.steps:
        delays = delays + samples * (middles >= place)
    return delays


def _agreement(dry: np.ndarray, wet: np.ndarray, rate: int, delays: np.ndarray) -> float:
    """How large the sum of all windows is, whatever the phase of a frequency, when the wet is late
    by these delays, `[W]`."""
    size, starts = window_size(rate), grid(len(dry), rate)
    shifts = np.rint(delays).astype(int)
    omega = (2 * np.pi / size * np.arange(size // 2 + 1)).astype(np.float32)
    whole = np.zeros(len(omega), np.complex128)
    for rows in _chunks(starts, shifts, size, len(wet)):
        white, _ = white_windows(dry, wet, starts[rows], (starts + shifts)[rows], size)
        angle = omega * (delays - shifts)[rows, None].astype(np.float32)
        whole += (white * (np.cos(angle) - 1j * np.sin(angle))).sum(axis=0)
    return float(np.abs(whole).sum())


def _near(dry: np.ndarray, wet: np.ndarray, rate: int, guess: float) -> Together:
    size, starts = window_size(rate), grid(len(dry), rate)
    shifts = np.full(len(starts), round(guess))
    whole, total = np.zeros((1, size // 2 + 1), np.complex64), 1e-20
    for rows in _chunks(starts, shifts, size, len(wet)):
        white, _ = white_windows(dry, wet, starts[rows], (starts + shifts)[rows], size)
        whole += white.sum(axis=0)
        total += float(np.abs(white).sum()) * 2 / size
    late, signs, height, _ = peaks(whole, size)
    return Together(round(guess) + float(late[0]), int(signs[0]), float(height[0]) / total)


def _chunks(
    starts: np.ndarray, shifts: np.ndarray, size: int, frames: int
) -> Iterator[np.ndarray]:
    """The windows that the wet has, some at a time, by number."""
    places = starts + shifts
    inside = np.flatnonzero((places >= 0) & (places + size <= frames))
    return (inside[at : at + CHUNK] for at in range(0, len(inside), CHUNK))
