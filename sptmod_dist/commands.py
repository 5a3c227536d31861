"""The commands of `sptmod-dist`: their options, and the calls into the package that they make.

Each command has a parser and a function; torch and the like are imported only inside the
functions. What the settings of a training are is `train/options.py`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from sptmod_dist import __version__
from sptmod_dist.cli import COMMANDS, PROGRAM
from sptmod_dist.errors import UserError

BUILD_OPTIONS = ("manifest", "out", "overwrite")
PACKAGES = (
    "torch",
    "torchaudio",
    "accelerate",
    "deepspeed",
    "transformers",
    "webdataset",
    "soundfile",
    "jsonargparse",
    "safetensors",
    "numpy",
    "scipy",
    "pedalboard",
)


def train(argv: Sequence[str]) -> int:
    """Train a model; under a launcher, this process is one of several."""
    from sptmod_dist.train.config import to_yaml
    from sptmod_dist.train.options import parse_train

    options = parse_train(argv, f"{PROGRAM} train")
    if options.print_config:
        print(to_yaml(options.config), end="")
        return 0
    from sptmod_dist.train import main

    return main.train(options.config, options.resume, options.overwrite)


def evaluate(argv: Sequence[str]) -> int:
    """Measure a run on its test set, or on another set of shards."""
    options = _parse(evaluate_parser(), argv)
    from sptmod_dist.infer.evaluate import evaluate as evaluate_run

    shards, out = _path(options.shards), _path(options.out)
    print(evaluate_run(Path(options.run), shards, out, options.checkpoint).summary())
    return 0


def render(argv: Sequence[str]) -> int:
    """Stream a file through a trained model."""
    options = _parse(render_parser(), argv)
    from sptmod_dist.infer.render import render as render_file

    report = render_file(
        Path(options.run),
        Path(options.input),
        Path(options.output),
        control_settings(options.control or []),
        sidechain=_path(options.sidechain),
        overwrite=options.overwrite,
        checkpoint=options.checkpoint,
    )
    print(report.summary())
    return 0


def shards(argv: Sequence[str]) -> int:
    """Build sets of shards, verify one, or describe one."""
    actions = {"build": _build_shards, "verify": _verify_shards, "info": _describe_shards}
    if argv and argv[0] in actions:
        return actions[argv[0]](argv[1:])
    parser = _parser("shards")
    _add_shard_actions(parser)
    if argv and argv[0] in ("-h", "--help"):
        parser.print_help()
        return 0
    raise UserError(f"{PROGRAM} shards: say build, verify or info; see `{PROGRAM} shards --help`")


def _build_shards(argv: Sequence[str]) -> int:
    from sptmod_dist.data.recordings import Manifest
    from sptmod_dist.data.shard_build import build_sets
    from sptmod_dist.train.main import needs_of
    from sptmod_dist.train.options import parse_settings

    config, own = parse_settings(build_parser(), argv, BUILD_OPTIONS, complete=False)
    config.check_lengths()
    for name in ("manifest", "out"):
        if name not in own:
            raise UserError(f"{PROGRAM} shards build: --{name} is missing; see --help")
    manifest = Manifest.read(own["manifest"])
    build_sets(manifest, own["out"], needs_of(config), overwrite=bool(own.get("overwrite")))
    return 0


def _verify_shards(argv: Sequence[str]) -> int:
    folder = _parse(_folder_parser("shards verify"), argv).folder
    from sptmod_dist.data.shards import verify

    faults = verify(folder)
    print("\n".join(faults) or f"{folder}: every shard is whole")
    return 2 if faults else 0


def _describe_shards(argv: Sequence[str]) -> int:
    folder = _parse(_folder_parser("shards info"), argv).folder
    from sptmod_dist.data.shards import describe

    print(describe(folder))
    return 0


def demo(argv: Sequence[str]) -> int:
    """Make the demo's recordings, unless they are there."""
    options = _parse(demo_parser(), argv)
    from sptmod_dist.data.demo import make_demo

    make_demo(options.out, options.clips)
    return 0


def env(argv: Sequence[str]) -> int:
    """Print versions and machine; no names, no paths."""
    _parse(_parser("env"), argv)
    import torch

    cuda = torch.version.cuda or "not in this torch"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    rows = {
        "sptmod-dist": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "cuda": cuda,
        "gpus": ", ".join(gpus) or "none",
        **{name: _version(name) for name in PACKAGES},
    }
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {value}" for name, value in rows.items()))
    return 0


def completion(argv: Sequence[str]) -> int:
    """Print the script that makes a shell complete commands and options."""
    options = _parse(completion_parser(), argv)
    import shtab

    print(shtab.complete(whole_parser(), shell=options.shell))
    return 0


def control_settings(given: Sequence[str]) -> dict[str, float]:
    """`NAME=VALUE` texts as a mapping.

    Raises:
        UserError: no such pair, no number, or a name that stands twice.
    """
    settings: dict[str, float] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UserError(f"--control {text}: give NAME=VALUE, such as ratio=4")
        if name in settings:
            raise UserError(f"--control {text}: {name} is given twice; give it once")
        try:
            settings[name] = float(value)
        except ValueError:
            raise UserError(f"--control {text}: {value!r} is no number; give one") from None
    return settings


def evaluate_parser() -> ArgumentParser:
    """Options of `evaluate`."""
    parser = _parser("evaluate")
    parser.add_argument("run", help="the run's folder, such as runs/demo")
    parser.add_argument("--shards", metavar="FOLDER", help="a set of items; the run's own test set")
    parser.add_argument("--out", metavar="FOLDER", help="for the results; RUN/evaluation")
    _add_checkpoint(parser)
    return parser


def render_parser() -> ArgumentParser:
    """Options of `render`."""
    parser = _parser("render")
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


def _add_shard_actions(parser: ArgumentParser) -> None:
    actions = parser.add_subcommands()
    actions.add_subcommand("build", build_parser(), help="cut recordings into a set a split")
    actions.add_subcommand("verify", _folder_parser("shards verify"), help="read and check a set")
    actions.add_subcommand("info", _folder_parser("shards info"), help="describe a set")


def build_parser() -> ArgumentParser:
    """Options of `shards build`: the settings say for which model the shards shall be."""
    from sptmod_dist.train.options import settings_parser

    parser = settings_parser(f"{PROGRAM} shards build", "Cut recordings into sets of shards")
    parser.add_argument("--manifest", metavar="FILE", help="the recordings' manifest.yaml (needed)")
    parser.add_argument("--out", metavar="FOLDER", help="holds the sets, one a split (needed)")
    parser.add_argument("--overwrite", action="store_true", help="replace sets that are there")
    return parser


def _folder_parser(name: str) -> ArgumentParser:
    parser = ArgumentParser(prog=f"{PROGRAM} {name}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("folder", help="the folder of one set, with its index.json")
    return parser


def demo_parser() -> ArgumentParser:
    """Options of `demo`."""
    parser = _parser("demo")
    parser.add_argument("out", help="the folder to make")
    parser.add_argument(
        "--clips", default="shards/demo", help="the folder of music clips in the repository"
    )
    return parser


def completion_parser() -> ArgumentParser:
    """Options of `completion`."""
    parser = _parser("completion")
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell")
    return parser


def whole_parser() -> ArgumentParser:
    """Every command under one parser, as the completion script wants it."""
    from sptmod_dist.train.options import train_parser

    parsers: dict[str, Callable[[], ArgumentParser]] = {
        "train": train_parser,
        "evaluate": evaluate_parser,
        "render": render_parser,
        "shards": lambda: _parser("shards"),
        "demo": demo_parser,
        "env": lambda: _parser("env"),
        "completion": completion_parser,
    }
    whole = ArgumentParser(prog=PROGRAM)
    whole.add_argument("--version", action="store_true", help="print the version")
    subcommands = whole.add_subcommands()
    for name, make in parsers.items():
        parser = make()
        subcommands.add_subcommand(name, parser, help=COMMANDS[name])
        if name == "shards":
            _add_shard_actions(parser)  # inner actions must come after their parser
    return whole


def _add_checkpoint(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint", choices=["best", "last"], default="best", help="which of the run's"
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _parser(name: str) -> ArgumentParser:
    return ArgumentParser(
        prog=f"{PROGRAM} {name}",
        description=COMMANDS[name][0].upper() + COMMANDS[name][1:] + ".",
        exit_on_error=False,
        allow_abbrev=False,
    )


def _parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    try:
        return parser.parse_args(list(argv))
    except ArgumentError as error:
        words = " ".join(str(error).removeprefix("argument ").split())
        raise UserError(f"{parser.prog}: {words}; see `{parser.prog} --help`") from None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


RUN: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "evaluate": evaluate,
    "render": render,
    "shards": shards,
    "demo": demo,
    "env": env,
    "completion": completion,
}
