"""`python -m sptmod_dist.slurm.node`: on each node of a job, becomes torchrun with the training's
processes of that node.

Who they are and where they meet comes from SLURM's variables. It must stay light: torch is imported
by what it becomes.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sptmod_dist.errors import UserError

RANK_LOGS = "SPTMOD_RANK_LOGS"
"""Variable for `rank.py`: the beginning of the names of its logs."""


@dataclass(frozen=True)
class Work:
    """What the job script says."""

    head: str
    """Name or address of the first node."""
    logs: str
    processes: int
    """On each node."""
    arguments: tuple[str, ...]
    """Of `train`."""


def read_work(words: Sequence[str], environ: Mapping[str, str]) -> Work:
    """The script's words: `--head H --logs FOLDER --processes P -- ARGUMENTS`.

    An empty number of processes is one a GPU that SLURM gave, or one.
    """
    end = list(words).index("--")
    options = dict(zip(words[:end:2], words[1:end:2], strict=True))
    processes = options["--processes"] or environ.get("SLURM_GPUS_ON_NODE") or "1"
    arguments = tuple(words[end + 1 :])
    return Work(options["--head"], options["--logs"], max(1, int(processes)), arguments)


def torchrun(work: Work, environ: Mapping[str, str]) -> list[str]:
    """The command line of this node's launcher.

    The places are SLURM's: the first node holds the meeting place, at a port of the job's own.
    """
    port = 10_000 + int(environ["SLURM_JOB_ID"]) % 20_000
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nnodes={environ['SLURM_STEP_NUM_NODES']}",
        f"--node_rank={environ['SLURM_NODEID']}",
        f"--nproc_per_node={work.processes}",
        f"--master_addr={work.head}",
        f"--master_port={port}",
        "--max_restarts=0",
        "-m",
        "sptmod_dist.slurm.rank",
        *work.arguments,
    ]


def variables(work: Work, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the launcher and its processes."""
    job, name = environ["SLURM_JOB_ID"], environ.get("SLURM_JOB_NAME", "job")
    cores = int(environ.get("SLURM_CPUS_PER_TASK") or environ.get("SLURM_CPUS_ON_NODE") or 1)
    threads = 1 if environ.get("SLURM_GPUS_ON_NODE") else max(1, cores // work.processes)
    return {
        "OMP_NUM_THREADS": str(threads),
        **environ,
        # SLURM says when it is too late; torchrun would after 30 s.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3600",
        RANK_LOGS: os.path.join(work.logs, f"{name}-{job}"),
    }


def check_head(head: str) -> None:
    """See that the first node can be found.

    Raises:
        UserError: its name means nothing here.
    """
    try:
        socket.getaddrinfo(head, None)
    except OSError as error:
        raise UserError(
            f"{socket.gethostname()} does not know the first node {head} ({error.strerror}): the "
            "cluster's DNS or /etc/hosts must name every node on every node"
        ) from None


def main(words: Sequence[str]) -> int:
    """Become the launcher; returns only where that cannot be."""
    work = read_work(words, os.environ)
    try:
        check_head(work.head)
    except UserError as error:
        print(f"sptmod-dist: error: {error}", file=sys.stderr, flush=True)
        return UserError.code
    # SLURM's warning reaches every process of the step: it would end the launcher, and a training
    # process that has no ear for it yet.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    os.execvpe(sys.executable, torchrun(work, os.environ), variables(work, os.environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
