"""Command lines of sbatch, as lists of words: a script of ours, what the site asks for, and behind
the script what the job shall do.

Nothing is run here but sbatch itself, at the end.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sptmod_dist.errors import UserError
from sptmod_dist.slurm.site import Site, log_pattern, resolved


@dataclass(frozen=True)
class Job:
    """What a job takes of the cluster."""

    kind: str
    """Which script: train, study, tensorboard or doctor."""
    nodes: int = 1
    gpus: int = 0
    """On each node."""
    processes: int = 1
    """On each node, which share its cores."""
    array: str = ""
    """Of an array's tasks, as sbatch takes it."""
    time: str = ""
    """Where it is not the site's."""

    @property
    def log(self) -> str:
        """The log's name, as sbatch takes it."""
        return "%x-%A_%a.log" if self.array else "%x-%j.log"


def script(kind: str) -> Path:
    """The file of a job script, in the package."""
    return Path(str(files("sptmod_dist.slurm") / f"{kind}.sbatch"))


def command(site: Site, job: Job, arguments: Sequence[str]) -> list[str]:
    """The command line that submits a job.

    Args:
        site: what the cluster asks for.
        job: what it takes.
        arguments: what it shall do; the script hands them on as they are.
    """
    behind = [*_for_script(site, job), "--", *arguments]
    return ["sbatch", "--parsable", *_for_sbatch(site, job), str(script(job.kind)), *behind]


def _for_sbatch(site: Site, job: Job) -> list[str]:
    """One word an option, so that no value can be taken for one."""
    gpus = f"{site.gpu_type}:{job.gpus}" if site.gpu_type else str(job.gpus)
    cores = site.cpus_per_process * job.processes
    warned = job.kind in ("train", "study")
    options = {
        "account": site.account,
        "partition": site.partition,
        "qos": site.qos,
        "constraint": site.constraint,
        "time": job.time or site.time,
        "nodes": str(job.nodes),
        "gpus-per-node": gpus if job.gpus else "",
        "cpus-per-task": str(cores) if cores else "",
        "mem": site.memory,
        "array": job.array,
        "signal": f"B:USR1@{site.warning}" if warned else "",
        "output": log_pattern(site, job.log),
    }
    return [*(f"--{key}={value}" for key, value in options.items() if value), *site.sbatch]


def _for_script(site: Site, job: Job) -> list[str]:
    pairs = [
        *(("--module", name) for name in site.modules),
        *(("--setup", line) for line in site.setup),
        *(("--srun", option) for option in site.srun),
        *(("--container", word) for word in site.container),
        ("--python", site.python),
        ("--logs", str(resolved(site.logs))),
    ]
    if job.kind == "train":
        pairs.append(("--processes", str(job.processes)))
    if job.kind == "tensorboard" and site.login:
        pairs.append(("--login", site.login))
    return [word for pair in pairs for word in pair]


def shown(words: Sequence[str], kind: str) -> str:
    """A command line as a shell takes it, and the script that it submits."""
    path = script(kind)
    return f"{shlex.join(words)}\n\n# {path}\n{path.read_text()}"


def submit(site: Site, words: Sequence[str]) -> str:
    """Make the folder of logs, which SLURM does not, and submit; the job's number.

    Raises:
        UserError: there is no SLURM here, or it refuses the job.
    """
    if shutil.which(words[0]) is None:
        raise UserError(
            "there is no sbatch here: run this on a login node of the cluster, or look at what it "
            "would submit with --dry-run"
        )
    resolved(site.logs).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        said = " ".join(done.stderr.replace("sbatch: error:", "").split())
        raise UserError(
            f"SLURM refused the job ({said}): mend the site file, `sptmod-dist slurm doctor` says "
            "what this cluster has"
        )
    return done.stdout.strip().partition(";")[0]
