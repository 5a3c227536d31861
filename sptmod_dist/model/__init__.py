"""The model: its configuration, its lengths, its two networks."""

from sptmod_dist.model.config import SPNConfig, SPTModConfig, sptmod24, sptmod25, tiny
from sptmod_dist.model.lengths import LengthPlan
from sptmod_dist.model.reference import load_reference, reference_weights
from sptmod_dist.model.spn import StatePredictionNetwork
from sptmod_dist.model.sptmod import ModelState, SPTMod

__all__ = [
    "LengthPlan",
    "ModelState",
    "SPNConfig",
    "SPTMod",
    "SPTModConfig",
    "StatePredictionNetwork",
    "load_reference",
    "reference_weights",
    "sptmod24",
    "sptmod25",
    "tiny",
]
