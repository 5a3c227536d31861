"""Markers: a pattern of clicks before and after what goes through a device, and finding them again.

A marker is eight short band-limited clicks at the marks of a Golomb ruler, so that no two distances
between clicks are equal and only one shift matches. Each click is looked for on its own, against
the few milliseconds around it: a compressor that takes 20 dB off some of them, or off all, changes
nothing. It must not know of files, devices or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft, signal

RULER = (0, 1, 4, 9, 15, 22, 32, 34)  # the optimal Golomb ruler of eight marks
RULER_SECONDS = 0.15
CLICK_PEAK = 0.5
CLICK_HZ = 12_000.0
LEAD_SECONDS, GAP_SECONDS, REST_SECONDS, PASSAGE_SECONDS = 0.5, 1.0, 0.5, 1.0
SURE, LIKELY = 0.35, 0.3
"""Strengths: what is a marker in any case, and what may be one where more are expected; music and
noise of minutes reach 0.16."""
_WINDOW_SECONDS = 0.004  # less than the ruler's shortest distance
_FLOOR = 1e-5  # -100 dB: quieter than that is no click
_LOST = 0.02  # of the loudest click's level: a click below that is lost
_BLOCK = 1 << 17
_FINE = 32  # steps a sample when the place between samples is looked for


@dataclass(frozen=True)
class Layout:
    """Where the parts of a stimulus begin, in samples; of a marker, its first sample."""

    rate: int
    start_marker: int
    content_start: int
    content_stop: int
    repeats: tuple[int, ...]
    repeat_length: int
    end_marker: int
    total: int


@dataclass(frozen=True)
class Found:
    """A marker in a recording: where its first sample lies, in samples; how sure that is, up to 1;
    and 1, or -1 where the recording is turned over."""

    position: float
    strength: float
    polarity: int


def marker(rate: int) -> np.ndarray:
    """The click pattern: peaks of 0.5 (-6 dB), flat to 12 kHz or 0.3 of the rate, 0.16 s long.

    Shape:
        `[M]`
    """
    click = _click(rate)
    marks = _marks(rate)
    pattern = np.zeros(marks[-1] + len(click))
    for mark in marks:
        pattern[mark : mark + len(click)] += click
    return pattern.astype(np.float32)


def layout(rate: int, content_samples: int) -> Layout:
    """Where everything stands when `content_samples` of content are surrounded.

    Silence of 0.5 s, a marker, silence of 1 s, the content, silence of 1 s, a passage of 1 s three
    times with 0.5 s of silence between, silence of 1 s, a marker, silence of 0.5 s. The passage's
    second and third time have the same past: where a device differs, that is its noise.
    """
    lead, gap, rest, passage = (
        round(seconds * rate)
        for seconds in (LEAD_SECONDS, GAP_SECONDS, REST_SECONDS, PASSAGE_SECONDS)
    )
    length = len(marker(rate))
    start = lead + length + gap
    stop = start + content_samples
    repeats = tuple(stop + gap + number * (passage + rest) for number in range(3))
    end = repeats[-1] + passage + gap
    return Layout(rate, lead, start, stop, repeats, passage, end, end + length + lead)


def surround(content: np.ndarray, rate: int, passage: np.ndarray) -> np.ndarray:
    """The content with markers and the repeated passage around it, as `layout` says.

    Args:
        content: any length.
        passage: music of exactly 1 s.

    Shape:
        content `[T]`, passage `[rate]`, to `[layout(rate, T).total]`
    """
    plan = layout(rate, len(content))
    if len(passage) != plan.repeat_length:
        raise ValueError(f"the passage has {len(passage)} samples, not {plan.repeat_length}")
    made = np.zeros(plan.total, np.float32)
    clicks = marker(rate)
    for start in (plan.start_marker, plan.end_marker):
        made[start : start + len(clicks)] = clicks
    made[plan.content_start : plan.content_stop] = content
    for start in plan.repeats:
        made[start : start + len(passage)] = passage
    return made


def find_markers(audio: np.ndarray, rate: int, expected: int | None = None) -> list[Found]:
    """Find the markers of a recording, to a hundredth of a sample where it is clean.

    Args:
        audio: one channel of any length, or a part of one; finite.
        rate: at which the markers were played: a wrong one finds none.
        expected: how many there should be: then weaker ones count as well, and the strongest are
            kept. Fewer may be found.

    Shape:
        audio `[T]`

    Returns:
        In time order; a marker that is cut at an edge may lie a little before 0.
    """
    return find_in_blocks(
        (audio[start : start + _BLOCK] for start in range(0, len(audio), _BLOCK)), rate, expected
    )


def find_in_blocks(
    blocks: Iterable[np.ndarray], rate: int, expected: int | None = None
) -> list[Found]:
    """As `find_markers`, of a recording that comes in pieces of any length, in constant memory.

    Shape:
        each block `[n]`
    """
    finder = _Finder(rate, SURE if expected is None else LIKELY)
    seen = [found for start, piece in finder.pieces(blocks) for found in finder.find(start, piece)]
    best: list[Found] = []
    for found in sorted(seen, key=lambda found: -found.strength):
        if all(abs(found.position - other.position) >= finder.length for other in best):
            best.append(found)
    return sorted(best[:expected], key=lambda found: found.position)


class _Finder:
    """The matched filter of one rate: `length` is a marker's, in samples."""

    def __init__(self, rate: int, threshold: float) -> None:
        self.threshold = threshold
        self.marks = _marks(rate)
        click = _click(rate)
        self.half = max(len(click) // 2, round(_WINDOW_SECONDS * rate / 2))
        template = np.zeros(2 * self.half + 1)
        middle = len(click) // 2
        template[self.half - middle : self.half + middle + 1] = click
        template -= template.mean()  # an offset, or a hum, is no click
        self.width = len(template)
        self.kernel = _kernel(rate, self.half)
        self.length = self.marks[-1] + len(click)
        self.first = middle  # a click's peak, from a marker's first sample
        self.context = self.marks[-1] + 4 * self.half
        self.size = fft.next_fast_len(_BLOCK + 2 * self.context + self.width, real=True)
        template = (template[::-1] / np.linalg.norm(template)).astype(np.float32)
        self.spectrum = fft.rfft(template, self.size)

    def pieces(self, blocks: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Overlapping pieces with silence before the first and after the last, and for each the
        place of its first sample."""
        held = np.zeros(self.context, np.float32)
        start = -self.context
        for block in blocks:
            held = np.concatenate([held, block])
            while len(held) >= self.context + _BLOCK:
                yield start, held[: self.context + _BLOCK]
                held, start = held[_BLOCK:], start + _BLOCK
        yield start, np.concatenate([held, np.zeros(self.context, np.float32)])

    def find(self, start: int, piece: np.ndarray) -> list[Found]:
        """The markers of one piece, and what looks like one."""
        if not piece.any():
            return []
        matched, local = self._match(piece)
        count = len(local) - self.marks[-1]
        score = np.zeros(count)
        for mark in self.marks:
            score += local[mark : mark + count] / len(self.marks)
        peaks, _ = signal.find_peaks(np.abs(score), height=self.threshold, distance=self.length)
        return [
            Found(
                start + self._between(piece, matched, int(peak)) - self.first,
                float(abs(score[peak])),
                1 if score[peak] > 0 else -1,
            )
            for peak in peaks
        ]

    def _match(self, piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each place has of a click, and that relative to all that sounds around it, -1…1.

        Shape:
            `[n]` to twice `[n - 2 · half]`
        """
        width = self.width
        spectrum = fft.rfft(piece, self.size) * self.spectrum
        matched = fft.irfft(spectrum, self.size)[width - 1 : len(piece)]
        energy = _moving_sum(np.square(piece, dtype=np.float64), width)
        energy -= _moving_sum(piece.astype(np.float64), width) ** 2 / width
        return matched, matched / np.sqrt(np.maximum(energy, 0.0) + width * _FLOOR**2)

    def _between(self, piece: np.ndarray, matched: np.ndarray, peak: int) -> float:
        """Where between samples of `piece` the first click lies.

        Clicks count alike, however loud: the loudest are those during which a compressor's gain
        fell the most, which moves them.
        """
        levels = np.array([matched[peak + mark] for mark in self.marks])
        least = _LOST * np.abs(levels).max()
        summed = np.zeros(self.width)
        for mark, level in zip(self.marks, levels / (levels**2 + least**2), strict=True):
            summed += level * piece[peak + mark : peak + mark + self.width].astype(np.float64)
        return peak + self.half + _top(self.kernel @ summed)


def _marks(rate: int) -> tuple[int, ...]:
    unit = round(RULER_SECONDS / RULER[-1] * rate)
    return tuple(unit * mark for mark in RULER)


def _edge(rate: int) -> float:
    """To which frequency clicks are flat."""
    return min(CLICK_HZ, 0.3 * rate)


def _click(rate: int) -> np.ndarray:
    """A symmetric low-pass pulse, its peak in the middle."""
    half = round(16 * 0.3 * rate / _edge(rate))
    taps = signal.firwin(2 * half + 1, 1.2 * _edge(rate), window=("kaiser", 6.0), fs=rate)
    return taps * (CLICK_PEAK / taps[half])


def _moving_sum(values: np.ndarray, width: int) -> np.ndarray:
    total = np.concatenate([[0.0], np.cumsum(values)])
    return total[width:] - total[:-width]


def _kernel(rate: int, half: int) -> np.ndarray:
    """Band-limited values between samples, two samples each way in steps of 1 / `_FINE`, from
    `half` samples a side.

    Its band lies inside the one in which clicks are flat: a gain that falls during a click, as a
    fast compressor's does, changes its spectrum at the band's edge alone, so it moves nothing here.
    """
    shifts = np.arange(-2 * _FINE, 2 * _FINE + 1) / _FINE
    distance = shifts[:, None] - np.arange(-half, half + 1)
    width = 8 * rate / _edge(rate)  # samples of a side that count
    window = np.where(np.abs(distance) < width, np.cos(np.pi * distance / (2 * width)) ** 2, 0.0)
    cutoff = 0.65 * _edge(rate)
    rows = np.sinc(2 * cutoff / rate * distance) * window
    return rows - rows.mean(axis=1, keepdims=True)


def _top(curve: np.ndarray) -> float:
    """Where the parabola through the three highest values of the `_kernel`'s curve is highest."""
    best = int(np.clip(np.argmax(curve), 1, len(curve) - 2))
    left, top, right = curve[best - 1 : best + 2]
    bend = left - 2 * top + right
    step = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float((best + step) / _FINE - 2)
