"""Every figure of one item, each way: the model, the best static gain, and the input as it is.

The device itself in place of a model has zeros everywhere. It knows audio and a loss, not where
items come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from sptmod_dist.data.shards import Sequence as Audio
from sptmod_dist.infer.eval_items import Subject
from sptmod_dist.infer.eval_names import LOSS_TERMS, WAYS
from sptmod_dist.infer.evaluation import Errors, ItemResult, Windows
from sptmod_dist.losses import Loss, LossTerms
from sptmod_dist.metrics import (
    Answer,
    StaticGain,
    ToneStep,
    a_weighted_energy,
    answers,
    best_static_gain,
    energy,
    find_tone_steps,
    frame_levels,
    gain_error,
    gain_of_levels,
    loudness,
    loudness_difference,
    pre_emphasised_energy,
    timing_error,
)


class Levels(NamedTuple):
    """Frame levels [K] of what steers, of the audio input, of the target and of the model."""

    steering: np.ndarray
    input: np.ndarray
    target: np.ndarray
    model: np.ndarray


class Reference(NamedTuple):
    """What is known of the device's own output, whatever is compared with it."""

    levels: np.ndarray
    gain: np.ndarray
    loudness: float | None
    steps: list[ToneStep]
    answers: list[Answer]


class Energies(NamedTuple):
    """Sums of squares, by the name of the ESR that they belong to."""

    esr: float
    esr_pre_emphasised: float
    esr_a_weighted: float

    @classmethod
    def of(cls, audio: np.ndarray, rate: int) -> Energies:
        """Of any signal [C, T]."""
        return cls(energy(audio), pre_emphasised_energy(audio), a_weighted_energy(audio, rate))


def measure(
    subject: Subject,
    recording: Audio,
    prediction: np.ndarray,
    loss: Loss,
    rate: int,
    windows: Windows | None,
) -> tuple[ItemResult, Levels]:
    """All figures of an item, and the levels that its pictures need.

    Args:
        subject: the item.
        recording: its audio.
        prediction: of the model, [C, T].
        loss: of the training.
        rate: samples a second.
        windows: WT and ST of the item.
    """
    target = recording.output
    plain = recording.input[: len(target)]
    static = best_static_gain(plain, target)
    reference = _reference(plain, target, rate)
    left = {way: Energies(0, 0, 0) for way in WAYS}
    figures, levels = {}, {}
    for way, audio in _ways(plain, prediction, static):
        left[way] = Energies.of(np.subtract(audio, target, dtype=np.float64), rate)
        levels[way] = frame_levels(audio, rate)
        figures[way] = _figures(audio, plain, target, levels, way, reference, loss, rate)
    errors = _errors(left, Energies.of(target, rate))
    for way in WAYS:
        figures[way] |= {kind: one.esr[way] for kind, one in errors.items()}
    terms = {term: figures["model"][name] for name, term in LOSS_TERMS.items()}
    plain_errors = errors.pop("esr")
    result = ItemResult(
        subject.id,
        subject.settings,
        target.shape[-1],
        static.gain,
        {term: value for term, value in terms.items() if value is not None},
        plain_errors,
        errors,
        figures,
        windows,
    )
    steering = recording.input[len(target) :]  # the sidechain, where there is one
    steers = frame_levels(steering, rate) if len(steering) else levels["unprocessed"]
    return result, Levels(steers, levels["unprocessed"], reference.levels, levels["model"])


def _ways(
    plain: np.ndarray, prediction: np.ndarray, static: StaticGain
) -> Iterator[tuple[str, np.ndarray]]:
    """One signal at a time: long items are large. The plain one first, whose levels all need."""
    yield "unprocessed", plain
    yield "static_gain", (static.gain * plain).astype(np.float32)
    yield "model", prediction


def _reference(plain: np.ndarray, target: np.ndarray, rate: int) -> Reference:
    levels = frame_levels(target, rate)
    steps = find_tone_steps(plain, rate)
    return Reference(
        levels,
        gain_of_levels(frame_levels(plain, rate), levels),
        loudness(target, rate),
        steps,
        answers(steps, plain, target, rate),
    )


def _figures(
    audio: np.ndarray,
    plain: np.ndarray,
    target: np.ndarray,
    levels: dict[str, np.ndarray],
    way: str,
    reference: Reference,
    loss: Loss,
    rate: int,
) -> dict[str, float | None]:
    """All but the ESRs."""
    gain = gain_error(gain_of_levels(levels["unprocessed"], levels[way]), reference.gain)
    timing = timing_error(
        reference.steps, reference.answers, answers(reference.steps, plain, audio, rate)
    )
    return {
        **_loss(audio, target, loss),
        "gain_error_db": gain and gain.mean,
        "gain_error_p95_db": gain and gain.p95,
        "attack_error_ms": timing.attack_ms,
        "release_error_ms": timing.release_ms,
        "lufs_difference": loudness_difference(loudness(audio, rate), reference.loudness),
    }


def _loss(audio: np.ndarray, target: np.ndarray, loss: Loss) -> dict[str, float | None]:
    """The loss's terms; None where the audio is shorter than the longest window."""
    if target.shape[-1] < max(loss.config.windows):
        return dict.fromkeys(LOSS_TERMS)
    terms: LossTerms = loss(*(torch.from_numpy(a)[None] for a in (audio, target)))
    return {name: float(getattr(terms, term)) for name, term in LOSS_TERMS.items()}


def _errors(left: dict[str, Energies], target: Energies) -> dict[str, Errors]:
    """By the name of the ESR."""
    return {
        kind: Errors(
            unprocessed=getattr(left["unprocessed"], kind),
            static_gain=getattr(left["static_gain"], kind),
            model=getattr(left["model"], kind),
            target=getattr(target, kind),
        )
        for kind in Energies._fields
    }
