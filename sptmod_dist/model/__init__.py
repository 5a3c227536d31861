"""The model: its configuration, its lengths, its two networks."""

from sptmod_dist.model.config import (
    ModelConfig,
    SPNConfig,
    SPTModConfig,
    TCNConfig,
    gain_tcn,
    sptmod24,
    sptmod25,
    tiny,
)
from sptmod_dist.model.effects import Effect, EffectState, build_effect
from sptmod_dist.model.lengths import LengthPlan
from sptmod_dist.model.reference import load_reference, reference_weights
from sptmod_dist.model.spn import StatePredictionNetwork
from sptmod_dist.model.sptmod import ModelState, SPTMod
from sptmod_dist.model.tcn import TCN, TCNState

__all__ = [
    "Effect",
    "EffectState",
    "LengthPlan",
    "ModelConfig",
    "ModelState",
    "SPNConfig",
    "SPTMod",
    "SPTModConfig",
    "StatePredictionNetwork",
    "TCN",
    "TCNConfig",
    "TCNState",
    "build_effect",
    "gain_tcn",
    "load_reference",
    "reference_weights",
    "sptmod24",
    "sptmod25",
    "tiny",
]
