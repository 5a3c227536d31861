"""A trained model out of a run: the networks, its controls and its sample rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from sptmod_dist.data.controls import Control
from sptmod_dist.model.config import ModelConfig
from sptmod_dist.model.effects import Effect, build_effect
from sptmod_dist.model.spn import StatePredictionNetwork
from sptmod_dist.train.checkpoint import CheckpointError
from sptmod_dist.train.config import TrainConfig, from_dict
from sptmod_dist.train.run_folder import RunError, RunFolder


@dataclass(frozen=True)
class Model:
    """What rendering and evaluation need of a run."""

    effect: Effect
    config: TrainConfig
    """The resolved settings of the training."""
    controls: tuple[Control, ...]
    """The device's controls, in the order of the model's inputs."""
    sample_rate: int
    """Hz."""
    source: Path
    """The checkpoint's folder."""
    spn: nn.Module | None = None
    """The State Prediction Network, which only measuring WT needs; None where there is none."""

    @property
    def architecture(self) -> ModelConfig:
        """The model's own part of the settings."""
        return self.config.model


def load_model(run: str | Path, which: Literal["best", "last"] = "best") -> Model:
    """Load the networks of a run, ready to stream, on the CPU.

    Args:
        run: the run's folder.
        which: the checkpoint with the least ST validation loss, or the newest.

    Raises:
        UserError: where the folder is no run or has no whole checkpoint.
    """
    folder = RunFolder(run)
    found = folder.best_checkpoint() if which == "best" else folder.last_checkpoint()
    if found is None:
        raise RunError(f"{run} has no checkpoint: give a folder that a training wrote")
    path, checkpoint = found
    state: dict[str, Any] = checkpoint.state
    config = from_dict(state["config"], str(path))
    effect = build_effect(config.model).to(config.dtype)
    spn = None
    if config.model.spn is not None:
        spn = StatePredictionNetwork(config.model).to(config.dtype).eval()
    weights = checkpoint.averages or checkpoint.weights
    try:
        effect.load_state_dict(_under("effect.", weights))
        if spn is not None:
            spn.load_state_dict(_under("spn.", weights))
        controls = tuple(Control.from_dict(c) for c in state["data"]["controls"])
        sample_rate = int(state["data"]["sample_rate"])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} does not fit together ({reason}): take another") from None
    return Model(effect.eval(), config, controls, sample_rate, path, spn)


def _under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One network's own weights."""
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
