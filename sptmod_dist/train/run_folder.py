"""A run's folder, `runs/NAME/`: what is in it, who may write there, and what may be removed.

config.yaml, tensorboard/, checkpoints/, logs/, metrics.jsonl, status.json, `requeue` after a signal
and, at the end, summary.json.
Nothing is ever deleted but these, and only where config.yaml begins with the line that shows that
the folder is a run.
"""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sptmod_dist.files import atomic_write, read_plain
from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint, CheckpointError
from sptmod_dist.train.run_lock import RunError, RunLock

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


_SHOWN = ".together-"
_SEEN_WITHIN = 10.0  # seconds: a network file system tells late
_HALF = (".config-*", ".metrics-*", ".status-*", ".summary-*", f"{_SHOWN}*")
"""What a kill leaves of files that were to be replaced or removed."""


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
        self._folders = (self.checkpoints, self.tensorboard, self.path / "logs")
        self.lock = RunLock(self.path)
        self._config = ""

    def log_file(self, rank: int) -> Path:
        """Where a rank writes what it has to say."""
        return self.path / "logs" / f"rank{rank}.log"

    @property
    def is_run(self) -> bool:
        """Whether a training of ours wrote this folder."""
        try:
            return read_plain(self.path / "config.yaml").startswith(HEADER.encode())
        except OSError:
            return False

    def claim(self, *, resuming: bool, overwrite: bool) -> None:
        """Keep every other training out of the folder, which is made where it is missing, and put
        right what a kill has left; nothing foreign is touched.

        Args:
            resuming: go on in a folder that exists.
            overwrite: it may hold another run, which `prepare` removes.

        Raises:
            RunError: where the folder holds another run and neither is asked for, where it holds
                something that is no run, is in use by another training or cannot be written.
        """
        try:
            self._check(resuming, overwrite)
            self.lock.take()
            self._check(resuming, overwrite)  # another may have been faster
            self._requeue.unlink(missing_ok=True)
            for path in (p for name in _HALF for p in self.path.glob(name)):
                path.unlink()
            if self.checkpoints.is_dir():
                checkpoint.tidy(self.checkpoints)
        except OSError as error:
            raise self._unwritable(error) from None

    def prepare(
        self,
        resolved_config: str,
        *,
        resuming: bool,
        source: Path | None = None,
        launch: Sequence[str] = (),
    ) -> None:
        """Make a folder that was claimed ready for a training.

        Args:
            resolved_config: YAML, stored in the run.
            resuming: go on with what is there; else it is removed.
            source: a checkpoint that was named to go on from; a run that is further is not thrown
                back, and no other run taken over.
            launch: who started the processes, for `RunLock.knows`.

        Raises:
            RunError: the folder holds a newer checkpoint or another run, or cannot be written.
        """
        if source is not None:
            self._refuse_to_replace(source)
        self._config = HEADER + resolved_config
        try:
            if not resuming:
                self._clear()
            self._summary.unlink(missing_ok=True)
            for folder in self._folders:
                folder.mkdir(exist_ok=True)
                require_writable(folder)
            self._write_config()
            self.lock.note(launch)
        except OSError as error:
            raise self._unwritable(error) from None

    def show(self, word: str) -> None:
        """Let other processes see that this is the folder that was claimed, until `hide`.

        Raises:
            RunError: it cannot be written.
        """
        try:
            (self.path / f"{_SHOWN}{word}").touch()
        except OSError as error:
            raise self._unwritable(error) from None

    def hide(self, word: str) -> None:
        """Show it no more."""
        with suppress(OSError):
            (self.path / f"{_SHOWN}{word}").unlink(missing_ok=True)

    def require_seen(self, word: str) -> None:
        """Refuse a folder that is not the one that the first process shows.

        Raises:
            RunError: this process has another one, or none.
        """
        deadline = time.monotonic() + _SEEN_WITHIN
        while not (self.path / f"{_SHOWN}{word}").exists():
            if time.monotonic() > deadline:
                raise RunError(
                    f"{self.path.resolve()} on {socket.gethostname()} is not the folder that the "
                    "first process writes to: give a runs_dir that all processes share"
                )
            time.sleep(0.1)

    def _refuse_to_replace(self, source: Path) -> None:
        later = self.newest_checkpoint()
        if later is None:
            return
        at = checkpoint.iteration_of(later)
        if source.resolve().parent != self.checkpoints.resolve():
            raise RunError(
                f"{self.path} is another run than that of {source}, and stands at iteration {at}: "
                "continue it with --resume auto, or give the new run another name"
            )
        if at > checkpoint.iteration_of(source):
            raise RunError(
                f"{self.path} is further than {source.name} ({later.name}): continue it with "
                "--resume auto, or give the new run another name"
            )

    def restore(self) -> bool:
        """Make the folder anew where somebody removed or renamed it while the training wrote there.

        Returns:
            Whether it was missing.

        Raises:
            RunError: another training has begun there since.
            OSError: it cannot be written.
        """
        if not self.lock.is_lost:
            return False
        self.lock.take()
        self._write_config()
        return True

    def _write_config(self) -> None:
        with atomic_write(self.path / "config.yaml") as path:
            path.write_text(self._config)

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(
            f"{error.filename or self.path} cannot be written ({error.strerror}): mend that, or "
            "choose another runs_dir"
        )

    def _check(self, resuming: bool, overwrite: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file: choose another name or runs_dir")
        if not self.path.is_dir() or all(self._is_nothing(path) for path in self.path.iterdir()):
            return
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

    def _is_nothing(self, path: Path) -> bool:
        """Whether it is left of a start that came to nothing."""
        if path in self._folders:
            return path.is_dir() and not any(path.iterdir())
        return path == self.lock.path or any(path.match(name) for name in _HALF)

    def _clear(self) -> None:
        """Remove what an earlier training wrote, all but what says that the folder is a run."""
        for name in OURS[1:]:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def all_checkpoints(self) -> list[Path]:
        """Every checkpoint, the newest by its name first; nothing in them is read."""
        found = [p for kind in KINDS for p in checkpoint.find(self.checkpoints, kind)]
        return sorted(found, key=checkpoint.iteration_of, reverse=True)

    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint by its name, of whatever kind; nothing in it is read."""
        return next(iter(self.all_checkpoints()), None)

    def go_on(self) -> str:
        """Where the training can be taken up again, as the end of a sentence."""
        newest = self.newest_checkpoint()
        if newest is None:
            return ""
        return f"; the last good checkpoint is {newest}: continue with --resume auto"

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
        """The newest checkpoint that is whole, of whatever kind; None where there is none at all.

        Raises:
            CheckpointError: where there are checkpoints, but every one is damaged.
        """
        first_error = None
        for path in self.all_checkpoints():
            try:
                return path, _load(path)
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

    def set_aside_before(self, taken: Path) -> list[str]:
        """Rename the checkpoints that count as newer than the one that `last_checkpoint` gave: all
        of them are damaged.

        Returns:
            Their names. Left as they are they would count as the newest, and the good be pruned.
        """
        damaged = list(itertools.takewhile(lambda path: path != taken, self.all_checkpoints()))
        for path in damaged:
            aside = path.with_name(f"damaged-{path.name}")
            if aside.exists():
                checkpoint.remove(aside)
            path.rename(aside)
        return [path.name for path in damaged]

    def has_best(self, iteration: int) -> bool:
        """Whether the best checkpoint is the one of this iteration, and whole."""
        try:
            found = checkpoint.find(self.checkpoints, "best")
            return bool(found) and _load(found[0]).state["progress"]["iteration"] == iteration
        except CheckpointError:
            return False

    def summary(self) -> dict[str, Any] | None:
        """What the finished run reported; None while it is unfinished."""
        try:
            summary = json.loads(read_plain(self._summary))
        except (OSError, ValueError, RecursionError):
            return None
        return summary if isinstance(summary, dict) else None

    def write_status(self, status: dict[str, Any]) -> None:
        """Say how the run stands: `runs` shows it, and a job script can read it.

        A preempted run gets the empty file `requeue` beside it, since launchers make another exit
        code of ours; first, since a full disk may well take a file with nothing in it.
        """
        if status["state"] == "preempted":
            self._requeue.touch()
        with atomic_write(self._status) as path:
            path.write_text(json.dumps({"format": STATUS_FORMAT, **status}, indent=1) + "\n")

    def status(self) -> dict[str, Any] | None:
        """What the run last said of itself; None where it said nothing that can be read."""
        try:
            status = json.loads(read_plain(self._status))
        except (OSError, ValueError, RecursionError):
            return None
        known = isinstance(status, dict) and status.get("format") == STATUS_FORMAT
        return status if known else None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Mark the run as finished.

        Raises:
            RunError: it cannot be written.
        """
        try:
            with atomic_write(self._summary) as path:
                path.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
        except OSError as error:
            raise self._unwritable(error) from None


def _load(path: Path) -> Checkpoint:
    """A checkpoint of a run, which is of the iteration that its name tells."""
    saved = checkpoint.load(path)
    iteration = saved.state["progress"].get("iteration")
    if iteration != checkpoint.iteration_of(path):
        raise CheckpointError(
            f"{path} is of iteration {iteration}, another than its name tells: give its name back"
        )
    return saved
