"""How a run stands: what it said of itself, whether it is at work, whether it can go on.

It reads and changes nothing; what is damaged gets words and not an exception. A run that says that
it is running, and whose lock nobody holds, was killed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.train.progress import Progress
from sptmod_dist.train.run_folder import RunFolder

STATES = ("running", "preempted", "finished", "diverged", "failed")
"""What a run can say of itself."""
_ENDS = {"running": "it is at work", "finished": "it is finished", "diverged": "it diverged"}
_HUGE = 1e300  # integers in JSON may be longer than a float can hold
_NO_CONFIG = "its config.yaml is missing or damaged"


@dataclass(frozen=True)
class RunAccount:
    """What is known of a run; None where nothing is."""

    name: str
    folder: str
    state: str
    """One of `STATES`, or `killed`, or `unknown`."""
    why: str
    """Why it is in this state, where that is known."""
    epoch: int | None = None
    iteration: int | None = None
    best_st: float | None = None
    """The least ST validation loss."""
    hours: float | None = None
    """Of training, over all its starts."""
    processes: int | None = None
    updated: str | None = None
    """When it spoke last."""
    checkpoint: str | None = None
    """The name of the newest one."""
    resumable: bool = False
    note: str = ""
    """Why it cannot be resumed; or from which checkpoint, where the newest is damaged."""


def runs_in(folder: Path) -> list[RunAccount]:
    """The runs of a folder in the order of their names; of a run's own folder, itself.

    Raises:
        UserError: it is no folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the one that holds the runs (runs_dir)")
    if _looks_like_a_run(folder):
        return [account_of(RunFolder(folder))]
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    return [account_of(RunFolder(path)) for path in inside if _looks_like_a_run(path)]


def account_of(run: RunFolder) -> RunAccount:
    """How one run stands."""
    name, folder = run.path.resolve().name, str(run.path)
    try:
        return RunAccount(name, folder, **_known(run))
    except (OSError, RecursionError) as error:
        why = f"it cannot be read ({' '.join(str(error).split())})"
        return RunAccount(name, folder, "unknown", why, note="it cannot be read")


def _looks_like_a_run(folder: Path) -> bool:
    run = RunFolder(folder)
    try:
        return run.is_run or run.newest_checkpoint() is not None or run.status() is not None
    except (OSError, RecursionError):
        return False


def _known(run: RunFolder) -> dict[str, Any]:
    said = _checked(run.status())
    state, why = _state(run, said)
    newest = run.newest_checkpoint()
    may_go_on = run.is_run and state not in _ENDS
    whole = _Whole(run) if may_go_on or said is None else None
    note = whole.note if whole and may_go_on else _ENDS.get(state, _NO_CONFIG)
    return {
        **(said or (whole and whole.figures) or {}),
        "state": state,
        "why": why,
        "checkpoint": newest and newest.name,
        "resumable": may_go_on and whole is not None and whole.path is not None,
        "note": note,
    }


def _state(run: RunFolder, said: dict[str, Any] | None) -> tuple[str, str]:
    if run.lock.in_use:
        return "running", ""
    if run.summary() is not None:  # it is written before the status, and a kill may come between
        return "finished", ""
    if said is None:
        return "unknown", "its status.json is missing or damaged"
    if said["state"] == "running":
        return "killed", f"it ended without a word after {said['updated']}"
    return said["state"], said["why"]


class _Whole:
    """The newest whole checkpoint of a run, every byte of it read."""

    def __init__(self, run: RunFolder) -> None:
        self.path: Path | None = None
        self.note, self.figures = "no checkpoint yet: it begins anew", None
        newest = run.newest_checkpoint()
        try:
            found = run.last_checkpoint()
        except UserError:
            self.note = "no checkpoint is whole"
            return
        if found is not None:
            self.path, saved = found
            if self.path != newest:
                self.note = f"from {self.path.name}, what is newer is damaged"
            else:
                self.note = ""
            self.figures = _figures(saved.state)


def _figures(state: dict[str, Any]) -> dict[str, Any] | None:
    """What a checkpoint says of its run, which has lost its status."""
    try:
        progress = Progress.from_dict(state["progress"])
    except ValueError:
        return None
    seconds = state.get("seconds")
    hours = seconds / 3600 if isinstance(seconds, float) and math.isfinite(seconds) else None
    return {
        "epoch": progress.epoch,
        "iteration": progress.iteration,
        "best_st": progress.best,
        "hours": hours,
    }


def _checked(status: dict[str, Any] | None) -> dict[str, Any] | None:
    """A run's status in the terms of `RunAccount`; None where anything in it is wrong."""
    if status is None or any(_faults(status)):
        return None
    same = ("state", "why", "epoch", "iteration", "best_st", "processes", "updated")
    return {**{key: status[key] for key in same}, "hours": status["seconds"] / 3600}


def _faults(status: dict[str, Any]) -> Iterator[str]:
    for key in ("epoch", "iteration", "processes"):
        if type(status.get(key)) is not int or status[key] < 0:
            yield key
    for key in ("why", "updated"):
        if not isinstance(status.get(key), str):
            yield key
    if status.get("state") not in STATES:
        yield "state"
    if not _is_number(status.get("seconds")):
        yield "seconds"
    if not (status.get("best_st", "") is None or _is_number(status.get("best_st"))):
        yield "best_st"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_HUGE < value < _HUGE
