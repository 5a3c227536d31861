"""How a delay develops: a clock that runs apart, and samples that were lost or came twice.

It works on the delays of windows and knows no audio but where it places a step.
"""

from __future__ import annotations

import numpy as np

SURE_SAMPLES = 16
"""A step of so many is believed in any case. A device with filters delays bright sounds and dull
ones differently, by a few samples."""
NEIGHBOURS = 5
"""Windows a side that a step is told from."""
_LEAST_STEP = 0.75
_CLEAR = 4.0  # times the distance from their median that most windows keep
_OFF_WHOLE = 0.3  # samples get lost whole


def slope_of(places: np.ndarray, delays: np.ndarray) -> float:
    """By how much the delay grows a sample, steps and stray windows left out: the median slope
    between windows up to a quarter of the file apart.

    Shape:
        `[W]` twice, in ascending places
    """
    reach = max(1, len(places) // 4)
    slopes = [
        (delays[apart:] - delays[:-apart]) / (places[apart:] - places[:-apart])
        for apart in range(max(1, reach // 2), reach + 1)
    ]
    return float(np.median(np.concatenate(slopes))) if len(places) > 1 else 0.0


def find_steps(
    places: np.ndarray, delays: np.ndarray, slope: float, known: float | None = None
) -> list[tuple[int, int]]:
    """Where the delay jumps for good, by whole samples.

    Args:
        slope: of a clock that runs apart.
        known: the delay's whole change, where markers tell it.

    Shape:
        `[W]` twice, in ascending places

    Returns:
        The first window after each step, and the step in samples.
    """
    level = delays - slope * places
    edges = _apart(_edges(level))
    bounds = [0, *edges, len(level)]
    medians = [np.median(level[a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    spread = _spread(level, bounds)
    steps = [
        (edge, round(float(step)))
        for edge, step in zip(edges, np.diff(medians), strict=True)
        if abs(step - round(float(step))) <= _OFF_WHOLE
        and abs(step) >= max(_LEAST_STEP, _CLEAR * spread)
    ]
    rest = None if known is None else known - slope * (places[-1] - places[0])
    if _believed(steps, rest):
        return steps
    large = [(edge, step) for edge, step in steps if abs(step) >= SURE_SAMPLES]
    return large if _explain(large, rest) else []


def _spread(level: np.ndarray, bounds: list[int]) -> float:
    """Within which nine of ten windows lie around the median between two steps."""
    pieces = [level[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    apart = np.concatenate([np.abs(piece - np.median(piece)) for piece in pieces])
    return float(np.percentile(apart, 90))


def place_step(
    dry: np.ndarray,
    wet: np.ndarray,
    between: tuple[int, int],
    delays: tuple[float, float],
    polarity: int,
) -> int:
    """The sample of the dry from which on the second delay fits better than the first.

    Args:
        between: samples of the dry before and after the step.
        delays: before and after.
        polarity: 1 or -1.

    Shape:
        dry `[T]`, wet `[T']`
    """
    frame = 128
    first, last = between
    count = max(1, (last - first) // frame)
    scores = [
        _likeness(dry, polarity * wet, first, count, frame, round(delay)) for delay in delays
    ]
    gained = np.cumsum(scores[0] - scores[1])
    return first + frame * (int(np.argmax(gained)) + 1 if gained.max() > 0 else 0)


def _edges(level: np.ndarray) -> list[int]:
    """The windows at which the median of some windows differs from that of some before, each the
    sharpest of its surroundings."""
    n = NEIGHBOURS
    if len(level) < 2 * n:
        return []
    jumps = np.zeros(len(level))
    for at in range(n, len(level) - n + 1):
        jumps[at] = abs(np.median(level[at : at + n]) - np.median(level[at - n : at]))
    edges: list[int] = []
    for at in np.argsort(-jumps):
        if jumps[at] >= _LEAST_STEP and all(abs(at - other) >= n for other in edges):
            edges.append(_sharpest(level, int(at)))
    return sorted(set(edges))


def _apart(edges: list[int]) -> list[int]:
    """Without what comes back within a few windows: music that is alike elsewhere."""
    for at in range(len(edges) - 1):
        if edges[at + 1] - edges[at] < NEIGHBOURS:
            return _apart(edges[:at] + edges[at + 2 :])
    return edges


def _sharpest(level: np.ndarray, at: int) -> int:
    """Of the windows near `at` the first that is nearer to what comes after."""
    n = NEIGHBOURS
    before, after = np.median(level[at - n : at]), np.median(level[at : at + n])
    costs = [
        np.abs(level[at - n : edge] - before).sum() + np.abs(level[edge : at + n] - after).sum()
        for edge in range(at - n + 1, at + n)
    ]
    return at - n + 1 + int(np.argmin(costs))


def _believed(steps: list[tuple[int, int]], known: float | None) -> bool:
    """Whether small steps are steps: all one way, and as many as the markers say."""
    return len({step > 0 for _, step in steps}) < 2 and _explain(steps, known)


def _explain(steps: list[tuple[int, int]], known: float | None) -> bool:
    """Whether the steps together are what lies between the markers."""
    return known is None or abs(sum(step for _, step in steps) - known) < 1.0


def _likeness(
    dry: np.ndarray, wet: np.ndarray, first: int, count: int, frame: int, delay: int
) -> np.ndarray:
    """How alike the frames of both are in form, whatever the gain; loud ones count for more.
    `[count]`"""
    before = np.zeros((count, frame))
    after = np.zeros((count, frame))
    for row in range(count):
        start = first + row * frame
        if 0 <= start + delay and start + delay + frame <= len(wet) and start + frame <= len(dry):
            before[row] = dry[start : start + frame]
            after[row] = wet[start + delay : start + delay + frame]
    loud = np.sqrt(np.square(before).sum(1))
    return np.maximum((before * after).sum(1), 0.0) ** 2 / (loud * np.square(after).sum(1) + 1e-12)
