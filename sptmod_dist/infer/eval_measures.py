"""Every figure of one item, each way: the model, the best static gain, and the input as it is.

The device itself in place of a model has zeros everywhere. It knows audio and a loss, not where
items come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from sptmod_dist.data.shards import Sequence as Audio
from sptmod_dist.infer.eval_items import Subject
from sptmod_dist.infer.eval_names import LOSS_TERMS
from sptmod_dist.infer.evaluation import Errors, ItemResult, Windows
from sptmod_dist.losses import Loss
from sptmod_dist.metrics import (
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


class Energies(NamedTuple):
    """Sums of squares, by the name of the ESR that they belong to."""

    esr: float
    esr_pre_emphasised: float
    esr_a_weighted: float

    @classmethod
    def of(cls, audio: np.ndarray, rate: int) -> Energies:
        """Of any signal [C, T]."""
        return cls(energy(audio), pre_emphasised_energy(audio), a_weighted_energy(audio, rate))


class Way(NamedTuple):
    """What one signal in the device's place is like."""

    energies: Energies
    """Of what it leaves of the target."""
    levels: np.ndarray
    """Frame levels [K]."""
    figures: dict[str, float | None]
    """All but the ESRs."""


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
        windows: what training's validation would find, where the item is long enough: the terms
            over the whole item need not be computed again then.
    """
    device = _Device(recording, loss, rate)
    static = best_static_gain(device.input, device.target)
    ways = {
        "model": device.compare(prediction, windows.whole if windows else None),
        "static_gain": device.compare((static.gain * device.input).astype(np.float32)),
        "unprocessed": device.compare(device.input),
    }
    steers = frame_levels(device.steering, rate)
    levels = Levels(steers, device.input_levels, device.levels, ways["model"].levels)
    return _result(subject, device, ways, static.gain, windows), levels


class _Device:
    """What is known of the device's output, whatever is put in its place."""

    def __init__(self, recording: Audio, loss: Loss, rate: int) -> None:
        self.target, self._loss, self._rate = recording.output, loss, rate
        self.input = recording.input[: len(self.target)]
        sidechain = recording.input[len(self.target) :]
        self.steering = sidechain if len(sidechain) else self.input
        self.input_levels = frame_levels(self.input, rate)
        self.levels = frame_levels(self.target, rate)
        self.energies = Energies.of(self.target, rate)
        self._gain = gain_of_levels(self.input_levels, self.levels)
        self._loudness = loudness(self.target, rate)
        self._steps = find_tone_steps(self.steering, rate)
        self._answers = answers(self._steps, self.input, self.target, rate)

    def compare(self, audio: np.ndarray, whole: Mapping[str, float] | None = None) -> Way:
        """A signal with the device's; `whole`: its loss's terms, where they are known."""
        left = Energies.of(np.subtract(audio, self.target, dtype=np.float64), self._rate)
        levels = frame_levels(audio, self._rate)
        terms = whole or self._terms(audio)
        figures = {name: terms.get(term) for name, term in LOSS_TERMS.items()}
        return Way(left, levels, {**figures, **self._figures(audio, levels)})

    def _figures(self, audio: np.ndarray, levels: np.ndarray) -> dict[str, float | None]:
        gain = gain_error(gain_of_levels(self.input_levels, levels), self._gain)
        given = answers(self._steps, self.input, audio, self._rate)
        timing = timing_error(self._steps, self._answers, given)
        return {
            "gain_error_db": gain.mean if gain else None,
            "gain_error_p95_db": gain.p95 if gain else None,
            "attack_error_ms": timing.attack_ms,
            "release_error_ms": timing.release_ms,
            "steps_missed": timing.missed,
            "lufs_difference": loudness_difference(loudness(audio, self._rate), self._loudness),
        }

    def _terms(self, audio: np.ndarray) -> dict[str, float]:
        """The loss's terms; none where the audio is shorter than the longest window."""
        if self.target.shape[-1] < max(self._loss.config.windows):
            return {}
        terms = self._loss(*(torch.from_numpy(a)[None] for a in (audio, self.target)))
        return {name: float(value) for name, value in terms._asdict().items()}


def _result(
    subject: Subject,
    device: _Device,
    ways: Mapping[str, Way],
    gain: float,
    windows: Windows | None,
) -> ItemResult:
    errors = {
        kind: Errors(
            **{way: getattr(found.energies, kind) for way, found in ways.items()},
            target=getattr(device.energies, kind),
        )
        for kind in Energies._fields
    }
    figures = {
        way: found.figures | {kind: one.esr[way] for kind, one in errors.items()}
        for way, found in ways.items()
    }
    terms = {term: figures["model"][name] for name, term in LOSS_TERMS.items()}
    return ItemResult(
        subject.id,
        subject.settings,
        device.target.shape[-1],
        gain,
        {term: value for term, value in terms.items() if value is not None},
        errors.pop("esr"),
        errors,
        figures,
        windows,
    )
