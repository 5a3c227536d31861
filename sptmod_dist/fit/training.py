"""How long a fit trains: so many iterations, or about so many minutes, and on from there later.

Minutes are turned into iterations by the speed of the iterations before them, so that a training
always ends in good order, and a later call can let it go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from sptmod_dist.files import atomic_write
from sptmod_dist.fit import launch
from sptmod_dist.fit.defaults import most_iterations
from sptmod_dist.fit.folder import FitFolder
from sptmod_dist.train.config import TrainConfig, to_yaml
from sptmod_dist.train.run_folder import RunFolder

Say = Callable[[str], None]

REHEARSAL = 150
"""Iterations that tell the speed."""


def train(folder: FitFolder, config: TrainConfig, minutes: float | None, say: Say) -> bool:
    """Train as far as is asked.

    Args:
        config: every setting; `stopping.max_iterations` is the end at the latest.
        minutes: about so long in all, whatever was trained before included; None: so many
            iterations.

    Returns:
        Whether there was anything left to train.

    Raises:
        UserError: the training did not end well.
    """
    with atomic_write(folder.settings) as path:
        path.write_text(to_yaml(config))
    end, before = most_iterations(config, minutes), folder.iteration
    if minutes is not None:
        if folder.seconds_per_iteration is None and not _is_done(folder, end):
            say("finding out how fast this machine is")
            _leg(folder, config, min(end, folder.iteration + REHEARSAL), say)
        if folder.seconds_per_iteration is not None:
            end = max(1, round(min(end, 60 * minutes / folder.seconds_per_iteration)))
    if not _is_done(folder, end):
        _leg(folder, config, end, say)
    return folder.iteration > before


def _is_done(folder: FitFolder, end: int) -> bool:
    finished = RunFolder(folder.run).summary() is not None
    return finished and folder.iteration >= end


def _leg(folder: FitFolder, config: TrainConfig, end: int, say: Say) -> None:
    """Train up to an iteration and note the speed, less the time that starting takes."""
    folder.learned.unlink(missing_ok=True)
    gpus, cores = torch.cuda.device_count(), launch.cores()
    processes = launch.n_processes(config, gpus, cores)
    say(_where(processes, gpus, end))
    before = folder.iteration
    arguments = launch.command(folder.settings, processes, end)
    launch.watch(arguments, launch.environment(processes, gpus, cores), folder.run)
    seconds = time.time() - (folder.run / "config.yaml").stat().st_mtime
    if folder.iteration > before:
        folder.note_speed(seconds / (folder.iteration - before))


def _where(processes: int, gpus: int, end: int) -> str:
    one = processes == 1
    what = "process" if one else "processes"
    devices = (f"{'one GPU' if one else f'{processes} GPUs'}, of {gpus}") if gpus else "the CPU"
    return f"training to iteration {end}: {processes} {what} on {devices}"
