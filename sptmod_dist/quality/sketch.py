"""A take in a few thousand numbers, by which the takes of a set are compared: gains over time.

It must not know of files or settings.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy import fft

WINDOWS_A_SECOND = 10
BAND_EDGES_HZ = (400.0, 2500.0)
"""Between low, middle and high: a tone control moves one, a compressor all."""
LEVELS_DB = np.arange(-58.0, 1.0, 4.0)
"""Middles of the bins of the level curve, RMS of the dry in 10 ms."""
_CURVE_FRAMES = 100  # a second
_LEAST = 20  # frames in a bin
_FLOOR = 1e-6  # -60 dB: what is quieter has a gain near 0 dB


@dataclass(frozen=True)
class Sketch:
    """What is compared.

    Args:
        seconds: a digest of each whole second of the dry: equal ones can be compared directly.
        wet: a digest of all of the wet.
        gains: dB, low, middle and high band of each tenth of a second, of the first channel.
        curve: median gain in dB, and its spread, for each of `LEVELS_DB`; NaN where there is
            nothing.

    Shape:
        gains `[W, 3]`, curve `[L, 2]`
    """

    seconds: tuple[bytes, ...]
    wet: bytes
    gains: np.ndarray
    curve: np.ndarray


def make_sketch(dry: np.ndarray, wet: np.ndarray, rate: int) -> Sketch:
    """Of an aligned take.

    Shape:
        dry `[C, T]`, wet `[C, T]`
    """
    seconds = tuple(
        _digest(dry[:, start : start + rate]) for start in range(0, dry.shape[1] - rate + 1, rate)
    )
    gains = _decibels(_bands(dry[0], rate), _bands(wet[0], rate))
    return Sketch(seconds, _digest(wet), gains, _curve(dry[0], wet[0], rate))


def _digest(samples: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(samples).data, digest_size=16).digest()


def _decibels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (10 * np.log10((after + _FLOOR) / (before + _FLOOR))).astype(np.float32)


def _bands(audio: np.ndarray, rate: int) -> np.ndarray:
    """Mean square of each band in each window. `[W, 3]`"""
    size = rate // WINDOWS_A_SECOND
    frames = audio[: len(audio) // size * size].reshape(-1, size)
    edges = [1, *(min(size // 2, round(hz * size / rate)) for hz in BAND_EDGES_HZ)]
    return np.concatenate(
        [_band_powers(frames[at : at + 64], edges) for at in range(0, max(1, len(frames)), 64)]
    )


def _band_powers(frames: np.ndarray, edges: list[int]) -> np.ndarray:
    size = frames.shape[1]
    spectra = fft.rfft(frames, axis=1)
    power = np.square(spectra.real) + np.square(spectra.imag)
    return np.add.reduceat(power, edges, axis=1) * (2 / size**2)


def _curve(dry: np.ndarray, wet: np.ndarray, rate: int) -> np.ndarray:
    size = rate // _CURVE_FRAMES
    into, out = (
        np.square(audio[: len(audio) // size * size].reshape(-1, size)).mean(axis=1)
        for audio in (dry, wet)
    )
    level, gain = 10 * np.log10(into + 1e-12), _decibels(into, out)
    rows = np.full((len(LEVELS_DB), 2), np.nan)
    half = (LEVELS_DB[1] - LEVELS_DB[0]) / 2
    for row, middle in enumerate(LEVELS_DB):
        inside = gain[np.abs(level - middle) <= half]
        if len(inside) >= _LEAST:
            low, rows[row, 0], high = np.percentile(inside, [25, 50, 75])
            rows[row, 1] = high - low
    return rows
