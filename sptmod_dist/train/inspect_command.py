"""`inspect`: what is in a checkpoint, or in the newest whole one of a run. It changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from sptmod_dist.command_options import parse, plain_parser


def parser() -> ArgumentParser:
    """Options of `inspect`."""
    parser = plain_parser("inspect")
    parser.add_argument("path", help="a checkpoint's folder, or a run's for its newest whole one")
    return parser


def run(argv: Sequence[str]) -> int:
    """Describe a checkpoint; code 2 where it, or every one of a run, is damaged."""
    path = Path(parse(parser(), argv).path)
    from sptmod_dist.train.checkpoint_account import (
        account,
        checkpoints_of,
        file_table,
        files_of,
        refuse_foreign,
    )

    candidates = checkpoints_of(path)
    if not candidates:
        refuse_foreign(path)
    for candidate in candidates or [path]:
        files = files_of(candidate)
        if not any(file.fault for file in files):
            _print(account(candidate, files))
            return 0
        _print(f"{candidate} is damaged\n{file_table(files)}\n")
    return 2


def _print(text: str) -> None:
    from sptmod_dist.train.tables import plain

    print("\n".join(map(plain, text.splitlines())))
