"""Real processes for tests: launched together, limited in time, and none left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(**extra: str) -> dict[str, str]:
    """One thread a process, the package importable, no launcher's variables from outside."""
    launcher = ("ACCELERATE_", "RANK", "LOCAL_", "WORLD_SIZE", "MASTER_", "TORCHELASTIC_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(launcher)}
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return {
        **kept,
        "OMP_NUM_THREADS": "1",
        # DeepSpeed compiles its communication on the CPU once, and here no other program's.
        "TORCH_EXTENSIONS_DIR": str(Path(sys.prefix) / "torch-extensions"),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **extra,
    }


def run(
    command: Sequence[str], limit: float = 90, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run a command and see that all that it started has ended, in whatever session it is."""
    mark = f"SPTMOD_TEST={uuid.uuid4().hex}"
    process = subprocess.Popen(
        command,
        cwd=cwd or ROOT,
        env=environment(**extra, **dict([mark.split("=")])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        end(mark)
        out, err = process.communicate()
        raise AssertionError(f"{command} ran past {limit} s:\n{out}\n{err}") from None
    deadline = time.monotonic() + 5
    while running(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = end(mark)
    assert not left, f"{command} left processes behind: {left}"
    return subprocess.CompletedProcess(list(command), process.returncode, out, err)


def running(mark: str) -> list[int]:
    """Processes whose environment holds the mark: launchers give workers sessions of their own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def end(mark: str) -> list[int]:
    """End what still runs with the mark, and say what that was."""
    left = running(mark)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


def torchrun(n: int, *command: str, **arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script or module on `n` processes over gloo, on a port that is free."""
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={n}"]
    rendezvous = ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", "--max_restarts=0"]
    return run([*launcher, *rendezvous, *command], **arguments)  # type: ignore[arg-type]
