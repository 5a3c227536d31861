"""The source audio that goes through a device: tone steps, music excerpts, generated events.

All at any rate, deterministic by seed, float32 `[T]`, full scale ±1. It must not know of files or
devices. Source: DAFx25, section on data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TONE_HZ = 1000.0
QUIET_DB = -40.0
EXCERPT_SECONDS = 4.0
EXCERPT_FALL_DB = 20.0
SOURCE_SECONDS = 96
SECTIONS = (
    ("tone steps", 0, 16),
    ("music, 0 to -20 dB", 16, 56),
    ("dense events", 56, 76),
    ("sparse events", 76, SOURCE_SECONDS),
)
"""The parts of `source_signal` as published: name, first and last second."""


@dataclass(frozen=True)
class ToneStep:
    """One level of the tone steps: samples `start … stop`, peak level in dB of full scale, and
    whether it is one of the quiet steps between the groups."""

    start: int
    stop: int
    level_db: float
    quiet: bool


def tone_schedule(rate: int) -> list[ToneStep]:
    """When each step of `tone_steps` begins and ends: 40 steps, -39 to 0 dB, and 12 quiet; 16 s.

    Boundaries are the exact times rounded to the sample, so that no rate accumulates an error.
    """
    levels: list[tuple[float, float]] = []  # seconds, dB
    for group in range(4):
        levels += [(0.25, -39.0 + 10 * group + step) for step in range(10)]
        levels += [(0.5, QUIET_DB)] * 3
    edges = (
        np.round(np.cumsum([0.0, *(seconds for seconds, _ in levels)]) * rate).astype(int).tolist()
    )
    return [
        ToneStep(start, stop, level, level == QUIET_DB)
        for start, stop, (_, level) in zip(edges[:-1], edges[1:], levels, strict=True)
    ]


def tone_steps(rate: int) -> np.ndarray:
    """A 1000 Hz tone whose level rises by steps of 1 dB: the levels are those of its peak. 16 s.

    Shape:
        `[16 · rate]`
    """
    steps = tone_schedule(rate)
    amplitude = np.repeat(
        [10 ** (step.level_db / 20) for step in steps], [step.stop - step.start for step in steps]
    )
    phase = 2 * np.pi * TONE_HZ / rate * np.arange(len(amplitude))
    return (amplitude * np.sin(phase)).astype(np.float32)


def normalise_peak(audio: np.ndarray, level_db: float = 0.0) -> np.ndarray:
    """Scale to a peak of `level_db` dB of full scale; silence stays silence."""
    peak = float(np.abs(audio).max(initial=0.0))
    return (audio * (10 ** (level_db / 20) / peak if peak > 0 else 1.0)).astype(np.float32)


def falling_excerpts(clips: Sequence[np.ndarray], rate: int, count: int = 10) -> np.ndarray:
    """Excerpts of 4 s, each normalised to a peak of 0 dB, under an envelope falling to -20 dB.

    The clips take turns; each time a clip comes round again its excerpt begins 4 s later. A clip
    that ends starts again, as loops do.

    Args:
        clips: mono music, each of any length above 0.

    Shape:
        `[count · 4 · rate]`
    """
    length = round(EXCERPT_SECONDS * rate)
    envelope = 10 ** (-EXCERPT_FALL_DB / 20 * np.arange(length) / length)
    excerpts = []
    for number in range(count):
        clip = clips[number % len(clips)]
        start = number // len(clips) * length
        excerpts.append(
            normalise_peak(np.take(clip, np.arange(start, start + length), mode="wrap")) * envelope
        )
    return np.concatenate(excerpts).astype(np.float32)


def events(seconds: float, rate: int, seed: int, sparse: bool = False) -> np.ndarray:
    """Random events: shaped noise, a waveshaped oscillator of three harmonics, linear and
    exponential chirps.

    Each event has its own level from -30 to 0 dB and its own ADSR envelope.

    Args:
        seconds: the length.
        seed: the same seed gives the same events at every rate above 27 kHz, noise apart.
        sparse: pauses between the events, over noise at -60 dB, so that a compressor's release is
            heard; else one event follows the other.

    Shape:
        `[seconds · rate]`
    """
    draw = np.random.default_rng([seed, int(sparse)])
    noise = np.random.default_rng([seed, 2 + int(sparse)])  # apart: its use depends on the rate
    length = round(seconds * rate)
    floor = 10 ** (-60 / 20) if sparse else 0.0
    audio = floor * noise.uniform(-1.0, 1.0, length)
    position = 0
    while position < length:
        duration = float(draw.uniform(0.1, 0.8))
        event = _event(duration, rate, draw, noise)[: length - position]
        audio[position : position + len(event)] += event
        pause = float(draw.uniform(0.2, 1.0)) if sparse else 0.0
        position += max(1, round((duration + pause) * rate))
    return np.clip(audio, -1.0, 1.0).astype(np.float32)


def source_signal(
    clips: Sequence[np.ndarray],
    rate: int,
    seed: int = 0,
    excerpts: int = 10,
    event_seconds: float = 20.0,
) -> np.ndarray:
    """The whole source: tone steps, falling excerpts, dense and sparse events; 96 s as published.

    Args:
        clips: mono music for the excerpts.
        event_seconds: the length of each of the two sequences of events.

    Shape:
        `[T]`
    """
    return np.concatenate(
        [
            tone_steps(rate),
            falling_excerpts(clips, rate, excerpts),
            events(event_seconds, rate, seed),
            events(event_seconds, rate, seed, sparse=True),
        ]
    )


def _event(
    duration: float, rate: int, draw: np.random.Generator, noise: np.random.Generator
) -> np.ndarray:
    seconds = np.arange(max(1, round(duration * rate))) / rate
    kind = int(draw.integers(4))
    level = 10 ** (float(draw.uniform(-30.0, 0.0)) / 20)
    envelope = _adsr(seconds, duration, draw)
    low, high = _frequencies(rate, draw)
    if kind == 0:
        wave = noise.uniform(-1.0, 1.0, len(seconds))
    elif kind == 1:
        wave = _oscillator(seconds, low, draw)
    else:
        start, stop = (low, high) if draw.random() < 0.5 else (high, low)
        wave = _chirp(seconds, duration, start, stop, exponential=kind == 3)
    return level * envelope * wave


def _adsr(seconds: np.ndarray, duration: float, draw: np.random.Generator) -> np.ndarray:
    attack, decay, release = (
        float(draw.uniform(low, high)) * duration
        for low, high in ((0.005, 0.2), (0.05, 0.3), (0.1, 0.4))
    )
    sustain = float(draw.uniform(0.1, 0.9))
    times = [0.0, attack, attack + decay, duration - release, duration]
    return np.interp(seconds, times, [0.0, 1.0, sustain, sustain, 0.0])


def _frequencies(rate: int, draw: np.random.Generator) -> tuple[float, float]:
    """A low and a high frequency, an octave apart or more, both below 0.45 of the rate."""
    top = min(12_000.0, 0.45 * rate)
    low = 40.0 * (top / 2 / 40.0) ** float(draw.random() * 0.7)
    return low, 2 * low * (top / (2 * low)) ** float(draw.random())


def _oscillator(seconds: np.ndarray, frequency: float, draw: np.random.Generator) -> np.ndarray:
    """Three harmonics of random weights through a tanh of random drive, at a peak of at most 1."""
    weights = draw.uniform(0.2, 1.0, 3)
    phases = draw.uniform(0.0, 2 * math.pi, 3)
    drive = float(draw.uniform(1.0, 5.0))
    wave = sum(
        weight * np.sin(2 * np.pi * order * frequency * seconds + phase)
        for order, (weight, phase) in enumerate(zip(weights, phases, strict=True), 1)
    )
    return np.tanh(drive * wave / weights.sum()) / math.tanh(drive)


def _chirp(
    seconds: np.ndarray, duration: float, start: float, stop: float, exponential: bool
) -> np.ndarray:
    if exponential:
        growth = math.log(stop / start) / duration
        return np.sin(2 * np.pi * start * np.expm1(growth * seconds) / growth)
    return np.sin(2 * np.pi * (start * seconds + (stop - start) / (2 * duration) * seconds**2))
