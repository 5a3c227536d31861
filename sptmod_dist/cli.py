"""The command line: finds the command, runs it, and turns errors into one sentence and a code.

The commands themselves are in `commands.py`, imported only when one of them is asked for, so that
`--version` and `--help` answer at once. Exit codes: 0 done, 2 something that the user can mend,
130 interrupted; a command may return others.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Sequence

from sptmod_dist import __version__
from sptmod_dist.errors import UserError

PROGRAM = "sptmod-dist"
COMMANDS = {
    "train": "train a model, from YAML files and options, on the processes that were launched",
    "fit": "learn a device from two files, what went in and what came out",
    "evaluate": "measure a trained run on clips that it never saw, beside the best static gain",
    "render": "stream an audio file through a trained model",
    "study": "train many configurations and report: `study plan|run|status|retry|report FILE`",
    "runs": "list the runs of a folder: how far each is, and whether it can be resumed",
    "lengths": "show how many samples a model needs and where they go, as a table and a drawing",
    "inspect": "say what is in a checkpoint, and whether it is whole; nothing is executed",
    "slurm": "train on a cluster: `slurm train|study|tensorboard|doctor`",
    "shards": "make and look at sets of shards: `shards build|convert|verify|info`",
    "stimulus": "write the audio to send through a device, with markers for alignment",
    "device": "list the parameters of a plug-in, and draft a controls.yaml from them",
    "plan": "list the settings to record: `plan snapshot|grid|lhs`",
    "capture": "record every take of a plan: `capture SESSION plugin|command|recordings|play`",
    "check": "say whether recordings are aligned and sound, and mend what can be mended",
    "split": "divide a manifest's items into train, validation and test, in folds",
    "demo": "make the demo's recordings: music through a real compressor",
    "env": "print the versions and the machine, to paste into a bug report",
    "completion": "print a completion script for bash, zsh or tcsh",
}
_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space",
    errno.EACCES: "permission denied: choose a folder that you may write to",
    errno.EPERM: "permission denied: choose a folder that you may write to",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.EEXIST: "a file is in the way: choose another name",
    errno.ENOTDIR: "a part of this path is a file: choose another path",
    errno.EISDIR: "this is a folder: give a file",
    errno.ENOENT: "no such file or folder: check the path",
    errno.ELOOP: "links go round in a circle: choose another path",
    errno.EROFS: "the file system is read-only: choose another folder",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    Args:
        argv: The arguments after the program's name; None takes the process's own.
    """
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, where a reader that left can still be told from a fault
        return code
    except UserError as error:
        return _fail(str(error), error.everywhere, error.code)
    except BrokenPipeError:
        # The reader (`| head`) left; what is still buffered must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        return _fail(f"{error.filename or 'writing'}: {_ADVICE[error.errno]}")
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def overview() -> str:
    """What `sptmod-dist --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND ...",
            "",
            "Distributed training of SPTMod, a neural model of dynamic range compressors.",
            "",
            "commands:",
            *lines,
            "",
            f"`{PROGRAM} COMMAND --help` tells the options; `{PROGRAM} --version` the version.",
        ]
    )


def _run(argv: list[str]) -> int:
    if not argv:
        print(overview(), file=sys.stderr)
        return 2
    name, *rest = argv
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"{PROGRAM} {__version__}")
    elif name in COMMANDS:
        from sptmod_dist import commands

        if name != "train":  # which ends between two groups; the others clean up and leave
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return commands.RUN[name](rest)
    else:
        raise UserError(_unknown(name))
    return 0


def _unknown(name: str) -> str:
    from sptmod_dist.names import advice

    return f"there is no command {name}: {advice(name, COMMANDS, f'see `{PROGRAM} --help`')}"


def _fail(sentence: str, everywhere: bool = False, code: int = UserError.code) -> int:
    """Print the sentence, with its rank where the others may have none or another one."""
    rank = os.environ.get("RANK", "0")
    if everywhere and rank != "0":
        time.sleep(1)  # a launcher ends all when one leaves: rank 0 speaks first
    else:
        prefix = "" if rank == "0" else f"[rank {rank}] "
        print(f"{prefix}{PROGRAM}: error: {sentence}", file=sys.stderr, flush=True)
    return code
