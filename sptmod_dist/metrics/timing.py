"""Attack and release: when a gain answers a step of a tone, and how far two answers are apart.

The gain here is the level of a sliding window of about 2 ms of the output minus that of the input:
10 ms frames are too coarse for it. It knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sptmod_dist.metrics.tone_steps import ToneStep, sliding_power

SHARE = 0.632
"""Of the way in dB, after which a gain counts as arrived: one time constant of a one-pole."""

LEAST_MOVE_DB = 1.0
"""Steps at which the device moves less say nothing about its timing."""

_BEFORE_SECONDS = 0.01  # whose mean is the gain before the step
_OVERSHOOT_SECONDS = 0.01  # in which a gain may first go the other way
_SETTLED_SECONDS = 0.02  # at the end, whose median is where the gain settles
_STILL_DB = 0.25  # a gain that moves less has no timing
_SILENCE = 1e-5  # -100 dB


class Answer(NamedTuple):
    """What a gain does after a step."""

    move_db: float
    """From where it starts to where it settles before the next step."""
    seconds: float | None
    """Until it has gone 63 % of that way; None where it hardly moves."""


class TimingError(NamedTuple):
    """|t_model - t_device|, means over the steps at which the device moves by 1 dB or more."""

    attack_ms: float | None
    release_ms: float | None


def answers(
    steps: Sequence[ToneStep], input: np.ndarray, output: np.ndarray, rate: int
) -> list[Answer]:
    """How the gain of an output answers each step of its input.

    Args:
        steps: by `find_tone_steps` of the input.
        input, output: aligned.
        rate: samples a second.

    Shape: input and output [C, T].
    """
    return [_answer(step, input, output, rate) for step in steps]


def timing_error(
    steps: Sequence[ToneStep], device: Sequence[Answer], model: Sequence[Answer]
) -> TimingError:
    """The mean distance of two timings, up and down; None where there is nothing to compare."""
    errors: dict[bool, list[float]] = {True: [], False: []}
    for step, wanted, got in zip(steps, device, model, strict=True):
        if abs(wanted.move_db) < LEAST_MOVE_DB or wanted.seconds is None or got.seconds is None:
            continue
        errors[step.change_db > 0].append(1000 * abs(got.seconds - wanted.seconds))
    attack, release = (float(np.mean(e)) if e else None for e in (errors[True], errors[False]))
    return TimingError(attack, release)


def _answer(step: ToneStep, input: np.ndarray, output: np.ndarray, rate: int) -> Answer:
    first = max(step.start, step.place - round(_BEFORE_SECONDS * rate) - step.window)
    if np.abs(output[:, first : step.stop]).max() < _SILENCE:
        return Answer(0.0, None)
    gain = _gain(input[:, first : step.stop], output[:, first : step.stop], step.window)
    after = step.place - first - step.window // 2  # the window whose middle is the step
    start = float(gain[: max(1, after - step.window // 2)].mean())
    end = float(np.median(gain[-round(_SETTLED_SECONDS * rate) :]))
    begins = after
    direction = np.sign(end - start)
    early = direction * gain[after : after + round(_OVERSHOOT_SECONDS * rate)]
    if early.size and early.min() < direction * start:  # the other way first
        begins = after + int(np.argmin(early))
        start = float(gain[begins])
    move = end - start
    if not abs(move) >= _STILL_DB:  # a model may give NaN too
        return Answer(move, None)
    return Answer(move, max(0.0, (_crossing(gain, begins, start, move) - after) / rate))


def _crossing(gain: np.ndarray, begins: int, start: float, move: float) -> float:
    """Where the gain first has gone its share of the way, between two samples."""
    way = (gain[begins:] - start) / move
    index = int(np.argmax(way >= SHARE))
    if index == 0:
        return float(begins)
    before, there = way[index - 1], way[index]
    return begins + index - 1 + (SHARE - before) / (there - before)


def _gain(input: np.ndarray, output: np.ndarray, window: int) -> np.ndarray:
    """In dB, of each window; an output below -100 dB counts as that."""
    into, out = (sliding_power(audio, window) for audio in (input, output))
    return 10 * np.log10(np.maximum(out, 1e-10) / np.maximum(into, 1e-20))
