"""`lengths`: how many samples a training's model needs and where they go, as a table and a drawing.

Nothing is trained or read but settings, and the data's index for its sample rate where it is there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentError, ArgumentParser

from sptmod_dist.cli import COMMANDS, PROGRAM
from sptmod_dist.errors import UserError

if TYPE_CHECKING:
    from sptmod_dist.train.config import TrainConfig

OPTIONS = ("files", "out")
ASSUMED_RATE = 44_100
"""Hz, where the data is not there."""
_SUFFIXES = (".svg", ".png")


def parser() -> ArgumentParser:
    """Options of `lengths`."""
    from sptmod_dist.train.options import settings_parser

    purpose = COMMANDS["lengths"]
    made = settings_parser(f"{PROGRAM} lengths", purpose[0].upper() + purpose[1:])
    made.add_argument("files", nargs="*", metavar="CONFIG", help="YAML files, the last one wins")
    made.add_argument(
        "--out",
        metavar="FOLDER|FILE",
        help="for the drawing, NAME-lengths.svg and .png, or one file of these; this folder",
    )
    return made


def run(argv: Sequence[str]) -> int:
    """Print the table, then write the drawing.

    Raises:
        UserError: settings that no training could have, or a drawing that cannot be written.
    """
    from sptmod_dist.train.options import parse_settings

    made = parser()
    files = [f"--config={file}" for file in _files(made, argv)]
    config, own = parse_settings(made, [*files, *argv], OPTIONS, complete=False)
    config.check_shards()
    targets = _targets(own.get("out"), config.name)
    from sptmod_dist.lengths_table import table
    from sptmod_dist.tbptt import Schedule

    rate, source = sample_rate(config)
    schedule = Schedule(config.model, config.lengths)
    held = config.data.sequences_per_record
    print(table(config.name, config.model, schedule, rate, source, held))
    from sptmod_dist.figures.lengths import draw

    draw(targets, config.name, config.model, schedule, rate)
    print(f"\ndrawn in {' and '.join(map(str, targets))}")
    return 0


def _files(made: ArgumentParser, argv: Sequence[str]) -> list[str]:
    """The files that stand without `--config`; what is wrong with the rest is told later."""
    try:
        found = made.parse_args(list(argv), defaults=False).get("files")
    except ArgumentError:
        return []
    return list(found or [])


def _targets(out: str | None, name: str) -> list[Path]:
    """The files to write."""
    if out == "":
        raise UserError(f"{PROGRAM} lengths: --out is empty: give a folder or a file")
    where = Path("." if out is None else out)
    if where.suffix.lower() in _SUFFIXES and not where.is_dir():
        targets = [where]
    else:
        safe = re.sub(r"[^\w.+=-]", "_", name)  # nobody has looked at it yet
        targets = [where / f"{safe}-lengths{suffix}" for suffix in _SUFFIXES]
    if out is not None:
        targets[0].parent.mkdir(parents=True, exist_ok=True)
    return targets


def sample_rate(config: TrainConfig) -> tuple[int, str]:
    """The rate of the training's data, and where it is known from; nothing is fetched for it."""
    from sptmod_dist.data.geometry import ShardError
    from sptmod_dist.data.places import is_remote
    from sptmod_dist.data.sources import LocalFolder

    where = config.data.train
    if where and not is_remote(where):
        try:
            index, _ = LocalFolder(where).read_index()
            return index.geometry.sample_rate, f"the rate of {where}"
        except ShardError:
            pass  # not built yet: a table of lengths needs no data
    return ASSUMED_RATE, "assumed, the data not being there"
