"""Truncated backpropagation through time: the one place that knows when a group starts.

A group is `N` consecutive sub-sequences of each of its rows. The first starts without state and
without padding, reads the lookback and lets the SPN predict the states; the later ones continue
from states that are kept but detached (DAFx25, section 2.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sptmod_dist.model.config import ModelConfig
from sptmod_dist.model.effects import EffectState
from sptmod_dist.model.lengths import GroupLengths, LengthPlan


@dataclass(frozen=True)
class SubSequence:
    """What one iteration reads."""

    index: int
    """Its place in the group, from 0."""
    input: Tensor
    """Audio and sidechain [B, C + S, T]; in the first sub-sequence longer than the target."""
    target: Tensor
    """Wanted output [B, C, L_i]."""
    controls: Tensor
    """Normalised controls [B, n_params]."""
    plan: LengthPlan | None
    """Slices and crops of the first sub-sequence; None later."""
    lookback: Tensor | None
    """Input, sidechain and target of the past [B, C + S + C, lookback]; in the first alone."""

    @property
    def is_first(self) -> bool:
        """Whether a group starts here: new state, no padding, SPN on."""
        return self.plan is not None


class Step(NamedTuple):
    """What one forward pass gives."""

    prediction: Tensor
    """[B, C, L_i]."""
    state: EffectState
    """To be detached before the next sub-sequence."""
    seam: tuple[Tensor, Tensor] | None
    """Where the backward pass is cut between the networks: predicted states, and their leaf."""


class Schedule(GroupLengths):
    """The lengths of a group and how a sequence is cut into its sub-sequences.

    Args:
        config: the model's.
        lengths: `L_0 … L_{N-1}`; all but the first are multiples of `config.frame`.
    """

    def __init__(self, config: ModelConfig, lengths: Sequence[int]) -> None:
        self.plan = config.plan(lengths[0])
        self.lengths = tuple(lengths)
        self.input_length = self.plan.input_length

    def split(self, x: Tensor, y: Tensor, controls: Tensor) -> Iterator[SubSequence]:
        """The sub-sequences of a group, in order.

        Shape: x [B, C + S, sequence_length], y [B, C, sequence_length], controls [B, n_params].
        """
        stop = self.target_start
        for index, length in enumerate(self.lengths):
            start, stop = stop, stop + length
            first = index == 0
            yield SubSequence(
                index,
                x[..., 0 if first else start : stop],
                y[..., start:stop],
                controls,
                self.plan if first else None,
                self._lookback(x, y) if first and self.plan.lookback_length else None,
            )

    def _lookback(self, x: Tensor, y: Tensor) -> Tensor:
        past = slice(self.plan.lookback_start, self.target_start)
        return torch.cat([x[..., past], y[..., past]], dim=1)


def forward(
    effect: nn.Module,
    spn: nn.Module | None,
    sub: SubSequence,
    state: EffectState | None,
    keep: Tensor | None = None,
) -> Step:
    """Run both networks over one sub-sequence.

    The effect network starts from a leaf that holds the predicted states, so that each network has
    a backward pass of its own; `spn_loss` carries the gradient over the seam, exactly.

    Args:
        state: of the sub-sequence before, detached; None where a group starts.
        keep: dropout factors for this rank's rows [B, J, state], while training.
    """
    if sub.plan is None:
        prediction, state = effect(sub.input, sub.controls, state=state)
        return Step(prediction, state, None)
    if spn is None:
        prediction, state = effect(sub.input, sub.controls, plan=sub.plan)
        return Step(prediction, state, None)
    states = spn(sub.lookback, sub.controls, keep=keep)
    leaf = states.detach().requires_grad_(torch.is_grad_enabled())
    prediction, state = effect(sub.input, sub.controls, plan=sub.plan, rnn_states=leaf)
    return Step(prediction, state, (states, leaf))


def spn_loss(seam: tuple[Tensor, Tensor]) -> Tensor:
    """A scalar whose gradient in the SPN is that of the effect's loss, after its backward pass."""
    states, leaf = seam
    assert leaf.grad is not None
    return (states * leaf.grad).sum()
