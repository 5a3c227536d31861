"""`fit`: two files in, a model of the device out. Its options are the settings of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from sptmod_dist.cli import COMMANDS, PROGRAM
from sptmod_dist.errors import UserError

OPTIONS = ("dry", "wet", "out", "minutes", "overwrite")


def parser() -> ArgumentParser:
    """Options of `fit`."""
    from sptmod_dist.train.options import settings_parser

    purpose = COMMANDS["fit"]
    made = settings_parser(f"{PROGRAM} fit", purpose[0].upper() + purpose[1:])
    made.add_argument("dry", help="what went into the device, such as a stimulus file")
    made.add_argument("wet", help="what came out of it, at one setting of its controls")
    made.add_argument("--out", metavar="FOLDER", help="for all that is made; fits/NAME of the wet")
    made.add_argument(
        "--minutes", type=float, help="train about so long in all, earlier calls included"
    )
    made.add_argument("--overwrite", action="store_true", help="replace another fit in the folder")
    return made


def run(argv: Sequence[str]) -> int:
    """Check, align, cut, train, evaluate, and say what was learned."""
    from sptmod_dist.fit.defaults import DEFAULTS
    from sptmod_dist.train.options import parse_settings

    config, own = parse_settings(parser(), argv, OPTIONS, complete=False, base=DEFAULTS)
    dry, wet = Path(own["dry"]), Path(own["wet"])
    out = own.get("out")
    minutes = own.get("minutes")
    if out == "":
        raise UserError(f"{PROGRAM} fit: --out is empty: give a folder")
    if minutes is not None and minutes <= 0:
        raise UserError(f"{PROGRAM} fit: --minutes is {minutes:g}: give more than 0")
    from sptmod_dist.fit.main import fit

    folder = Path("fits") / wet.stem if out is None else Path(out)
    fit(dry, wet, folder, config, minutes, bool(own.get("overwrite")), _say)
    return 0


def _say(line: str) -> None:
    """At once: what the training's processes say follows in its place."""
    print(line, flush=True)
