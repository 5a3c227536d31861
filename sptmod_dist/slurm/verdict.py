"""`python -m sptmod_dist.slurm.verdict`: after a training in a job has ended, whether to start it
again.

Launchers and SLURM make another exit code of a training's own, and a lost node leaves none: the
run's folder says how it stands. Whoever was asked to stop goes on later, and so does one that
failed, as long as it got further than before: a fault that is in the way every time ends the job.
The end of the job's time is near, so nothing here may take time, as importing torch would.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

FINISHED, FAILED, REQUEUE = 0, 1, 85


def note_run(beginning: str, run: Path) -> None:
    """Let the verdict know which run a job has.

    Args:
        beginning: of the names of the job's logs.
    """
    _note(beginning).write_text(os.path.abspath(run))


def verdict(beginning: str, since: float) -> tuple[int, str]:
    """The job's exit code and why: 85 is to be started again.

    Args:
        beginning: as `note_run` got it.
        since: when this start of the job began, in seconds since 1970.
    """
    try:
        run = Path(_note(beginning).read_text())
    except OSError:
        return FAILED, "the training did not begin: mend what the log says above"
    if (run / "summary.json").exists():
        return FINISHED, f"{run} is finished"
    if _changed(run / "requeue") >= since:
        return REQUEUE, f"{run} was stopped after a checkpoint"
    if _state(run) == "diverged":
        return FAILED, f"{run} diverged: what it said above tells what to change"
    newest = max(_checkpoints(run), key=_changed, default=run / "none")
    if _changed(newest) >= since:
        return REQUEUE, f"{run} broke off, but got as far as {newest.name}"
    return FAILED, (
        f"{run} broke off before it got any further, so it is not started again: mend what "
        "the log says above, and submit the same"
    )


def _note(beginning: str) -> Path:
    return Path(f"{beginning}.run")


def _checkpoints(run: Path) -> list[Path]:
    """Whole ones; what is damaged or half-written has another name."""
    found = (run / "checkpoints").glob("*-*")
    return [path for path in found if re.fullmatch(r"(step|best|epoch)-\d+", path.name)]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _state(run: Path) -> str:
    try:
        return str(json.loads((run / "status.json").read_text())["state"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def main(words: Sequence[str]) -> int:
    """Say it: `SECONDS BEGINNING`."""
    code, why = verdict(words[1], float(words[0]))
    print(f"sptmod-dist: {why}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
