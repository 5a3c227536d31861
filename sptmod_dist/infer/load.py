"""A trained model out of a run: the network, its controls and its sample rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sptmod_dist.data.controls import Control
from sptmod_dist.model.config import ModelConfig
from sptmod_dist.model.effects import Effect, build_effect
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

    @property
    def architecture(self) -> ModelConfig:
        """The model's own part of the settings."""
        return self.config.model


def load_model(run: str | Path, which: Literal["best", "last"] = "best") -> Model:
    """Load the effect network of a run, ready to stream, on the CPU.

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
    prefix = "effect."
    weights = {
        name.removeprefix(prefix): value
        for name, value in (checkpoint.averages or checkpoint.weights).items()
        if name.startswith(prefix)
    }
    try:
        effect.load_state_dict(weights)
        controls = tuple(Control.from_dict(c) for c in state["data"]["controls"])
        sample_rate = int(state["data"]["sample_rate"])
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} does not fit together ({reason}): take another") from None
    return Model(effect.eval(), config, controls, sample_rate, path)
