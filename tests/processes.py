"""Real processes for tests: launched together, limited in time, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(**extra: str) -> dict[str, str]:
    """One thread a process, the package importable, no launcher's variables from outside."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "RANK"))}
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **extra,
    }


def run(
    command: Sequence[str], limit: float = 90, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process group of its own, and see that the whole group ends."""
    process = subprocess.Popen(
        command,
        cwd=cwd or ROOT,
        env=environment(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"{command} ran past {limit} s:\n{out}\n{err}") from None
    assert _ends(process.pid), f"{command} left processes behind"
    return subprocess.CompletedProcess(list(command), process.returncode, out, err)


def _ends(group: int, patience: float = 5) -> bool:
    """Whether a process group is empty soon; what is left of it is ended."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    return False


def torchrun(n: int, *command: str, **arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script or module on `n` processes over gloo, on a port that is free."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={n}"]
    rendezvous = ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", "--max_restarts=0"]
    return run([*launcher, *rendezvous, *command], **arguments)  # type: ignore[arg-type]
