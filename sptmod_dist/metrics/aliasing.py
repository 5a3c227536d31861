"""Aliasing: what a steady tone leaves beside itself and its harmonics.

A model multiplies audio with a signal that has its own rate and its own errors; on a steady tone
the images of that modulation, and harmonics that fold at half the sample rate, show as lines where
there should be none. It knows nothing of models or files.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import fft

TONES_HZ = (997, 4999, 10007)
"""Primes: their harmonics fold to frequencies of their own."""

TONE_DB = -12.0
"""Peak level of the tones, in dB of full scale."""

_LEAST_POWER = 1e-20  # -200 dB of the tone


class Spurs(NamedTuple):
    """Power beside a tone, in dB of the tone's."""

    harmonics_db: float
    """At its harmonics below half the sample rate: distortion."""
    aliasing_db: float
    """At all other frequencies but 0. A gain that still drifts shows here too."""


def probe_tones(rate: int) -> list[int]:
    """The frequencies to probe: `TONES_HZ`, or the next primes below a quarter of the rate."""
    tones = {_prime_below(min(hertz, (rate - 1) // 4), rate) for hertz in TONES_HZ}
    return sorted(tone for tone in tones if tone)


def tone(hertz: int, rate: int, seconds: int) -> np.ndarray:
    """A sine of whole Hz at `TONE_DB`; each second of it is the same, so nothing leaks.

    Shape: [seconds * rate].
    """
    cycle = np.sin(2 * np.pi * ((hertz * np.arange(rate)) % rate) / rate)
    return np.tile(10 ** (TONE_DB / 20) * cycle, seconds).astype(np.float32)


def spurs(audio: np.ndarray, hertz: int) -> Spurs | None:
    """Take one second apart into bins of 1 Hz; None where the tone itself is not heard.

    Args:
        audio: settled output, exactly one second of it.
        hertz: of the tone.

    Shape: [C, rate].
    """
    spectrum = fft.rfft(audio.astype(np.float64), axis=-1)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)).sum(axis=0)
    if audio.shape[-1] % 2 == 0:
        power[-1] /= 2  # half the sample rate is its own image
    size = float(power[hertz])
    if size <= 0 or not math.isfinite(size):
        return None
    harmonics = float(power[2 * hertz :: hertz].sum())
    power[::hertz] = 0  # 0 Hz, the tone and its harmonics
    return Spurs(_decibels(harmonics / size), _decibels(float(power.sum()) / size))


def _prime_below(most: int, rate: int) -> int:
    """The highest prime up to `most` that does not divide the rate; 0: none."""
    for number in range(most, 1, -1):
        if rate % number and all(number % k for k in range(2, math.isqrt(number) + 1)):
            return number
    return 0


def _decibels(ratio: float) -> float:
    return 10 * math.log10(max(ratio, _LEAST_POWER))
