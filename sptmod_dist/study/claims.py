"""Who has a training: one worker of any number, on this machine or others, and none that is dead.

A claim is two things. A lock (flock) on `lock`, which the system takes back when the worker and the
training that it started have ended, however that happens. And a file `attempt-N.json`, which one
alone can make: it says who, and its date is renewed while the worker lives. The lock tells at once
of workers on this machine; of others it tells where the file system's locks reach over machines
(NFS 4, Lustre mounted with flock, GPFS). Where they do not, the attempt's date is what counts: an
attempt of another machine that was renewed lately is never taken over, one that is `STALE` is.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sptmod_dist.data.locks import is_at, lock_at_once
from sptmod_dist.errors import UserError

RENEWED = 20.0
"""Seconds between two renewals."""
STALE = 180.0
"""Seconds after which a worker on another machine counts as dead; what an NFS client remembers of a
file's date is older by 60 s at most."""
_ATTEMPT = re.compile(r"attempt-([0-9]+)\.json")


@dataclass
class Claim:
    """A training that this worker has."""

    folder: Path
    number: int
    """Of the attempt, from 1."""
    descriptor: int
    _renewed: float

    @property
    def path(self) -> Path:
        """The attempt's file."""
        return self.folder / f"attempt-{self.number}.json"

    def renew(self) -> None:
        """Say that the worker lives; call it often, it acts when it is time."""
        if time.monotonic() - self._renewed > RENEWED:
            with suppress(OSError):  # a server that is away for a while
                os.utime(self.path)
            self._renewed = time.monotonic()

    def end(self, how: str, iteration: int) -> None:
        """Give the training back, and say how the attempt went."""
        with suppress(OSError):
            about = _read(self.path) | {"ended": time.time(), "how": how, "iteration": iteration}
            self.path.write_text(json.dumps(about) + "\n")
        self.release()

    def release(self) -> None:
        """Let go of the lock, the training's process having ended."""
        with suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        self.close()

    def close(self) -> None:
        """Forget the lock in this process alone: whoever else has it, keeps it."""
        with suppress(OSError):
            os.close(self.descriptor)


def claim(folder: Path) -> Claim | None:
    """Take a training, if nobody has it.

    Args:
        folder: the training's, in the study's `state`.

    Raises:
        UserError: the file system has no locks.
    """
    folder.mkdir(exist_ok=True)
    path = folder / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    taken = None
    try:
        if _locked(descriptor, path):
            taken = _attempt(folder, descriptor)
    finally:
        if taken is None:
            os.close(descriptor)
    return taken


def attempts(folder: Path) -> list[dict[str, Any]]:
    """What is known of each attempt, in their order; empty where it cannot be read."""
    return [_read(folder / f"attempt-{number}.json") for number in _numbers(folder)]


def age(folder: Path) -> float:
    """Seconds since the last attempt was renewed; infinite where there is none."""
    numbers = _numbers(folder)
    try:
        path = folder / f"attempt-{numbers[-1]}.json"
        return _now(folder) - path.stat().st_mtime
    except (IndexError, OSError):
        return float("inf")


def is_taken(folder: Path) -> bool:
    """Whether somebody has a training now; nothing is changed."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    numbers = _numbers(folder)
    return bool(numbers) and _lives_elsewhere(folder, numbers[-1])


def _locked(descriptor: int, path: Path) -> bool:
    try:
        return lock_at_once(descriptor) and is_at(descriptor, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be locked ({error.strerror}): a study's folder needs a file system "
            "with locks (flock), such as a local disk or NFS 4; set `folder` to one"
        ) from None


def _attempt(folder: Path, descriptor: int) -> Claim | None:
    numbers = _numbers(folder)
    if numbers and _lives_elsewhere(folder, numbers[-1]):
        return None
    number = numbers[-1] + 1 if numbers else 1
    about = {"host": socket.gethostname(), "pid": os.getpid(), "began": time.time()}
    job = os.environ.get("SLURM_JOB_ID")
    try:
        made = os.open(
            folder / f"attempt-{number}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666
        )
    except FileExistsError:  # by a machine whose locks are not seen here
        return None
    with os.fdopen(made, "w") as file:
        file.write(json.dumps(about | ({"slurm_job": job} if job else {})) + "\n")
    return Claim(folder, number, descriptor, time.monotonic())


def _lives_elsewhere(folder: Path, number: int) -> bool:
    """Whether an attempt is of another machine, has not ended, and was renewed lately."""
    path = folder / f"attempt-{number}.json"
    about = _read(path)
    if "how" in about or about.get("host") == socket.gethostname():
        return False
    try:
        return _now(folder) - path.stat().st_mtime < STALE
    except FileNotFoundError:
        return False


def _now(folder: Path) -> float:
    """By the clock that dates the files, which may be a server's."""
    probe = folder / f".now-{socket.gethostname()}-{os.getpid()}"
    try:
        probe.touch()
        os.utime(probe)
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        probe.unlink(missing_ok=True)


def _numbers(folder: Path) -> list[int]:
    try:
        found = [_ATTEMPT.fullmatch(entry.name) for entry in folder.iterdir()]
    except OSError:
        return []
    return sorted(int(match[1]) for match in found if match)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
