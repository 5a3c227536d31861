"""Stretches of audio that come again exactly, found by a rolling hash in a pass over the samples.

Source: R. Karp, M. Rabin, "Efficient randomized pattern-matching algorithms", IBM Journal of
Research and Development 31 (1987).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAST_SECONDS = 0.75
_BASE = np.uint64(6364136223846793005)
_MOST_CANDIDATES = 64
"""Places with one hash: more, and it is a steady tone or silence, which says nothing."""


class Repeat(NamedTuple):
    """Samples `first … first + length` come again at `second`, exactly."""

    first: int
    second: int
    length: int


def find_repeats(audio: np.ndarray, rate: int, most: int = 8) -> list[Repeat]:
    """The longest stretches of at least 0.75 s that come again.

    Shape:
        audio `[T]`
    """
    block = round(LEAST_SECONDS * rate / 3)  # each long enough stretch holds a whole one
    found: list[Repeat] = []
    for start, place in _candidates(audio, block):
        if not any(_covered(start, place, repeat) for repeat in found):
            grown = _grow(audio, start, place, block)
            if grown.length >= LEAST_SECONDS * rate:
                found.append(grown)
    return sorted(found, key=lambda repeat: -repeat.length)[:most]


def _candidates(audio: np.ndarray, block: int) -> list[tuple[int, int]]:
    """Blocks, and later places with the same hash."""
    if len(audio) < 2 * block:
        return []
    hashes = _window_hashes(audio, block)
    starts = np.arange(0, len(hashes), block)
    starts = starts[[_moves(audio[start : start + block]) for start in starts]]
    table = np.zeros(1 << 16, bool)
    table[hashes[starts] >> np.uint64(48)] = True
    likely = np.flatnonzero(table[hashes >> np.uint64(48)])
    likely = likely[np.isin(hashes[likely], hashes[starts])]
    order = likely[np.argsort(hashes[likely], kind="stable")]
    pairs = []
    for start in starts:
        left = np.searchsorted(hashes[order], hashes[start], "left")
        right = np.searchsorted(hashes[order], hashes[start], "right")
        if right - left <= _MOST_CANDIDATES:
            pairs += [(int(start), int(p)) for p in order[left:right] if p >= start + block]
    return pairs


def _window_hashes(audio: np.ndarray, block: int) -> np.ndarray:
    """A hash of the `block` samples from each place on: sums of samples times powers of an odd
    number, modulo 2^64, in which it has an inverse. `[T - block + 1]`"""
    bits = np.ascontiguousarray(audio, np.float32).view(np.uint32).astype(np.uint64)
    powers = _powers(_BASE, len(bits))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(bits * powers, dtype=np.uint64)])
    inverse = np.uint64(pow(int(_BASE), -1, 1 << 64))
    return (sums[block:] - sums[:-block]) * _powers(inverse, len(sums) - block)


def _powers(base: np.uint64, count: int) -> np.ndarray:
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _moves(piece: np.ndarray) -> bool:
    return bool(piece.max() - piece.min() > 1e-3)


def _covered(start: int, place: int, repeat: Repeat) -> bool:
    return (
        place - start == repeat.second - repeat.first
        and repeat.first <= start < repeat.first + repeat.length
    )


def _grow(audio: np.ndarray, start: int, place: int, block: int) -> Repeat:
    """As far as both go on alike, and not into each other."""
    lag = place - start
    same = audio[: len(audio) - lag] == audio[lag:]
    differ = np.flatnonzero(~same)
    before = differ[differ < start]
    after = differ[differ >= start]
    first = int(before[-1]) + 1 if len(before) else 0
    last = int(after[0]) if len(after) else len(same)
    return Repeat(first, first + lag, min(last - first, lag))
