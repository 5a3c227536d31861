"""SLURM's own programs, and what they say of a cluster as plain values."""

from __future__ import annotations

import re
import shutil
import subprocess

from sptmod_dist.errors import UserError

NEEDED = ("sbatch", "srun", "scontrol", "sinfo", "squeue", "scancel")


def call(*words: str) -> str:
    """What a program prints.

    Raises:
        UserError: it is not there, does not answer, or refuses.
    """
    if shutil.which(words[0]) is None:
        raise UserError(
            f"there is no {words[0]} here: run this on a login node of the cluster, with SLURM's "
            "programs in PATH"
        )
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{words[0]} does not answer within 60 s: is the cluster's controller up?"
        ) from None
    if done.returncode:
        said = " ".join(done.stderr.split())
        raise UserError(f"{words[0]} fails ({said}): is the cluster's controller up?")
    return done.stdout


def settings() -> dict[str, str]:
    """The cluster's configuration, by key."""
    pairs = (line.partition("=") for line in call("scontrol", "show", "config").splitlines())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def partitions() -> dict[str, dict[str, str]]:
    """Every partition's properties, by its name."""
    return {each["PartitionName"]: each for each in _records("partition")}


def job_state(number: str) -> str:
    """RUNNING, PENDING …; empty where SLURM has forgotten the job."""
    try:
        return fields(call("scontrol", "show", "job", "-o", number)).get("JobState", "")
    except UserError:
        return ""


def node_versions() -> set[str]:
    """SLURM's versions on the nodes that are up."""
    return set(call("sinfo", "-h", "-N", "-r", "-o", "%v").split())


def fields(line: str) -> dict[str, str]:
    """`Key=value Key=value`, as `scontrol -o` prints it."""
    return dict(re.findall(r"(\S+?)=(\S*)", line))


def _records(kind: str) -> list[dict[str, str]]:
    text = call("scontrol", "show", kind, "-o")
    return [found for line in text.splitlines() if "PartitionName" in (found := fields(line))]
