"""The options of each command, and all of them under one parser for the shells' completion.

The options of `train` and `shards build` are the settings themselves: `train/options.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from sptmod_dist.cli import COMMANDS, PROGRAM
from sptmod_dist.errors import UserError

BUILD_OPTIONS = ("manifest", "out", "overwrite", "workers")
CONVERT_OPTIONS = ("sets", "out", "overwrite", "workers")
OWN_FILES = {
    "fit": "sptmod_dist.fit_command",
    "study": "sptmod_dist.study.study_command",
    "runs": "sptmod_dist.train.runs_command",
    "lengths": "sptmod_dist.lengths_command",
    "inspect": "sptmod_dist.train.inspect_command",
    "slurm": "sptmod_dist.slurm.slurm_command",
    "stimulus": "sptmod_dist.capture.stimulus_command",
    "device": "sptmod_dist.capture.device_command",
    "plan": "sptmod_dist.capture.plan_command",
    "capture": "sptmod_dist.capture.capture_command",
    "check": "sptmod_dist.quality.check_command",
    "split": "sptmod_dist.data.split_command",
}
"""Commands with a file of their own: `parser()`, `run(argv)` and, where the command has actions,
`add_actions(parser)`."""


def evaluate_parser() -> ArgumentParser:
    """Options of `evaluate`."""
    parser = plain_parser("evaluate")
    parser.add_argument("run", help="the run's folder, such as runs/demo")
    parser.add_argument("--shards", metavar="SET", help="a test set: a folder or a URL")
    parser.add_argument(
        "--pairs", metavar="FOLDER", help="instead, recordings: a folder of pairs or a manifest"
    )
    parser.add_argument(
        "--control",
        action="append",
        metavar="NAME=VALUE",
        help="a control's setting in all pairs, where no manifest says it; repeat it",
    )
    parser.add_argument("--out", metavar="FOLDER", help="for the results; RUN/evaluation")
    _add_checkpoint(parser)
    return parser


def render_parser() -> ArgumentParser:
    """Options of `render`."""
    parser = plain_parser("render")
    parser.add_argument("run", help="the run's folder, such as runs/demo")
    parser.add_argument("input", help="the file to process")
    parser.add_argument("output", help="the file to write, .wav or .flac")
    parser.add_argument(
        "--control", action="append", metavar="NAME=VALUE", help="a control's setting; repeat it"
    )
    parser.add_argument("--sidechain", metavar="FILE", help="what steers a model with a sidechain")
    _add_checkpoint(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    return parser


def add_shard_actions(parser: ArgumentParser) -> None:
    """The actions of `shards`, for help and completion."""
    actions = parser.add_subcommands()
    actions.add_subcommand("build", build_parser(), help="cut recordings into a set a split")
    actions.add_subcommand("convert", convert_parser(), help="cut sets anew for another model")
    actions.add_subcommand("verify", folder_parser("shards verify"), help="read and check a set")
    actions.add_subcommand("info", folder_parser("shards info"), help="describe a set")


def build_parser() -> ArgumentParser:
    """Options of `shards build`: the settings say for which model the shards shall be."""
    from sptmod_dist.train.options import settings_parser

    parser = settings_parser(f"{PROGRAM} shards build", "Cut recordings into sets of shards")
    parser.add_argument("--manifest", metavar="FILE", help="the recordings' manifest.yaml (needed)")
    parser.add_argument("--out", metavar="FOLDER", help="holds the sets, one a split (needed)")
    _add_writing(parser)
    return parser


def convert_parser() -> ArgumentParser:
    """Options of `shards convert`: the settings say for which model the new shards shall be."""
    from sptmod_dist.train.options import settings_parser

    purpose = "Cut sets of shards anew for another model, without the recordings"
    parser = settings_parser(f"{PROGRAM} shards convert", purpose)
    parser.add_argument("sets", help="the folder that holds train, validation and test")
    parser.add_argument("out", help="the folder for the new sets, one a split")
    _add_writing(parser)
    return parser


def _add_writing(parser: ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace sets that are there")
    parser.add_argument(
        "--workers", type=int, help="threads, each with a recording in memory; 1 a core, at most 8"
    )


def folder_parser(name: str) -> ArgumentParser:
    """Options of a command that takes one set of shards."""
    parser = ArgumentParser(prog=f"{PROGRAM} {name}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("folder", help="the folder of one set, with its index.json")
    return parser


def demo_parser() -> ArgumentParser:
    """Options of `demo`."""
    parser = plain_parser("demo")
    parser.add_argument("out", help="the folder to make")
    parser.add_argument("--clips", metavar="FOLDER", help="music clips; those of the package")
    return parser


def completion_parser() -> ArgumentParser:
    """Options of `completion`."""
    parser = plain_parser("completion")
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell")
    return parser


def whole_parser() -> ArgumentParser:
    """Every command under one parser, as the completion script wants it."""
    from sptmod_dist.train.options import train_parser

    parsers: dict[str, Callable[[], ArgumentParser]] = {
        "train": train_parser,
        "evaluate": evaluate_parser,
        "render": render_parser,
        "shards": lambda: plain_parser("shards"),
        "demo": demo_parser,
        "env": lambda: plain_parser("env"),
        "completion": completion_parser,
        **{name: import_module(module).parser for name, module in OWN_FILES.items()},
    }
    whole = ArgumentParser(prog=PROGRAM)
    whole.add_argument("--version", action="store_true", help="print the version")
    subcommands = whole.add_subcommands()
    for name, make in parsers.items():
        parser = make()
        subcommands.add_subcommand(name, parser, help=COMMANDS[name])
        add_actions = add_shard_actions if name == "shards" else _actions_of(name)
        add_actions(parser)  # which must come after their parser
    return whole


def _actions_of(name: str) -> Callable[[ArgumentParser], None]:
    """What adds a command's inner actions, where its file has any."""
    module = import_module(OWN_FILES[name]) if name in OWN_FILES else None
    return getattr(module, "add_actions", lambda parser: None)


def _add_checkpoint(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", choices=["best", "last"], default="best", help="which of the run's"
    )


def plain_parser(name: str) -> ArgumentParser:
    """A parser with a command's name and purpose, and no options yet."""
    return ArgumentParser(
        prog=f"{PROGRAM} {name}",
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        exit_on_error=False,
        allow_abbrev=False,
    )


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """The options that were given, or the parser's complaint as one sentence."""
    try:
        return parser.parse_args(list(argv))
    except ArgumentError as error:
        words = " ".join(str(error).removeprefix("argument ").split())
        raise UserError(f"{parser.prog}: {words}; see `{parser.prog} --help`") from None
