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
_ABRUPT_DB = 15.0  # within two frames
_EVEN_DB = 6.0  # before that
_WELL_HEARD = 1e-5
_OFTEN = 0.01
_SPARE_DB = 10.0
_FALL = 0.05  # of the wet's power: a wave that is cut flat at its top stands still there
_STEADY = 0.1  # the dry's power in the dropout, of that beside it
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
    gain = 10 * np.log10(frames.moving / np.maximum(frames.dry, _HEARD) + 1e-16)
    limit = max(_SILENT, 2 * floor)
    dead = heard & (frames.moving < limit)
    cuts = [
        (first, last)
        for first, last in _runs(dead)
        if _is_cut(frames.dry, gain, heard, first, last) and _falls(frames, first, last)
    ]
    if not cuts or _closes(frames, gain, limit, cuts):
        return []
    return [float(frames.seconds[first]) for first, _ in cuts]


def _closes(
    frames: Frames, gain: np.ndarray, limit: float, cuts: list[tuple[int, int]]
) -> bool:
    """Whether the device is a gate, of which a fast one shuts as a dropout does: besides the cuts,
    it is often silent where the gain beside the cuts would let the dry be heard."""
    usual = np.median([gain[first - 1 - _BESIDE : first - 1] for first, _ in cuts])
    audible = frames.dry * 10 ** ((usual - _SPARE_DB) / 10) > 2 * limit
    audible &= frames.dry > _WELL_HEARD
    shut = audible & (frames.wet < limit)
    for first, last in cuts:
        shut[first:last] = False
    return bool(shut.sum() > _OFTEN * audible.sum())


def _runs(dead: np.ndarray) -> list[tuple[int, int]]:
    """First frame, and the one after the last, of each run that is long enough."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], dead.astype(int), [0]])))
    pairs = edges.reshape(-1, 2)
    return [(int(a), int(b)) for a, b in pairs if b - a >= LEAST_FRAMES]


def _is_cut(
    power: np.ndarray, gain: np.ndarray, heard: np.ndarray, first: int, last: int
) -> bool:
    """Whether sound goes on in the dry, and stops and starts at once in the wet."""
    before, after = slice(first - 1 - _BESIDE, first - 1), slice(last + 1, last + 1 + _BESIDE)
    if first < _BESIDE + 1 or last + 1 + _BESIDE > len(power):
        return False
    if not (heard[before].all() and heard[after].all()):
        return False
    inside = float(gain[first:last].max())
    sides = float(np.median(gain[before])), float(np.median(gain[after]))
    sudden = gain[first - 2] > sides[0] - _EVEN_DB and gain[last + 1] > sides[1] - _EVEN_DB
    steady = np.median(power[first:last]) >= _STEADY * max(
        np.median(power[before]), np.median(power[after])
    )
    return bool(steady and sudden and min(sides) - inside >= _ABRUPT_DB)


def _falls(frames: Frames, first: int, last: int) -> bool:
    beside = np.concatenate(
        [frames.wet[first - 1 - _BESIDE : first - 1], frames.wet[last + 1 : last + 1 + _BESIDE]]
    )
    return bool(frames.least[first:last].max() <= _FALL * np.median(beside))
