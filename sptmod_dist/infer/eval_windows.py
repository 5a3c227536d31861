"""WT and ST of whole items over the same windows, as training's validation measures them.

It knows a loaded model, not where items come from.
"""

from __future__ import annotations

import torch
from torch import nn

from sptmod_dist.data.shards import Sequence as Audio
from sptmod_dist.infer.evaluation import Windows
from sptmod_dist.infer.load import Model
from sptmod_dist.losses import Loss, LossTerms
from sptmod_dist.tbptt import Schedule
from sptmod_dist.train.validation import streamed_terms


class Windowed:
    """Measures WT and ST of items, with the run's lengths.

    Args:
        model: with its SPN, where it has one; without, WT starts from states of zero, by its plan.
        loss: of the training.
    """

    def __init__(self, model: Model, loss: Loss) -> None:
        self._schedule = Schedule(model.config.model, model.config.lengths)
        self._loss, self._dtype = loss, model.config.dtype
        self._at_once = model.config.validation.windows_at_once
        self._networks: dict[str, nn.Module] = {"effect": model.effect}
        if model.spn is not None:
            self._networks["spn"] = model.spn

    def measure(self, item: Audio, streamed: torch.Tensor) -> Windows | None:
        """The terms of one item; None where it is too short for one window.

        Args:
            streamed: the model's output, [1, C, T].
        """
        if not self._schedule.n_sequences(item.output.shape[-1]):
            return None
        x, y, controls = (
            torch.from_numpy(a)[None].to(self._dtype)
            for a in (item.input, item.output, item.controls)
        )
        with torch.no_grad():
            terms = streamed_terms(
                self._networks, self._schedule, self._loss, streamed, x, y, controls, self._at_once
            )
        rows = (dict(zip(LossTerms._fields, row.tolist(), strict=True)) for row in terms[:3])
        return Windows(*rows)
