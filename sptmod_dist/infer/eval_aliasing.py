"""Steady tones through a model, under the settings of the items: what it leaves beside them.

It knows a loaded model; what is measured on its output is `metrics/aliasing.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sptmod_dist.data.controls import Setting, normalised_vector
from sptmod_dist.infer.eval_items import Subject
from sptmod_dist.infer.evaluation import Aliasing
from sptmod_dist.infer.load import Model
from sptmod_dist.infer.stream import stream_whole
from sptmod_dist.metrics import Spurs, probe_tones, spurs, tone

SETTLING_SECONDS = 2
"""Before the second that is measured: a state that starts from zeros needs a while."""

MOST_SETTINGS = 32
"""Of more settings, so many spread evenly are probed."""

_AT_ONCE = 8  # settings in one stream


def measure_aliasing(model: Model, subjects: Sequence[Subject]) -> tuple[Aliasing, ...]:
    """Probe every distinct setting of the items with every tone.

    A sidechain gets the same tone as the audio.
    """
    settings = _distinct(subjects)
    vectors = torch.tensor(
        [normalised_vector(model.controls, setting) for setting in settings], dtype=torch.float32
    ).reshape(len(settings), -1)
    found: list[dict[int, Spurs | None]] = [{} for _ in settings]
    for hertz in probe_tones(model.sample_rate):
        rows = np.concatenate([_settled(model, hertz, part) for part in vectors.split(_AT_ONCE)])
        for tones, row in zip(found, rows, strict=True):
            tones[hertz] = spurs(row, hertz)
    return tuple(Aliasing(*pair) for pair in zip(settings, found, strict=True))


def _settled(model: Model, hertz: int, vectors: torch.Tensor) -> np.ndarray:
    """The last second of the output [B, C, rate]."""
    rate = model.sample_rate
    probe = torch.from_numpy(tone(hertz, rate, SETTLING_SECONDS + 1))
    x = probe.expand(1, model.architecture.signal_channels, -1)
    return stream_whole(model.effect, x, vectors)[..., -rate:].float().numpy()


def _distinct(subjects: Sequence[Subject]) -> list[dict[str, Setting]]:
    known = {tuple(sorted(subject.settings.items())): subject.settings for subject in subjects}
    settings = list(known.values())
    if len(settings) <= MOST_SETTINGS:
        return settings
    places = np.linspace(0, len(settings) - 1, MOST_SETTINGS).round().astype(int)
    return [settings[place] for place in places]
