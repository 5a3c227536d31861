"""`runs`: a table of the runs in a folder. It reads and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from sptmod_dist.command_options import parse, plain_parser

if TYPE_CHECKING:
    from sptmod_dist.train.run_account import RunAccount

_TITLES = (
    "run",
    "state",
    "epoch",
    "iteration",
    "best ST",
    "hours",
    "processes",
    "checkpoint",
    "resumable",
)


def parser() -> ArgumentParser:
    """Options of `runs`."""
    parser = plain_parser("runs")
    parser.add_argument("folder", nargs="?", default="runs", help="holds the runs; `runs`")
    parser.add_argument("--json", action="store_true", help="print JSON, with all that is known")
    return parser


def run(argv: Sequence[str]) -> int:
    """Print how every run of a folder stands."""
    options = parse(parser(), argv)
    from sptmod_dist.train.run_account import runs_in

    accounts = runs_in(Path(options.folder))
    if options.json:
        print(json.dumps([asdict(account) for account in accounts], indent=1, allow_nan=False))
    else:
        print(table(accounts) if accounts else f"there is no run in {options.folder}")
    return 0


def table(accounts: Sequence[RunAccount]) -> str:
    """A line a run, and below them why some are as they are."""
    from sptmod_dist.train.tables import columns, plain

    rows = columns([_TITLES, *map(_row, accounts)], to_the_right=range(2, 7))
    reasons = [plain(f"{each.name}: {each.why}") for each in accounts if each.why]
    return "\n".join([rows, *[""] * bool(reasons), *reasons])


def _row(account: RunAccount) -> tuple[str, ...]:
    note = account.note
    if account.resumable:
        resumable = f"yes, {note}" if note else "yes"
    else:
        resumable = f"no: {note}"
    return (
        account.name,
        account.state,
        _shown(account.epoch, "d"),
        _shown(account.iteration, "d"),
        _shown(account.best_st, ".4f"),
        _shown(account.hours, ".2f"),
        _shown(account.processes, "d"),
        account.checkpoint or "-",
        resumable,
    )


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
