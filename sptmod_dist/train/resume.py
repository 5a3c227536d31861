"""Whether a checkpoint is of the training that is asked for, and where it goes on.

It must not know networks or processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.train.checkpoint import Checkpoint, CheckpointError
from sptmod_dist.train.config import from_dict, to_dict
from sptmod_dist.train.progress import Progress


class TrainingError(UserError):
    """A training that cannot go on."""


def taken_up(
    path: Path, saved: Checkpoint, asked: Mapping[str, Any], n_groups: int, force: bool
) -> tuple[Progress, list[str]]:
    """Where a training goes on, and in what it differs from the one that was saved.

    Args:
        path: of the checkpoint, for messages.
        asked: the state of the training that wants to go on.
        n_groups: of its epochs.
        force: go on though something differs.

    Raises:
        TrainingError: listing every setting that differs and changes the training.
        CheckpointError: what the checkpoint holds does not fit together.
    """
    whole = to_dict(from_dict(saved.state["config"], str(path)))  # with settings since added
    found = list(differences({**saved.state, "config": whole}, asked))
    if found and not force:
        raise TrainingError(
            f"{path} belongs to another training: {'; '.join(found)}; give these settings "
            "back, start a new run under another name, or go on all the same with "
            "--force-resume"
        )
    try:
        progress = Progress.from_dict(saved.state["progress"])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}: take another checkpoint") from None
    if progress.iteration and not saved.moments:
        raise CheckpointError(f"{path} has lost the optimizer's moments: take another one")
    if progress.group > n_groups:
        if not found:
            raise CheckpointError(f"{path}: progress.group is past the epoch's end")
        progress.epoch, progress.group = progress.epoch + 1, 0
    if found:
        progress.forget_best()  # losses of another training are no measure for this one
    return progress, found


def begun(state: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    """Seconds of training and what the monitor had begun to show, as a checkpoint has them.

    Neither changes what is learned: where they are missing or damaged they begin again.
    """
    seconds, shown = state.get("seconds"), state.get("shown")
    if not (isinstance(seconds, float) and math.isfinite(seconds)):
        seconds = 0.0
    return seconds, shown if isinstance(shown, dict) else {}


# Settings that may differ between a checkpoint and the training that takes it up: none of them
# changes what an iteration computes. The data are compared by their fingerprints.
FREE = {
    "name",
    "runs_dir",
    "data",
    "validation",
    "stopping",
    "checkpoint",
    "monitor",
    "distributed",
    "kernels",
}


def differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """Every setting and every property of the data in which two trainings differ, in words.

    Args:
        saved: a checkpoint's state, with `config` and `data`.
        asked: the same of the training that wants to go on from it.
    """
    for key in sorted({*saved["config"], *asked["config"]} - FREE):
        yield from compare(key, saved["config"].get(key), asked["config"].get(key))
    yield from compare("data", saved["data"], asked["data"])


def compare(key: str, old: Any, new: Any) -> Iterator[str]:
    """Every difference of two values in words, key by key."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from compare(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield f"{key} was {old} and is {new}"
