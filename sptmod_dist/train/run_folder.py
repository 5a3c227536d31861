"""A run's folder, `runs/NAME/`: what is in it, who may write there, and what may be removed.

config.yaml, tensorboard/, checkpoints/, logs/, metrics.jsonl, status.json, `requeue` after a signal
and, at the end, summary.json.
Nothing is ever deleted but these, and only where config.yaml begins with the line that shows that
the folder is a run.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
import traceback
from pathlib import Path
from typing import IO, Any

from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint, CheckpointError

OURS = (
    "config.yaml",
    "tensorboard",
    "checkpoints",
    "logs",
    "metrics.jsonl",
    "summary.json",
    "status.json",
    "requeue",
    "evaluation",
)
STATUS_FORMAT = "sptmod-status-1"

KINDS = ("step", "best", "epoch")
"""Of checkpoints: `KIND-ITERATION` in `checkpoints/`."""

HEADER = "# sptmod-dist run: every setting of the training, resolved\n"


class RunError(UserError):
    """A run's folder that is in the way, missing or not a run."""


def require_writable(folder: Path) -> None:
    """Write a file and remove it again.

    Raises:
        OSError: the folder does not take it.
    """
    probe = folder / ".writable"
    with open(probe, "w") as file:
        file.write("x")
    probe.unlink()


class RunFolder:
    """Paths and small files of one run.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.metrics = self.path / "metrics.jsonl"
        self._summary = self.path / "summary.json"
        self._status = self.path / "status.json"
        self._requeue = self.path / "requeue"

    def log_file(self, rank: int) -> Path:
        """Where a rank writes what it has to say."""
        return self.path / "logs" / f"rank{rank}.log"

    @property
    def is_run(self) -> bool:
        """Whether a training of ours wrote this folder."""
        try:
            return (self.path / "config.yaml").read_text().startswith(HEADER)
        except (OSError, UnicodeDecodeError):
            return False

    def prepare(
        self, resolved_config: str, *, resuming: bool, overwrite: bool, newest: int | None = None
    ) -> None:
        """Make the folder ready for a training, or refuse; nothing foreign is touched.

        Args:
            resolved_config: YAML, stored in the run.
            resuming: go on in a folder that exists.
            overwrite: remove what an earlier training wrote.
            newest: the iteration of a checkpoint that was named to go on from; a run that is
                further is not thrown back.

        Raises:
            RunError: where the folder holds another run and neither is asked for, where it holds
                something that is no run, is in use by another training or cannot be written.
        """
        try:
            if self.path.exists() and not self.path.is_dir():
                raise RunError(f"{self.path} is a file: choose another name or runs_dir")
            occupied = self.path.is_dir() and any(self.path.iterdir())
            if occupied:
                self._check_occupied(resuming, overwrite, newest)
            (self.path / "logs").mkdir(parents=True, exist_ok=True)
            self._lock()
            if occupied and not resuming:
                self._clear()
            self._summary.unlink(missing_ok=True)
            self._requeue.unlink(missing_ok=True)
            for folder in (self.checkpoints, self.tensorboard, self.path / "logs"):
                folder.mkdir(exist_ok=True)
                require_writable(folder)
            with atomic_write(self.path / "config.yaml") as path:
                path.write_text(HEADER + resolved_config)
        except OSError as error:
            where = error.filename or self.path
            raise RunError(
                f"{where} cannot be written ({error.strerror}): mend that, or choose another "
                "runs_dir"
            ) from None

    def _check_occupied(self, resuming: bool, overwrite: bool, newest: int | None) -> None:
        if not (resuming or overwrite):
            raise RunError(
                f"{self.path} exists: continue it with --resume, replace it with --overwrite, or "
                "give this run another name"
            )
        if not self.is_run:
            raise RunError(
                f"{self.path} holds no run (no config.yaml of ours), so nothing in it is touched: "
                "choose another name or runs_dir"
            )
        later = checkpoint.find(self.checkpoints, "step")
        if newest is not None and later and checkpoint.iteration_of(later[0]) > newest:
            raise RunError(
                f"{self.path} is further than iteration {newest} ({later[0].name}): continue it "
                "with --resume auto, or give the new run another name"
            )

    def _lock(self) -> None:
        """Keep two trainings from writing one run; the lock goes when the process does."""
        self._lock_file: IO[str] = open(self.path / ".lock", "w")
        for wait in (0.2, 0.2, None):  # whoever looks whether it is in use holds it for a moment
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if wait is not None:
                    time.sleep(wait)
        raise RunError(
            f"{self.path} is being written by another training: wait for it, or give this run "
            "another name"
        )

    def unlock(self) -> None:
        """Let another training have the folder."""
        self._lock_file.close()

    @property
    def in_use(self) -> bool:
        """Whether a training is writing here now."""
        try:
            with open(self.path / ".lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _clear(self) -> None:
        for name in OURS:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _all_checkpoints(self) -> list[Path]:
        found = [p for kind in KINDS for p in checkpoint.find(self.checkpoints, kind)]
        return sorted(found, key=checkpoint.iteration_of, reverse=True)

    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint by its name, of either kind; nothing in it is read."""
        return next(iter(self._all_checkpoints()), None)

    def note_traceback(self, rank: int, error: Exception) -> str:
        """Keep where a program went wrong in the rank's log; say in words where to look."""
        text = "".join(traceback.format_exception(error))
        try:
            with open(self.log_file(rank), "a") as file:
                file.write(text)
        except OSError:
            return text  # there is no run yet: better a traceback than nothing
        return f"the traceback is in {self.log_file(rank)}"

    def last_checkpoint(self) -> tuple[Path, Checkpoint] | None:
        """The newest checkpoint that is whole, of either kind; None where the run has none at all.

        Raises:
            CheckpointError: where there are checkpoints, but every one is damaged.
        """
        first_error = None
        for path in self._all_checkpoints():
            try:
                return path, checkpoint.load(path)
            except CheckpointError as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        return None

    def best_checkpoint(self) -> tuple[Path, Checkpoint]:
        """The checkpoint with the least ST validation loss.

        Raises:
            RunError: where this is no run, or it has not validated yet.
        """
        if not self.is_run:
            raise RunError(f"{self.path} is no run: give a folder that a training wrote")
        for path in checkpoint.find(self.checkpoints, "best"):
            return path, checkpoint.load(path)
        raise RunError(f"{self.path} has no checkpoint yet: train it, or continue it with --resume")

    def set_aside_after(self, iteration: int) -> list[str]:
        """Rename the checkpoints past the one that a run goes on from: all of them are damaged.

        Returns:
            Their names. Left as they are they would count as the newest, and the good be pruned.
        """
        damaged = [p for p in self._all_checkpoints() if checkpoint.iteration_of(p) > iteration]
        for path in damaged:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        return [path.name for path in damaged]

    def has_best(self, iteration: int) -> bool:
        """Whether the best checkpoint is the one of this iteration."""
        found = checkpoint.find(self.checkpoints, "best")
        return bool(found) and checkpoint.iteration_of(found[0]) == iteration

    def summary(self) -> dict[str, Any] | None:
        """What the finished run reported; None while it is unfinished."""
        try:
            summary = json.loads(self._summary.read_text())
        except (OSError, ValueError):
            return None
        return summary if isinstance(summary, dict) else None

    def write_status(self, status: dict[str, Any]) -> None:
        """Say how the run stands: `runs` shows it, and a job script can read it.

        A preempted run gets the empty file `requeue` beside it, since launchers make another exit
        code of ours.
        """
        with atomic_write(self._status) as path:
            path.write_text(json.dumps({"format": STATUS_FORMAT, **status}, indent=1) + "\n")
        if status["state"] == "preempted":
            self._requeue.touch()

    def status(self) -> dict[str, Any] | None:
        """What the run last said of itself; None where it said nothing that can be read."""
        try:
            status = json.loads(self._status.read_text())
        except (OSError, ValueError):
            return None
        known = isinstance(status, dict) and status.get("format") == STATUS_FORMAT
        return status if known else None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Mark the run as finished."""
        with atomic_write(self._summary) as path:
            path.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
