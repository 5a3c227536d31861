"""`fit`: placeholder."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from sptmod_dist.command_options import parse, plain_parser


def parser() -> ArgumentParser:
    """Options of `fit`."""
    return plain_parser("fit")


def run(argv: Sequence[str]) -> int:
    """Nothing yet."""
    parse(parser(), argv)
    return 2
