"""All effect networks by `model.kind`: whoever builds or loads one needs no name of any."""

from __future__ import annotations

from typing import Any

from sptmod_dist.model.config import ModelConfig
from sptmod_dist.model.sptmod import ModelState, SPTMod
from sptmod_dist.model.tcn import TCN, TCNState

Effect = SPTMod | TCN
EffectState = ModelState | TCNState

_KINDS: dict[str, Any] = {"sptmod": SPTMod, "tcn": TCN}


def build_effect(config: ModelConfig) -> Effect:
    """A fresh effect network."""
    effect: Effect = _KINDS[config.kind](config)
    return effect
