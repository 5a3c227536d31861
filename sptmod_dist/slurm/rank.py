"""`python -m sptmod_dist.slurm.rank`: one process of a training in a job: `train` with a log of its
own, which always goes on where the run stands.

Rank 0 speaks into the job's log, every other into a file named by job and rank; when it fails, its
last words are repeated in the job's log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sptmod_dist.cli import main as command_line
from sptmod_dist.errors import UserError
from sptmod_dist.slurm.node import RANK_LOGS
from sptmod_dist.slurm.verdict import note_run
from sptmod_dist.train.main import FINISHED, REQUEUE

_LAST_WORDS = 2000
_DONE = (FINISHED, REQUEUE)


def going_on(arguments: Sequence[str]) -> tuple[list[str], Path]:
    """The arguments of `train`, such that a job that starts again goes on with its run; the run.

    A checkpoint that was named to begin from counts only until the run has one of its own.

    Raises:
        UserError: the run shall be replaced, which every start of the job would do again; or the
            arguments are wrong.
    """
    from sptmod_dist.train.options import parse_train
    from sptmod_dist.train.run_folder import RunFolder

    options = parse_train(arguments, "sptmod-dist train")
    if options.overwrite:
        raise UserError(
            "--overwrite would replace the run at every start of its job: give the run another "
            "--name, or remove its folder yourself"
        )
    path = Path(options.config.runs_dir) / options.config.name
    named = options.resume not in (None, "auto")
    if named and RunFolder(path).newest_checkpoint() is None:
        return list(arguments), path
    return [*arguments, "--resume=auto"], path


def main(arguments: Sequence[str]) -> int:
    """Train, and give the exit code."""
    rank, beginning = os.environ["RANK"], os.environ.get(RANK_LOGS)
    if rank == "0" or not beginning:
        return _train(arguments)
    log, job = Path(f"{beginning}-rank{rank}.log"), os.dup(2)
    speak_into(log)
    before = log.stat().st_size
    code = _train(arguments)
    if code not in _DONE:
        sys.stderr.flush()
        said = log.read_bytes()[before:][-_LAST_WORDS:]
        os.write(job, said)
    return code


def speak_into(log: Path) -> None:
    """Let this process's output go to the end of a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def _train(arguments: Sequence[str]) -> int:
    beginning, is_main = os.environ.get(RANK_LOGS), os.environ["RANK"] == "0"
    try:
        arguments, run = going_on(arguments)
        if is_main and beginning:
            note_run(beginning, run)
    except UserError as error:
        if is_main:
            print(f"sptmod-dist: error: {error}", file=sys.stderr, flush=True)
        return error.code
    return command_line(["train", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
