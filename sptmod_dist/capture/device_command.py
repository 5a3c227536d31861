"""The command `device`: what a plug-in exposes, and a draft of controls from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from sptmod_dist.command_options import parse, plain_parser
from sptmod_dist.errors import UserError


def parser() -> ArgumentParser:
    """Options of `device`."""
    parser = plain_parser("device")
    parser.add_argument("device", help="an effect of pedalboard, such as Compressor, or FILE.vst3")
    parser.add_argument("--name", help="which plug-in, where a file holds several")
    parser.add_argument(
        "--controls", metavar="FILE", help="draft a controls.yaml: delete there what shall not turn"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a FILE that exists")
    return parser


def run(argv: Sequence[str]) -> int:
    """Print the table, and write the draft where one was asked for.

    Raises:
        UserError: no such plug-in, a file that is there already, or nothing to plan.
    """
    options = parse(parser(), argv)
    file = None if options.controls is None else Path(options.controls)
    if file is not None and file.exists() and not options.overwrite:
        raise UserError(f"{file} exists already; add --overwrite to replace it.")
    from sptmod_dist.capture.controls_file import write_controls
    from sptmod_dist.capture.device_table import does_nothing, draft, table
    from sptmod_dist.capture.plugin import open_host

    host = open_host(options.device, options.name)
    print(table(host))
    if file is not None:
        controls = draft(host)
        if not controls:
            raise UserError(f"{host.name} has no parameter with a range; write {file} by hand.")
        write_controls(file, controls)
        print(f"\nWrote {file}: delete there what shall stay as it is, and narrow the ranges.")
        if does_nothing(host, controls):
            print(
                f"With the defaults in it {host.name} leaves a sound as it is; a plan keeps what "
                "it does not turn at its default, so set some that do something."
            )
    return 0
