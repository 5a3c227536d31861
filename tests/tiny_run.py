"""A run's folder as a training leaves it, with random weights: for whatever uses trained models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from sptmod_dist.data.controls import Control
from sptmod_dist.losses import LossConfig
from sptmod_dist.model import (
    ModelConfig,
    SPTModConfig,
    StatePredictionNetwork,
    build_effect,
)
from sptmod_dist.train import checkpoint
from sptmod_dist.train.config import DataConfig, TrainConfig, to_dict, to_yaml
from sptmod_dist.train.run_folder import HEADER

SNAPSHOT = SPTModConfig(
    channels=(4, 5),
    kernel_sizes=(3, 5),
    dilations=(1, 2),
    pooling_size=16,
    film_hidden=(4,),
    hidden_size=6,
    spn=None,
)
RATE = 44_100


def make_run(
    folder: Path,
    model: ModelConfig = SNAPSHOT,
    controls: Sequence[Control] = (),
    rate: int = RATE,
    test_set: Path | None = None,
    kinds: Sequence[str] = ("best", "step"),
) -> Path:
    """A run whose checkpoints, one of each kind, differ in their weights."""
    data = DataConfig("train", "validation", None if test_set is None else str(test_set))
    config = TrainConfig(model=model, data=data, lengths=(2048,), loss=LossConfig(windows=(256,)))
    about = {"sample_rate": rate, "controls": [control.to_dict() for control in controls]}
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(HEADER + to_yaml(config))
    for seed, kind in enumerate(kinds):
        torch.manual_seed(seed)
        effect = build_effect(model)
        weights = {f"effect.{name}": value for name, value in effect.state_dict().items()}
        if model.spn is not None:
            spn = StatePredictionNetwork(model)
            weights |= {f"spn.{name}": value for name, value in spn.state_dict().items()}
        state = {"progress": {"iteration": 10}, "config": to_dict(config), "data": about}
        saved = checkpoint.Checkpoint(weights, {}, state)
        checkpoint.save(folder / "checkpoints", f"{kind}-10", saved)
    return folder
