"""Takes with a known truth: a stimulus, a compressor of 20 dB, delays, clocks, noise."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import fft, signal

from sptmod_dist.capture.markers import surround
from sptmod_dist.data.stimulus import events, normalise_peak, tone_steps

RATE = 22_050
"""Half of the usual, for speed."""


@cache
def content(rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Tones, dense and sparse events; 20 s. `[T]`"""
    parts = [tone_steps(rate)[: 4 * rate], *(events(8, rate, seed, sparse) for sparse in (0, 1))]
    return normalise_peak(np.concatenate(parts))


@cache
def stimulus(rate: int = RATE, seed: int = 0) -> np.ndarray:
    """The content between markers. `[T]`"""
    return surround(content(rate, seed), rate, content(rate, seed)[5 * rate : 6 * rate])


def dry_of(marked: bool, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """With markers or without. `[T]`"""
    return stimulus(rate, seed) if marked else content(rate, seed)


def compress(audio: np.ndarray, rate: int = RATE, threshold: float = 0.02) -> np.ndarray:
    """20 dB and more at full scale: fast attack, slow release. `[T]`"""
    power = np.square(audio, dtype=np.float64)
    fast, slow = (np.exp(-1 / (seconds * rate)) for seconds in (0.003, 0.1))
    level = signal.lfilter([1 - fast], [1, -fast], power)
    level = np.maximum(level, signal.lfilter([1 - slow], [1, -slow], level))
    return audio / np.maximum(1.0, np.sqrt(level) / threshold) ** 0.8


def delayed(audio: np.ndarray, samples: float, tail: int = 12_000) -> np.ndarray:
    """Later by any part of a sample, and longer. `[T]`"""
    size = fft.next_fast_len(len(audio) + 2 * tail, real=True)
    turn = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size * samples)
    return fft.irfft(fft.rfft(audio.astype(np.float64), size) * turn, size)[: len(audio) + tail]


def on_another_clock(audio: np.ndarray, ppm: int) -> np.ndarray:
    """Recorded by a clock that runs so much faster, a divisor of a million. `[T]`"""
    parts = 1_000_000 // abs(ppm)
    return signal.resample_poly(audio, parts + (1 if ppm > 0 else -1), parts)


def noisy(audio: np.ndarray, level_db: float = -60.0, seed: int = 0) -> np.ndarray:
    """With white noise of that RMS. float32 `[T]`"""
    noise = np.random.default_rng(seed).standard_normal(len(audio))
    return (audio + 10 ** (level_db / 20) * noise).astype(np.float32)


@cache
def compressed(marked: bool, rate: int = RATE) -> np.ndarray:
    """What the compressor makes of it. `[T]`"""
    return compress(dry_of(marked, rate), rate)


def take(
    marked: bool, delay: float = 17.5, level_db: float = -60.0, rate: int = RATE
) -> np.ndarray:
    """Compressed, late, noisy; float32 `[1, T]`."""
    return noisy(delayed(compressed(marked, rate), delay), level_db)[None]


@cache
def tones(seed: int = 0, partials: int = 2, rate: int = RATE) -> np.ndarray:
    """Slow chords: four voices whose notes begin and end softly; 12 s. `[T]`"""
    random = np.random.default_rng(seed)
    whole = np.zeros(12 * rate)
    for _ in range(4):
        at = round(random.random() * rate)
        while at < len(whole):
            seconds = np.arange(min(round(random.choice([0.5, 1, 2]) * rate), len(whole) - at))
            seconds = seconds / rate
            soft = np.minimum(1, np.minimum(seconds, seconds[-1] - seconds) / 0.15)
            pitch = 2 * np.pi * 110 * 2 ** (random.integers(0, 36) / 12)
            note = sum(np.sin(n * pitch * seconds + 6 * random.random()) / n**1.5
                       for n in range(1, partials + 1))  # fmt: skip
            whole[at : at + len(note)] += soft * note
            at += len(note)
    return (0.7 * whole / np.abs(whole).max()).astype(np.float32)
