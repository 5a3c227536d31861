"""Starting a training on what the machine has, as processes of their own, and seeing it end.

Several processes meet by torchrun. Whether the training is finished is read from its run, not from
exit codes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sptmod_dist.errors import UserError
from sptmod_dist.train.config import TrainConfig

CPU_PROCESSES = 2
_GRACE = 10.0  # seconds in which a training ends that a terminal has told to
_PATIENCE = 60.0  # seconds for a training to write its checkpoint


def n_processes(config: TrainConfig, gpus: int, cores: int) -> int:
    """How many processes: one a GPU, or two without one, as far as they can share a batch."""
    if config.distributed.processes is not None:
        return config.distributed.processes
    most = gpus or min(CPU_PROCESSES, cores)
    return max(n for n in range(1, most + 1) if _shares(config, n))


def cores() -> int:
    """Those that this process may use, where the system tells."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def command(settings: Path, processes: int, iterations: int) -> list[str]:
    """The command line that trains up to an iteration, or goes on to it.

    Args:
        settings: the YAML file.
        processes: on so many.
        iterations: in all, those of before included.
    """
    train = ["-m", "sptmod_dist", "train", f"--config={settings}", "--resume=auto"]
    train.append(f"--stopping.max_iterations={iterations}")
    if processes == 1:
        return [sys.executable, *train]
    meet = ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", "--max_restarts=0"]
    torchrun = ["-m", "sptmod_dist.fit.torchrun", f"--nproc_per_node={processes}", *meet]
    return [sys.executable, *torchrun, *train]


def environment(processes: int, gpus: int, cores: int) -> dict[str, str]:
    """Variables for the processes: without GPUs they divide the cores between them."""
    threads = 1 if gpus else max(1, cores // processes)
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def watch(arguments: Sequence[str], variables: Mapping[str, str], run: Path) -> None:
    """Run a training to its end; what it has to say goes to the user.

    Raises:
        UserError: it did not end well. What it said stands above.
    """
    process = subprocess.Popen(arguments, env=dict(variables))
    try:
        code = process.wait()
    except KeyboardInterrupt:  # a terminal tells the training too, and twice would cut it short
        _end(process, _GRACE)
        raise
    except SystemExit:
        _end(process, 0.0)
        raise
    if code:
        raise UserError(
            f"the training in {run} did not end well, for the reason above (or in {run}/logs): "
            "the same command goes on from its last checkpoint"
        )


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """Let a training write its checkpoint; then it must go.

    Args:
        grace: seconds to wait before it is asked to stop.
    """
    for ask, seconds in ((None, grace), (process.terminate, _PATIENCE), (process.kill, None)):
        if ask is not None:
            ask()
        try:
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue


def _shares(config: TrainConfig, processes: int) -> bool:
    rows, rest = divmod(config.batch_size, processes)
    slices = config.distributed.virtual_shards or processes
    return not rest and slices % processes == 0 and rows % config.distributed.micro_batches == 0
