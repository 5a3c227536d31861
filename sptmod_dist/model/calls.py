"""What every effect network refuses: calls whose arguments do not fit together."""

from __future__ import annotations

from torch import Tensor

from sptmod_dist.model.config import EffectConfig
from sptmod_dist.model.lengths import LengthPlan


def check_call(
    config: EffectConfig, x: Tensor, controls: Tensor, plan: LengthPlan | None, state: object
) -> None:
    """Check a call that starts a group (a plan) or continues (a state).

    Shape: x [B, C + S, T], controls [B, n_params].

    Raises:
        ValueError: both or neither of plan and state; lengths or channels that do not fit.
    """
    B, channels, T = x.shape
    if (plan is None) == (state is None):
        raise ValueError("give a plan (to start a group) or a state (to continue), not both")
    if channels != config.signal_channels:
        raise ValueError(f"x has {channels} channels; the model has {config.signal_channels}")
    if controls.shape != (B, config.n_params):
        raise ValueError(
            f"controls are {tuple(controls.shape)}; they must be ({B}, {config.n_params})"
        )
    if plan is not None and T != plan.input_length:
        raise ValueError(f"x has {T} samples; the plan asks for {plan.input_length}")
    if plan is None and (not T or T % config.frame):
        raise ValueError(f"x has {T} samples; it must be a multiple of {config.frame}")
