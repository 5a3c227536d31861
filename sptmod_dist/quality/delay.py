"""The timing of a take: its latency to a part of a sample, polarity, drift and lost samples.

By the markers where both have them, by cross-correlation otherwise; what happens between is told by
windows in either case. It must not know of files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sptmod_dist.quality.agreement import FOLLOWS, Course, believed, together, wanders
from sptmod_dist.quality.correlation import TRUSTED, Track, grid, rough_delays, track, window_size
from sptmod_dist.quality.drift import NEIGHBOURS, find_steps, place_step, slope_of
from sptmod_dist.quality.marked import Marked
from sptmod_dist.quality.take_report import Step

RELATED, RELATED_PART = 3, 0.05
"""Windows that must be trusted, and their part, before a wet counts as made from the dry."""
MOST_SLOPE = 5e-4
"""The worst clocks are ten times better."""
_SURE = 4.0
_LEAST_DRIFT = 0.5
"""Samples over the whole file: less is not worth a look."""
_FEW, _MANY, _EXACT = 8, 20, 0.02
_LEAST_GAP, _GAP_PART = 8, 0.1
"""Windows, and the part of the file, without a trusted one: then another delay is looked for."""


@dataclass(frozen=True)
class Timing:
    """When the wet follows the dry.

    Args:
        latency: samples, in the middle of the file.
        method: `markers`, `correlation`, `whole` where only all windows together tell the delay,
            or `none` where the wet does not follow.
        slope: by how much the delay grows a sample.
        polarity: 1 or -1.
        steps: samples lost or doubled.
        track: the windows that say something.
    """

    latency: float
    method: str
    slope: float
    polarity: int
    steps: tuple[Step, ...]
    track: Track


def find_timing(dry: np.ndarray, wet: np.ndarray, rate: int, marked: Marked | None) -> Timing:
    """Find it.

    Args:
        marked: the markers, where there are any.

    Shape:
        dry `[T]`, wet `[T']`
    """
    ends = _ends(marked)
    found = _follow(dry, wet, rate, ends)
    points = _with_ends(found, ends)
    line = found if len(found.delays) >= _FEW else points
    slope = slope_of(line.middles, line.delays)
    if not ends and not _related(found, slope, len(grid(len(dry), rate))):
        return _of_the_whole(dry, wet, rate, found)
    known = ends[1][1] - ends[0][1] if len(ends) == 2 else None
    polarity = _polarity(found, marked)
    weighted = _with_ends(found, ends, NEIGHBOURS)
    steps = _steps(dry, wet, rate, weighted, slope, known, polarity)
    slope, steps = _sure(dry, wet, rate, points, slope, steps, known)
    if known is not None and not steps:
        slope = known / (ends[1][0] - ends[0][0])
    elif known is None and abs(slope) * len(dry) < _SURE * _spread(points, slope):
        slope = 0.0
    first = steps[0].seconds * rate if steps else math.inf
    latency = _latency(points, slope, first, ends, len(dry) / 2)
    method = "markers" if ends else "correlation"
    return Timing(latency, method, slope, polarity, tuple(steps), points)


def _of_the_whole(dry: np.ndarray, wet: np.ndarray, rate: int, found: Track) -> Timing:
    """Of steady tones, of which hardly a window has a delay of its own."""
    whole = together(dry, wet, rate)
    near = np.abs(found.delays - whole.delay) < 1
    contradicted = len(near) >= RELATED and 2 * near.sum() < len(near)
    if whole.agreement < FOLLOWS or contradicted:
        return Timing(0.0, "none", 0.0, 1, (), found)
    alike = found.at(near)
    return Timing(whole.delay, "whole", 0.0, whole.sign, (), alike)


def _sure(
    dry: np.ndarray,
    wet: np.ndarray,
    rate: int,
    points: Track,
    slope: float,
    steps: list[Step],
    known: float | None,
) -> tuple[float, list[Step]]:
    """The slope and the steps that are no filter's doing."""
    drifts = known is None and abs(slope) * len(dry) > _LEAST_DRIFT
    if not steps and not drifts:
        return slope, steps
    course = Course(slope, tuple((step.seconds * rate, step.samples) for step in steps))
    begin = float(points.delays[0] - slope * points.middles[0])
    left = believed(dry, wet, rate, begin, course, known is not None)
    if left != course and wanders(dry, wet, rate, points, begin, left):
        return slope, steps
    kept = [step for step in steps if (step.seconds * rate, step.samples) in left.steps]
    return left.slope, kept


def _related(found: Track, slope: float, windows: int) -> bool:
    """Whether enough windows say the same, as no two recordings do by chance."""
    enough = len(found.delays) >= max(RELATED, RELATED_PART * windows)
    return enough and abs(slope) < MOST_SLOPE


def _spread(points: Track, slope: float) -> float:
    """The median distance of the delays from their line."""
    level = points.delays - slope * points.middles
    return float(np.median(np.abs(level - np.median(level))))


def _ends(marked: Marked | None) -> list[tuple[float, float]]:
    """Place and delay of the markers that both have."""
    if marked is None:
        return []
    return [
        (into.position, delay)
        for into, delay in zip(marked.dry, marked.delays, strict=True)
        if delay is not None
    ]


def _follow(
    dry: np.ndarray, wet: np.ndarray, rate: int, ends: list[tuple[float, float]]
) -> Track:
    """The trusted windows of the whole file; where there are none, other delays are tried."""
    starts = grid(len(dry), rate)
    guesses = [delay for _, delay in ends] or rough_delays(dry, wet, rate)
    found = track(dry, wet, rate, starts, guesses[0])
    if len(ends) == 2 and abs(guesses[1] - guesses[0]) < window_size(rate) / 8:
        return found.trusted()
    for guess in guesses[1:]:
        if not ends and _settled(found):
            break
        found.improve(np.arange(len(starts)), track(dry, wet, rate, starts, guess))
    for first, last in _gaps(found):
        for late in rough_delays(dry[starts[first] : starts[last]], wet, rate):
            rows, delay = np.arange(len(starts)), late - starts[first]
            found.improve(rows, track(dry, wet, rate, starts, delay))
    return found.trusted()


def _settled(found: Track) -> bool:
    """Whether most windows are trusted, so that another delay can only hold for a part."""
    return bool(2 * np.sum(found.trust >= TRUSTED) > np.sum(found.broad))


def _gaps(found: Track) -> list[tuple[int, int]]:
    """The long stretches of sound without a trusted window, as first and last window."""
    sounding = np.flatnonzero(found.broad)
    trusted = np.flatnonzero(found.trust[sounding] >= TRUSTED)
    edges = np.concatenate([[-1], trusted, [len(sounding)]])
    least = max(_LEAST_GAP, _GAP_PART * len(sounding))
    return [
        (int(sounding[a + 1]), int(sounding[b - 1]))
        for a, b in zip(edges[:-1], edges[1:], strict=True)
        if b - a - 1 >= least
    ]


def _joined(first: Track, second: Track) -> Track:
    return Track(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("middles", "delays", "trust", "signs", "broad")
        )
    )


def _with_ends(found: Track, ends: list[tuple[float, float]], times: int = 1) -> Track:
    """The windows and the markers, in order; a marker counts as often as `times` says."""
    made = found
    for place, delay in ends:
        sure = np.ones(times)
        made = _joined(made, Track(place * sure, delay * sure, sure, sure, sure))
    return made.at(np.argsort(made.middles, kind="stable"))


def _steps(
    dry: np.ndarray,
    wet: np.ndarray,
    rate: int,
    points: Track,
    slope: float,
    known: float | None,
    polarity: int,
) -> list[Step]:
    steps = []
    for after, samples in find_steps(points.middles, points.delays, slope, known):
        half = window_size(rate) // 2
        between = (int(points.middles[after - 1]) - half, int(points.middles[after]) + half)
        between = max(0, between[0]), min(len(dry), between[1])
        delay = float(points.delays[after - 1])
        place = place_step(dry, wet, between, (delay, delay + samples), polarity)
        steps.append(Step(place / rate, samples))
    return steps


def _latency(
    points: Track,
    slope: float,
    first_step: float,
    ends: list[tuple[float, float]],
    middle: float,
) -> float:
    """In the middle; where samples were lost, that before.

    A compressor whose gain falls within a click moves the marker by some tenths of a sample; many
    windows that agree are not moved.
    """
    whole = math.isinf(first_step)
    level = points.delays - slope * (points.middles - middle)
    early = level[points.middles < first_step]
    level = early if len(early) else level
    windows = float(np.median(level))
    if not ends:
        return windows
    markers = (ends[0][1] + ends[-1][1]) / 2 if whole else ends[0][1]
    error = 2 * float(np.median(np.abs(level - windows))) / math.sqrt(len(level))
    sure = len(level) >= _MANY and error < _EXACT and abs(markers - windows) < 0.5
    return windows if sure else markers


def _polarity(found: Track, marked: Marked | None) -> int:
    clicks = [] if marked is None else [wet.polarity for wet in marked.wet if wet is not None]
    votes = sum(clicks) if clicks else float(found.trust @ found.signs)
    return -1 if votes < 0 else 1
