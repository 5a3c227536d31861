"""Both sides of a take in frames of a millisecond, the wet moved to where it answers the dry.

What is told from levels (gain, dropouts, noise) is told from these. It must not know of files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sptmod_dist.quality.delay import Timing

FRAME_SECONDS = 0.001
GAIN_FRAMES = 10
"""Frames over which a gain is measured: 10 ms."""
TAIL_FRAMES = 200
"""Frames of a silence in which a device may still sound."""
_SILENT = 1e-10
HEARD_DB = -60.0
"""Of the dry, in dB of full scale: below, a gain is not looked at."""


@dataclass(frozen=True)
class Frames:
    """Mean squares of each frame.

    Shape:
        all `[K]`
    """

    starts: np.ndarray
    """First sample, in the dry."""
    size: int
    """Samples."""
    rate: int
    dry: np.ndarray
    wet: np.ndarray
    dry_moving: np.ndarray
    """The dry's without each frame's mean."""
    moving: np.ndarray
    """The wet's without each frame's mean: what stands still, at whatever value, has none."""
    highest: np.ndarray
    """The squares of the wet's peaks."""
    least: np.ndarray
    """The wet's with its offset or without, whichever is less: a cut may take the offset away."""

    @property
    def seconds(self) -> np.ndarray:
        """When each frame begins."""
        return self.starts / self.rate

    def within(self, start: int, stop: int) -> Frames:
        """The frames of a stretch of the dry."""
        rows = (self.starts >= start) & (self.starts + self.size <= stop)
        parts = (self.dry, self.wet, self.dry_moving, self.moving, self.highest, self.least)
        return Frames(self.starts[rows], self.size, self.rate, *(part[rows] for part in parts))

    def silent(self) -> np.ndarray:
        """In which the dry has been silent for a while, tails left out. `[K]`"""
        return _silent(self.dry)

    def gains(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Seconds, the dry's level and the gain in dB over 10 ms, of those parts in which the dry
        is heard."""
        count = len(self.dry) // GAIN_FRAMES
        into, out, start = (
            part[: count * GAIN_FRAMES].reshape(count, GAIN_FRAMES).mean(axis=1)
            for part in (self.dry, self.wet, self.seconds)
        )
        heard = into > 10 ** (HEARD_DB / 10)
        gains = 10 * np.log10(out[heard] / into[heard] + 1e-12)
        return start[heard], 10 * np.log10(into[heard]), gains


def make_frames(dry: np.ndarray, wet: np.ndarray, rate: int, timing: Timing) -> Frames:
    """Frames of what both have, offsets left out.

    Shape:
        dry `[T]`, wet `[T']`
    """
    size = max(8, round(FRAME_SECONDS * rate))
    starts = np.arange(0, len(dry) - size + 1, size)
    places = starts + np.rint(_delays(starts, timing, len(dry), rate)).astype(int)
    inside = (places >= 0) & (places + size <= len(wet))
    starts, places = starts[inside], places[inside]
    into, into_mean = _powers(_cut(dry, starts, size))
    pieces = _cut(wet, places, size)
    raw, raw_mean = _powers(pieces)
    if len(starts) == 0:
        return Frames(starts, size, rate, into, raw, into, raw, raw, raw)
    dry_moving = np.maximum(into - into_mean**2, 0.0)
    silent = _silent(into)
    own = silent.sum() >= TAIL_FRAMES  # then the wet's own offset shows
    out = _without(raw, raw_mean, float(np.median(raw_mean[silent] if own else raw_mean)))
    into = into if own else _without(into, into_mean, float(np.median(into_mean)))
    moving = np.maximum(raw - raw_mean**2, 0.0)
    highest = np.square(np.abs(pieces).max(axis=1))
    least = np.minimum(raw, out)
    return Frames(starts, size, rate, into, out, dry_moving, moving, highest, least)


def offset_of(audio: np.ndarray, rate: int) -> float:
    """The offset (DC): the median of the frames' means, which loud moments do not move.

    Shape:
        audio `[T]`
    """
    size = max(8, round(FRAME_SECONDS * rate))
    frames = _cut(audio, np.arange(0, len(audio) - size + 1, size), size)
    return float(np.median(_powers(frames)[1]))


def _silent(dry: np.ndarray) -> np.ndarray:
    places = np.arange(len(dry))
    sounded = np.maximum.accumulate(np.where(dry < _SILENT, -1, places))
    return (dry < _SILENT) & (places - sounded > TAIL_FRAMES)


def _without(power: np.ndarray, means: np.ndarray, offset: float) -> np.ndarray:
    return np.maximum(power - 2 * offset * means + offset**2, 0.0)


def _delays(starts: np.ndarray, timing: Timing, length: int, rate: int) -> np.ndarray:
    """The delay at each place, lost samples and the clock's drift included."""
    middle = 0.0 if timing.steps else length / 2
    delays = timing.latency + timing.slope * (starts - middle)
    for step in timing.steps:
        delays[starts >= step.seconds * rate] += step.samples
    return delays


def _cut(audio: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """Frames at any places; without a copy where they follow each other. `[K, size]`"""
    if len(places) == 0:
        return np.zeros((0, size), np.float32)
    if (np.diff(places) == size).all():
        return audio[places[0] : places[0] + len(places) * size].reshape(-1, size)
    return np.lib.stride_tricks.sliding_window_view(audio, size)[places]


def _powers(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean square and mean of each frame."""
    size = frames.shape[1]
    power = np.einsum("kn,kn->k", frames, frames).astype(np.float64) / size
    return power, (frames @ np.full(size, 1 / size, np.float32)).astype(np.float64)
