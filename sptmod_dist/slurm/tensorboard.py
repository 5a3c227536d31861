"""Waiting for TensorBoard's job to say where it runs."""

from __future__ import annotations

import time

from sptmod_dist.slurm.site import Site, resolved

_PATIENCE = 120.0  # seconds for a free node


def wait_for_line(site: Site, number: str, patience: float = _PATIENCE) -> str:
    """What to do now: the ssh line, or where it will stand."""
    log = resolved(site.logs) / f"sptmod-tensorboard-{number}.log"
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        line = _line(log.read_text(errors="replace")) if log.is_file() else None
        if line:
            return (
                f"on your own machine:\n    {line}\nthen open http://localhost:6006; "
                f"`scancel {number}` ends it"
            )
        time.sleep(0.5)
    return f"job {number} waits for a node (`squeue -j {number}`); the ssh line will be in {log}"


def _line(text: str) -> str | None:
    return next((line for line in text.splitlines() if line.startswith("ssh -N")), None)
