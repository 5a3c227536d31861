"""Dropouts: moments in which the wet is cut off, at once, while the dry goes on.

A gate closes when the dry has become quiet and takes its time; a compressor's attack does not come
back within milliseconds. It knows frames alone.
"""

from __future__ import annotations

import numpy as np

from sptmod_dist.quality.frames import Frames

LEAST_FRAMES = 3
"""Frames that are dead as a whole: a dropout of 5 ms has four."""
_BESIDE = 5  # frames a side that show how it should be
_ABRUPT = 0.03  # of the gain's power beside it, within two frames
_EVEN = 0.25  # before that
_SHUT, _NEAR, _OFTEN = 0.01, 4.0, 0.01
_BELOW = 0.9
_WELL_HEARD = 1e-6
_STEADY = 0.02  # the dry's power in the dropout, of that beside it
_HEARD = 1e-8
_SILENT = 1e-9  # -90 dB
_QUIETEST = 0.5
"""Percentile of the wet's frames that is taken for its noise where the dry is never silent."""


def find_dropouts(frames: Frames, noise: float | None) -> list[float]:
    """When dropouts begin, in seconds of the dry.

    Args:
        noise: the wet's mean square while the dry is silent; None: it never is.
    """
    heard = frames.dry > _HEARD
    if len(frames.dry) < 4 * _BESIDE or not heard.any():
        return []
    floor = float(np.percentile(frames.moving, _QUIETEST)) if noise is None else noise
    limit = max(_SILENT, 2 * floor)
    dead = heard & (frames.moving < limit)
    runs = _runs(dead)
    gain = frames.wet / np.maximum(frames.dry, _HEARD)
    cuts = [(first, last) for first, last in runs if _is_cut(frames, gain, heard, first, last)]
    if not cuts or _closes(frames, limit, cuts):
        return []
    return [float(frames.seconds[first]) for first, _ in cuts]


def _closes(frames: Frames, limit: float, cuts: list[tuple[int, int]]) -> bool:
    """Whether the device is a gate, of which a fast one shuts as a dropout does: besides the cuts,
    it is often shut for what is quieter than there, and would be audible with the gain there."""
    sides = [slice(first - 1 - _BESIDE, first - 1) for first, _ in cuts]
    level = np.median([frames.dry[side] for side in sides])
    usual = np.median([frames.wet[side] / frames.dry[side] for side in sides])
    quieter = (frames.dry > _WELL_HEARD) & (frames.dry < _NEAR * level)
    audible = quieter & (frames.dry * usual * _SHUT > limit)
    shut = audible & (frames.wet < frames.dry * usual * _SHUT)
    for first, last in cuts:
        shut[first:last] = False
    return bool(shut.sum() > _OFTEN * audible.sum())


def _runs(dead: np.ndarray) -> list[tuple[int, int]]:
    """First frame, and the one after the last, of each run that is long enough."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], dead.astype(int), [0]])))
    pairs = edges.reshape(-1, 2)
    return [(int(a), int(b)) for a, b in pairs if b - a >= LEAST_FRAMES]


def _is_cut(
    frames: Frames, gain: np.ndarray, heard: np.ndarray, first: int, last: int
) -> bool:
    """Whether sound goes on in the dry, and stops and starts at once in the wet."""
    before, after = slice(first - 1 - _BESIDE, first - 1), slice(last + 1, last + 1 + _BESIDE)
    if first < _BESIDE + 1 or last + 1 + _BESIDE > len(heard):
        return False
    if not (heard[before].all() and heard[after].all()):
        return False
    run = slice(first, last)
    inside = frames.least[run] / frames.dry[run]
    around = max(frames.highest[before].max(), frames.highest[after].max())
    held = frames.highest[run].max() < _BELOW * around  # else it is a clipped wave's flat top
    if held and frames.dry_moving[run].min() > _HEARD:
        inside = np.minimum(inside, frames.moving[run] / frames.dry_moving[run])
    sides = float(np.median(gain[before])), float(np.median(gain[after]))
    sudden = gain[first - 2] > _EVEN * sides[0] and gain[last + 1] > _EVEN * sides[1]
    beside = max(np.median(frames.dry[before]), np.median(frames.dry[after]))
    steady = np.median(frames.dry[first:last]) >= _STEADY * beside
    return bool(steady and sudden and inside.max() <= _ABRUPT * min(sides))
