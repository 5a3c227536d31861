"""A take's noise: what is heard while the dry is silent, and what differs when the dry repeats.

Where the dry repeats itself, and its past as well, the device repeats itself: what differs is
noise, half of it from each time. No model can know it, so it is the best that any can reach. It
must not know of files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from sptmod_dist.quality.frames import Frames
from sptmod_dist.quality.repeats import Repeat

SETTLE_SECONDS = 0.5
"""Of a repeat: after that a device has forgotten what was before."""
_GROUP, _LEAST_GROUPS = 10, 5
"""Frames whose mean is taken before the median, which leaves crackles out; and how many of those
are enough."""


def idle_noise(frames: Frames) -> float | None:
    """The wet's mean square while the dry is silent, tails left out; None without such a place."""
    rest = frames.wet[frames.silent()]
    groups = rest[: len(rest) // _GROUP * _GROUP].reshape(-1, _GROUP)
    return float(np.median(groups.mean(axis=1))) if len(groups) >= _LEAST_GROUPS else None


def repeat_noise(
    wet: np.ndarray, repeats: Sequence[Repeat], latency: float, slope: float
) -> float | None:
    """The noise's mean square: half of the least difference between a stretch and its repeat.

    Args:
        repeats: of the dry, only the part in which the device has settled.
        latency: samples.
        slope: by how much it grows a sample: the second time is moved back by that much.

    Shape:
        wet `[T']`
    """
    shift = round(latency)
    found = []
    for first, second, length in repeats:
        if first + shift >= 0 and second + shift + length <= len(wet):
            one = wet[first + shift : first + shift + length].astype(np.float64)
            two = wet[second + shift : second + shift + length].astype(np.float64)
            difference = one - _moved(two, slope * (second - first))
            inner = difference[len(difference) // 20 : -len(difference) // 20 or None]
            found.append(float(np.mean(np.square(inner - inner.mean()))) / 2)
    return min(found) if found else None


def settled(repeats: Sequence[Repeat], rate: int) -> list[Repeat]:
    """Without the time that a device takes to forget."""
    cut = round(SETTLE_SECONDS * rate)
    return [Repeat(a + cut, b + cut, n - cut) for a, b, n in repeats if n > 1.5 * cut]


def _moved(audio: np.ndarray, late: float) -> np.ndarray:
    """The audio earlier by a part of a sample, or some; its ends are not to be used."""
    if abs(late) < 1e-3:
        return audio
    size = fft.next_fast_len(len(audio) + 4096, real=True)
    turn = np.exp(2j * np.pi * np.arange(size // 2 + 1) / size * late)
    return fft.irfft(fft.rfft(audio, size) * turn, size)[: len(audio)]
