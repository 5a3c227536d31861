"""`split`: placeholder."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from sptmod_dist.command_options import parse, plain_parser


def parser() -> ArgumentParser:
    """Options of `split`."""
    return plain_parser("split")


def run(argv: Sequence[str]) -> int:
    """Nothing yet."""
    parse(parser(), argv)
    return 2
