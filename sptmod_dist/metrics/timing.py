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
_SILENCE = 1e-5  # -100 dB; an output below it counts as that


class Answer(NamedTuple):
    """What a gain does after a step."""

    move_db: float
    """From where it starts to where it settles before the next step."""
    seconds: float | None
    """Until it has gone 63 % of that way; None where it hardly moves, or never stays there."""


class TimingError(NamedTuple):
    """|t_model - t_device|, means over the steps at which the device moves by 1 dB or more."""

    attack_ms: float | None
    release_ms: float | None
    missed: float | None
    """The share of those steps at which the model hardly moves, or the other way."""


def answers(
    steps: Sequence[ToneStep], input: np.ndarray, output: np.ndarray, rate: int
) -> list[Answer]:
    """How the gain of an output answers each step of what steers it.

    Args:
        steps: by `find_tone_steps` of the input, or of the sidechain where there is one.
        input, output: aligned, without the sidechain.
        rate: samples a second.

    Shape: input and output [C, T].
    """
    return [_answer(step, input, output, rate) for step in steps]


def timing_error(
    steps: Sequence[ToneStep], device: Sequence[Answer], model: Sequence[Answer]
) -> TimingError:
    """The mean distance of two timings, up and down; None where there is nothing to compare."""
    errors: dict[bool, list[float]] = {True: [], False: []}
    missed: list[bool] = []
    for step, wanted, got in zip(steps, device, model, strict=True):
        if wanted.seconds is None or abs(wanted.move_db) < LEAST_MOVE_DB:
            continue
        missed.append(got.seconds is None or got.move_db * wanted.move_db < 0)
        if got.seconds is not None and not missed[-1]:
            errors[step.change_db > 0].append(1000 * abs(got.seconds - wanted.seconds))
    attack, release, share = (
        float(np.mean(found)) if found else None for found in (errors[True], errors[False], missed)
    )
    return TimingError(attack, release, share)


def _answer(step: ToneStep, input: np.ndarray, output: np.ndarray, rate: int) -> Answer:
    first = max(step.start, step.place - round(_BEFORE_SECONDS * rate) - step.window)
    into, out = (sliding_power(a[:, first : step.stop], step.window) for a in (input, output))
    if into.min() < _SILENCE**2 or out.max() < _SILENCE**2:  # a sidechain steps in pauses too
        return Answer(0.0, None)
    gain = 10 * np.log10(np.maximum(out, _SILENCE**2) / into)  # of each window, in dB
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
    crossing = _crossing((gain[begins:] - start) / move)
    return Answer(move, None if crossing is None else max(0.0, begins + crossing - after) / rate)


def _crossing(way: np.ndarray) -> float | None:
    """Where a way from 0 to 1 has gone its share, between two samples; None if it never stays.

    It is there that fewest samples lie on the wrong side. The first crossing may be what is left of
    the loud tone, where a device is late or filters, and the last a ripple of a gain long settled.
    """
    below = way < SHARE
    wrong = np.concatenate([[0], np.cumsum(~below)]) + np.count_nonzero(below)
    wrong[1:] -= np.cumsum(below)  # [k]: those above before k and those below from k on
    index = int(wrong.argmin())
    if index == len(way):
        return None
    if index == 0:
        return 0.0
    before, there = way[index - 1], way[index]
    return float(index - 1 + (SHARE - before) / (there - before))
