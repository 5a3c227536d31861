"""`slurm doctor`: asks the controller, sends a short job to the nodes, gathers what is to mend."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from sptmod_dist import __version__
from sptmod_dist.slurm import checks, tools
from sptmod_dist.slurm.probe import MARK
from sptmod_dist.slurm.site import Site, resolved
from sptmod_dist.slurm.submit import Job, command, submit

_LATE = 30.0  # seconds after which a log must be seen here
_OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "")


def examine(site: Site, job: Job, folder: Path, wait: float) -> list[checks.Finding]:
    """Everything that was found, good and bad.

    Args:
        site: what jobs ask for.
        job: nodes and GPUs of the job that tries them.
        folder: where runs will be.
        wait: seconds for that job, with its time in the queue.

    Raises:
        UserError: there is no SLURM here, or it takes no job.
    """
    for program in tools.NEEDED:
        tools.call(program, "--version")
    version = tools.call("sbatch", "--version").split()[-1]
    cluster = checks.Cluster(
        version, tools.settings(), tools.partitions(), sorted(tools.node_versions())
    )
    found = list(checks.of_cluster(cluster, site, site.time))
    if not all(finding.ok for finding in found if "partition" in finding.sentence):
        return found  # no job could start
    number = submit(site, command(site, replace(job, time="10"), [str(folder)]))
    _say(f"job {number} tries {job.nodes} nodes; this takes some minutes, and waits in the queue")
    return found + _watched(site, job, number, wait)


def _watched(site: Site, job: Job, number: str, wait: float) -> list[checks.Finding]:
    log = resolved(site.logs) / f"sptmod-doctor-{number}.log"
    begun, state, late = time.monotonic(), "PENDING", 0.0
    try:
        while state not in _OVER and time.monotonic() - begun < wait:
            time.sleep(2)
            state = tools.job_state(number)
    finally:
        if state not in _OVER:
            tools.call("scancel", number)
    while not log.is_file() and state in _OVER and late < _LATE:
        time.sleep(1)
        late += 1
    lines = said(log.read_text(errors="replace")) if log.is_file() else []
    found = _of_end(site, number, log, state, wait, lines)
    here = {"sptmod_dist": __version__, "torch": metadata.version("torch")}
    here["python"] = sys.version.split()[0]
    # In a container nothing need be as it is here.
    told = checks.Told(lines, job.nodes, job.gpus, {} if site.container else here)
    return found or list(checks.of_nodes(told))


def said(text: str) -> list[dict[str, Any]]:
    """The probe's lines in a log."""
    found = []
    for line in text.splitlines():
        if line.startswith(MARK):
            try:
                found.append(json.loads(line.removeprefix(MARK)))
            except ValueError:
                continue
    return found


def _of_end(
    site: Site, number: str, log: Path, state: str, wait: float, lines: Sequence[Any]
) -> list[checks.Finding]:
    """What keeps the nodes from being judged at all."""
    if state not in _OVER and not lines:
        return [
            checks.bad(
                f"job {number} did not run within {wait:.0f} s and was cancelled: `sinfo` says "
                "which nodes are free; give --wait more, or another partition or account"
            )
        ]
    if not log.is_file():
        return [
            checks.bad(
                f"the log of job {number} is not in {resolved(site.logs)}: logs in the site file "
                "must be on a disk that the nodes share with this machine"
            )
        ]
    if not lines:
        last = next(reversed(log.read_text(errors="replace").split("\n")[:-1]), "nothing")
        return [checks.bad(f"job {number} ended ({state}) before it said anything: {last}")]
    return []


def _say(line: str) -> None:
    print(f"sptmod-dist: {line}", file=sys.stderr, flush=True)
