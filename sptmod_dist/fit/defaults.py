"""The settings of a fit: its own defaults, whatever the user gives over them, and what follows.

A sequence is 3 x 8192 samples of output (0.56 s) after a lookback of 0.43 s, B = 8 of them a group.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.train.config import StoppingConfig, TrainConfig

ITERATIONS = 2400
"""Without other wishes; 3 minutes on two CPU cores."""

DEFAULTS: dict[str, Any] = {
    "lengths": [8192, 8192, 8192],
    "batch_size": 8,
    "model": {"preset": "tiny", "n_params": 0},
    "data": {"sequences_per_record": 8},
    "optimizer": {"learning_rate": 5e-3, "clip_norm": 20.0, "average": 0.99},
    "validation": {"every": 250},
}
"""Beneath files and options; the rate stays constant, so that any fit can go on with more time, and
the average of the weights does what a falling rate would."""

RUN = "run"
"""Name of the run in the fit's folder."""


def settle(config: TrainConfig, out: Path, channels: int) -> TrainConfig:
    """The settings with all that the pair and the fit's folder decide.

    Args:
        config: from `DEFAULTS` and the user.
        out: the fit's folder.
        channels: of the recordings.

    Raises:
        UserError: the user gave what is not theirs to give.
    """
    _refuse(config, channels)
    shards = out / "shards"
    data = replace(
        config.data,
        train=str(shards / "train"),
        validation=str(shards / "validation"),
        test=str(shards / "test"),
    )
    model = replace(config.model, input_channels=channels)
    settled = replace(config, name=RUN, runs_dir=str(out), data=data, model=model)
    settled.check()
    return settled


def most_iterations(config: TrainConfig, minutes: float | None) -> int:
    """Where training ends at the latest: as the user says, or after a while."""
    given = config.stopping.max_iterations
    unset = given == StoppingConfig.max_iterations
    return ITERATIONS if unset and minutes is None else given


def _refuse(config: TrainConfig, channels: int) -> None:
    fresh = TrainConfig()
    decided: dict[str, tuple[Any, Any]] = {
        "name": (config.name, fresh.name),
        "runs_dir": (config.runs_dir, fresh.runs_dir),
        "data.train": (config.data.train, fresh.data.train),
        "data.validation": (config.data.validation, fresh.data.validation),
        "data.test": (config.data.test, fresh.data.test),
        "model.n_params": (config.model.n_params, 0),
        "model.sidechain_channels": (config.model.sidechain_channels, 0),
    }
    for key, (value, own) in decided.items():
        if value != own:
            raise UserError(
                f"{key} is given as {value}, but a fit decides it by itself: leave it out; --out "
                "names the folder, and devices with controls or a sidechain are trained from a "
                "manifest"
            )
    if config.model.input_channels not in (1, channels):
        raise UserError(
            f"model.input_channels is {config.model.input_channels}, but the recordings have "
            f"{channels}: leave it out"
        )
