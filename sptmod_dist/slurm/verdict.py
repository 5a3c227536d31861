"""`python -m sptmod_dist.slurm.verdict`: after a training in a job has ended, whether to start it
again.

Launchers and SLURM make another exit code of a training's own, and a lost node leaves none: the
run's folder says how it stands. Whoever was asked to stop goes on later, and so does one that
failed, as long as it got further than before: a fault that is in the way every time ends the job.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from sptmod_dist.errors import UserError
from sptmod_dist.train.main import FINISHED, REQUEUE
from sptmod_dist.train.run_folder import RunFolder

FAILED = 1


def verdict(run: RunFolder, since: float) -> tuple[int, str]:
    """The job's exit code and why: 85 is to be started again.

    Args:
        run: the training's.
        since: when this start of the job began, in seconds since 1970.
    """
    if run.summary() is not None:
        return FINISHED, f"{run.path} is finished"
    if _changed(run.path / "requeue") >= since:
        return REQUEUE, f"{run.path} was stopped after a checkpoint"
    said = run.status() or {}
    newest = run.newest_checkpoint()
    if said.get("state") == "diverged":
        return FAILED, f"{run.path} diverged: what it said above tells what to change"
    if newest is not None and _changed(newest) >= since:
        return REQUEUE, f"{run.path} broke off, but got as far as {newest.name}"
    return FAILED, (
        f"{run.path} broke off before it got any further, so it is not started again: mend what "
        "the log says above, and submit the same"
    )


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def main(words: Sequence[str]) -> int:
    """Say it: `--since SECONDS -- ARGUMENTS OF TRAIN`."""
    from sptmod_dist.train.options import parse_train

    try:
        config = parse_train(words[words.index("--") + 1 :], "sptmod-dist train").config
    except UserError:  # the training has said so
        return UserError.code
    code, why = verdict(RunFolder(Path(config.runs_dir) / config.name), float(words[1]))
    print(f"sptmod-dist: {why}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
