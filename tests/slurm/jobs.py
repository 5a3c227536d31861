"""Jobs in the tests' cluster: submitted by the command, watched, and their logs read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from processes import environment
from slurm.cluster import Cluster

from sptmod_dist.train import checkpoint
from sptmod_dist.train.run_folder import RunFolder


class Jobs:
    """Those of one test: the logs are in its folder."""

    def __init__(self, cluster: Cluster, folder: Path, **site: object) -> None:
        self.cluster, self.folder = cluster, folder
        about = {"format": "sptmod-site-1", "logs": str(folder / "logs"), **site}
        (folder / "site.yaml").write_text(json.dumps(about))

    def slurm(self, action: str, *words: str, limit: float = 60) -> str:
        """`sptmod-dist slurm ACTION`, and what it prints."""
        command = [sys.executable, "-m", "sptmod_dist", "slurm", action]
        command += ["--site", str(self.folder / "site.yaml"), *words]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit,
            cwd=self.folder,
            env=environment(**self.cluster.variables, CUDA_VISIBLE_DEVICES=""),
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def submit(self, action: str, *words: str) -> str:
        """The number of the job that it submits."""
        return self.slurm(action, *words).split()[1].rstrip(":")

    def state(self, job: str) -> str:
        """RUNNING, PENDING, COMPLETED …"""
        told = self.cluster.call("scontrol", "show", "job", "-o", job)
        return told.partition("JobState=")[2].split()[0]

    def log(self, job: str, kind: str = "train") -> str:
        path = self.folder / "logs" / f"sptmod-{kind}-{job}.log"
        return path.read_text() if path.exists() else ""

    def wait(self, job: str, done: Callable[[], object], limit: float, kind: str = "train") -> None:
        """Until something is so."""
        deadline = time.monotonic() + limit
        while not done():
            assert time.monotonic() < deadline, f"{self.state(job)}\n{self.log(job, kind)}"
            time.sleep(0.2)

    def ended(self, job: str, limit: float = 120) -> str:
        """Its state when it has left the queue."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.wait(job, lambda: self.state(job) in over, limit)
        return self.state(job)

    def further(self, job: str, run: RunFolder, limit: float = 90) -> None:
        """Until the run has a checkpoint more."""
        before = _iteration(run)
        self.wait(job, lambda: _iteration(run) > before, limit)


def _iteration(run: RunFolder) -> int:
    newest = run.newest_checkpoint()
    return 0 if newest is None else checkpoint.iteration_of(newest)
