"""The latency without markers, and moment by moment: whitened cross-correlation.

Roughly by when sounds begin, anywhere in the recording; then finely, window by window, by the
slope of the phase. A compressor's gain changes the levels of both and hardly these. It must not
know of files or markers.

Source: C. Knapp, G. Carter, "The generalized correlation method for estimation of time delay",
IEEE Transactions on Acoustics, Speech, and Signal Processing 24 (1976).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

ONSET_HZ = 2000.0
WINDOW_SECONDS = 0.18
TRUSTED = 0.2
"""Above this a window's delay counts: unrelated noise has less than 0.1."""
MOST_WINDOWS = 256
CHUNK = 64
"""Windows in memory at once."""
_FLOOR = 1e-3  # of a window's mean power: bins below are whitened less
_BROAD = 0.03
_ROUNDS = 3
_SIDE = 12  # samples around a peak that belong to it


@dataclass(frozen=True)
class Track:
    """The delay of each window.

    Shape:
        all `[W]`
    """

    middles: np.ndarray
    """The window's middle, in samples of the dry."""
    delays: np.ndarray
    """Samples."""
    trust: np.ndarray
    """How much one delay stands out, 0 to 1: a steady tone has none."""
    signs: np.ndarray
    """-1 where the wet is turned over."""

    broad: np.ndarray
    """Whether the dry has enough of a spectrum there: a steady tone has not."""

    def at(self, rows: np.ndarray) -> Track:
        """Some of the windows."""
        parts = (self.middles, self.delays, self.trust, self.signs, self.broad)
        return Track(*(part[rows] for part in parts))

    def trusted(self) -> Track:
        """The windows that say something."""
        return self.at(self.trust >= TRUSTED)

    def improve(self, rows: np.ndarray, other: Track) -> None:
        """Take from another track of the windows `rows` what stands out more."""
        better = other.trust > self.trust[rows]
        for name in ("delays", "trust", "signs", "broad"):
            getattr(self, name)[rows[better]] = getattr(other, name)[better]


def rough_delays(dry: np.ndarray, wet: np.ndarray, rate: int, count: int = 3) -> list[float]:
    """Where the onsets of both fit best, to a millisecond: so many places, the best first.

    Shape:
        dry `[T]`, wet `[T']`

    Returns:
        Samples.
    """
    hop = max(1, round(rate / ONSET_HZ))
    after = _onsets(wet, hop)
    score = _onset_scores(_onsets(dry, hop), after)
    found = []
    for _ in range(count):
        best = int(np.argmax(score))
        found.append(float((best if best < len(after) else best - len(score)) * hop))
        score[np.arange(best - _SIDE, best + _SIDE + 1) % len(score)] = -np.inf
    return found


def onset_likeness(dry: np.ndarray, wet: np.ndarray, rate: int, ratio: float) -> float:
    """How much one delay stands out when the wet has `ratio` times the samples a second: the best
    score in standard deviations of all. Unrelated recordings reach 6.

    Shape:
        dry `[T]`, wet `[T']`
    """
    hop = max(1, round(rate / ONSET_HZ))
    curve = _onsets(wet, hop)
    places = np.arange(0, len(curve) - 1, ratio)
    score = _onset_scores(_onsets(dry, hop), np.interp(places, np.arange(len(curve)), curve))
    return float(score.max() / max(score.std(), 1e-20))


def grid(length: int, rate: int) -> np.ndarray:
    """Where windows begin, in samples: as many as fit, at most `MOST_WINDOWS`. `[W]`"""
    size = window_size(rate)
    return np.arange(0, length - size + 1, max(size, length // MOST_WINDOWS))


def track(dry: np.ndarray, wet: np.ndarray, rate: int, starts: np.ndarray, delay: float) -> Track:
    """The delay of one window after the other.

    Args:
        starts: of the windows, as `grid` gives them; those that the wet lacks have no trust.
        delay: expected; a quarter of a window to either side is searched.

    Shape:
        dry `[T]`, wet `[T']`, starts `[W]`
    """
    size = window_size(rate)
    nothing = np.zeros((3, len(starts)))
    found = Track(starts + size / 2, np.full(len(starts), float(delay)), *nothing)
    shift = round(delay)
    inside = np.flatnonzero((starts + shift >= 0) & (starts + shift + size <= len(wet)))
    for at in range(0, len(inside), CHUNK):
        rows = inside[at : at + CHUNK]
        late, trust, signs, breadth = _windows(dry, wet, starts[rows], shift, size)
        found.delays[rows] = shift + late
        found.trust[rows] = trust * np.minimum(1.0, breadth / _BROAD)
        found.signs[rows], found.broad[rows] = signs, breadth >= _BROAD
    return found


def window_size(rate: int) -> int:
    """A power of two, in samples."""
    return 1 << round(np.log2(WINDOW_SECONDS * rate))


def _onsets(audio: np.ndarray, hop: int) -> np.ndarray:
    """By how much the level rises from one frame to the next; steady sound has none. `[K]`"""
    frames = len(audio) // hop
    power = np.square(audio[: frames * hop]).reshape(frames, hop).mean(axis=1)
    level = np.log(power + 1e-5 * power.mean() + 1e-20)
    rise = np.maximum(np.diff(level, prepend=level[:1]), 0.0)
    return np.minimum(rise, 3.0) - np.minimum(rise, 3.0).mean()


def _onset_scores(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How well the onsets of both fit, over the lag; negative lags at the end."""
    size = fft.next_fast_len(len(before) + len(after), real=True)
    score = fft.irfft(np.conj(fft.rfft(before, size)) * fft.rfft(after, size), size)
    return score + np.roll(score, 1) + np.roll(score, -1)


def _windows(
    dry: np.ndarray, wet: np.ndarray, starts: np.ndarray, shift: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Delay beyond the shift, how much it stands out, sign and breadth of each window, `[W]`."""
    white, breadth = white_windows(dry, wet, starts, starts + shift, size)
    late, signs, height, second = peaks(white, size)
    total = np.abs(white).sum(axis=1) * 2 / size
    return late, (height - second) / np.maximum(total, 1e-20), signs, breadth


def white_windows(
    dry: np.ndarray, wet: np.ndarray, starts: np.ndarray, places: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The whitened cross-spectrum of each window, and the breadth of the dry's spectrum.

    Args:
        starts, places: of the windows, in the dry and in the wet.
        size: of a window.

    Shape:
        dry `[T]`, wet `[T']`, starts and places `[W]`, to `[W, F]` and `[W]`
    """
    taper = np.hanning(size).astype(np.float32)
    before = np.stack([dry[start : start + size] for start in starts]) * taper
    after = np.stack([wet[place : place + size] for place in places]) * taper
    spectra = fft.rfft(before, axis=1)
    white = _whiten(spectra) * np.conj(_whiten(fft.rfft(after, axis=1)))
    white[:, 0] = 0  # an offset has no place
    return white, _breadth(spectra)


def peaks(
    white: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where the correlation of each window is highest, in samples, and its sign there; how high it
    is there, and how high elsewhere.

    Shape:
        white `[W, F]`, to `[W]` each
    """
    lags = size // 4
    curve = np.roll(fft.irfft(np.conj(white), size, axis=1), lags, axis=1)[:, : 2 * lags + 1]
    best = np.abs(curve).argmax(axis=1)
    peak = curve[np.arange(len(curve)), best]
    signs = np.where(peak < 0, -1.0, 1.0)
    late = best - lags + _fractions(white, best - lags, signs, size)
    return late, signs, np.abs(peak), _second(np.abs(curve), best)


def _whiten(spectra: np.ndarray) -> np.ndarray:
    power = np.square(np.abs(spectra))
    floor = _FLOOR * power.mean(axis=1, keepdims=True) + 1e-20
    return spectra / np.sqrt(power + floor)


def _breadth(spectra: np.ndarray) -> np.ndarray:
    """The part of all bins that the sound fills: a tone, some. `[W]`"""
    size = np.abs(spectra)
    return size.sum(1) ** 2 / np.maximum(np.square(size).sum(1), 1e-20) / size.shape[1]


def _second(curve: np.ndarray, best: np.ndarray) -> np.ndarray:
    """The highest value that does not belong to the peak."""
    apart = np.abs(np.arange(curve.shape[1]) - best[:, None]) > _SIDE
    return np.where(apart, curve, 0.0).max(axis=1)


def _fractions(white: np.ndarray, whole: np.ndarray, signs: np.ndarray, size: int) -> np.ndarray:
    """The delay beyond whole samples: where the correlation is highest, by Newton's method. `[W]`

    Bins of mere noise cancel in both sums, so that they move nothing.
    """
    omega = (2 * np.pi / size * np.arange(white.shape[1])).astype(np.float32)
    late = np.zeros(len(white), np.float32)
    for _ in range(_ROUNDS):
        angle = omega * (whole + late)[:, None].astype(np.float32)
        turned = white * (np.cos(angle) - 1j * np.sin(angle)) * signs[:, None].astype(np.float32)
        steepness = np.maximum((turned.real @ omega**2), 1e-12)
        late += np.clip((turned.imag @ omega) / steepness, -0.5, 0.5)
    return np.clip(late, -1.0, 1.0)
