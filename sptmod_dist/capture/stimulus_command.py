"""The command `stimulus`: write the audio to send through a device."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from sptmod_dist.cli import PROGRAM
from sptmod_dist.command_options import parse, plain_parser
from sptmod_dist.errors import UserError


def parser() -> ArgumentParser:
    """Options of `stimulus`."""
    parser = plain_parser("stimulus")
    parser.add_argument("out", help="the folder for stimulus-SEED.wav and its picture")
    parser.add_argument("--rate", type=int, default=44_100, help="in Hz, the recording's")
    parser.add_argument("--seed", type=int, default=0, help="of the first file")
    parser.add_argument("--count", type=int, default=1, help="files, each with the next seed")
    parser.add_argument(
        "--music", metavar="FOLDER", help="music to take excerpts from; without, clips of ours"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    return parser


def run(argv: Sequence[str]) -> int:
    """Write the files.

    Raises:
        UserError: a number below its least, or as `write_stimuli`.
    """
    options = parse(parser(), argv)
    for name, least in (("seed", 0), ("count", 1)):
        given = getattr(options, name)
        if given < least:
            raise UserError(f"{PROGRAM} stimulus: --{name} is {given}, but must be {least} or more")
    from sptmod_dist.capture.stimulus_files import write_stimuli

    seeds = range(options.seed, options.seed + options.count)
    write_stimuli(options.out, options.rate, seeds, options.music, options.overwrite)
    return 0
