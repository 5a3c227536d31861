"""The commands of `sptmod-dist`, each a thin call into the package; their options stand in
`command_options.py`.

torch and the like are imported only inside the functions, so that help is quick.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from sptmod_dist import __version__
from sptmod_dist.cli import PROGRAM
from sptmod_dist.command_options import (
    BUILD_OPTIONS,
    CONVERT_OPTIONS,
    OWN_FILES,
    add_shard_actions,
    build_parser,
    completion_parser,
    convert_parser,
    demo_parser,
    evaluate_parser,
    folder_parser,
    parse,
    plain_parser,
    render_parser,
    whole_parser,
)
from sptmod_dist.errors import UserError
from sptmod_dist.typed import pairs

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
    "tensorboard",
    "matplotlib",
    "numpy",
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

    force = options.force_resume
    return main.train(options.config, options.resume, options.overwrite, force)


def evaluate(argv: Sequence[str]) -> int:
    """Measure a run on its test set, on another set of shards, or on a folder of pairs."""
    options = parse(evaluate_parser(), argv)
    from sptmod_dist.infer.evaluate import evaluate as evaluate_run

    evaluation = evaluate_run(
        Path(options.run),
        options.shards,
        _path(options.out),
        options.checkpoint,
        _path(options.pairs),
        pairs("--control", options.control, "NAME=VALUE, such as ratio=4"),
    )
    print(evaluation.summary())
    return 0


def render(argv: Sequence[str]) -> int:
    """Stream a file through a trained model."""
    options = parse(render_parser(), argv)
    from sptmod_dist.infer.render import render as render_file

    report = render_file(
        Path(options.run),
        Path(options.input),
        Path(options.output),
        pairs("--control", options.control, "NAME=VALUE, such as ratio=4"),
        sidechain=_path(options.sidechain),
        overwrite=options.overwrite,
        checkpoint=options.checkpoint,
    )
    print(report.summary())
    return 0


def shards(argv: Sequence[str]) -> int:
    """Build or convert sets of shards, verify one, or describe one."""
    actions = {
        "build": _build_shards,
        "convert": _convert_shards,
        "verify": _verify_shards,
        "info": _describe_shards,
    }
    if argv and argv[0] in actions:
        return actions[argv[0]](argv[1:])
    parser = plain_parser("shards")
    add_shard_actions(parser)
    if argv and argv[0] in ("-h", "--help"):
        parser.print_help()
        return 0
    see = f"see `{PROGRAM} shards --help`"
    raise UserError(f"{PROGRAM} shards: say build, convert, verify or info; {see}")


def _build_shards(argv: Sequence[str]) -> int:
    from sptmod_dist.data.recordings import Manifest
    from sptmod_dist.data.shard_build import build_sets
    from sptmod_dist.train.data import needs_of
    from sptmod_dist.train.options import parse_settings

    config, own = parse_settings(build_parser(), argv, BUILD_OPTIONS, complete=False)
    config.check_shards()
    for name in ("manifest", "out"):
        if not own.get(name):
            raise UserError(f"{PROGRAM} shards build: --{name} is missing; see --help")
    _require_here("shards build", own["out"])
    build_sets(
        Manifest.read(own["manifest"]),
        own["out"],
        needs_of(config),
        config.data.shard_megabytes * 1_000_000,
        bool(own.get("overwrite")),
        sequences_per_record=config.data.sequences_per_record,
        sample_format=config.data.sample_format,
        distinct_settings=config.data.distinct_settings,
        workers=_threads(own),
    )
    return 0


def _convert_shards(argv: Sequence[str]) -> int:
    from sptmod_dist.data.shard_convert import convert_sets
    from sptmod_dist.data.shard_plan import Cut
    from sptmod_dist.train.data import needs_of
    from sptmod_dist.train.options import parse_settings

    config, own = parse_settings(convert_parser(), argv, CONVERT_OPTIONS, complete=False)
    config.check_shards()
    _require_here("shards convert", own["sets"], own["out"])
    data = config.data
    shard_bytes = data.shard_megabytes * 1_000_000
    convert_sets(
        own["sets"],
        own["out"],
        needs_of(config),
        Cut(data.sequences_per_record, data.sample_format, shard_bytes),
        data.distinct_settings,
        bool(own.get("overwrite")),
        _threads(own),
    )
    return 0


def _require_here(command: str, *folders: str) -> None:
    from sptmod_dist.data.places import is_remote

    for folder in folders:
        if not folder or is_remote(folder):
            named = f"{folder} is none" if folder else "the name is empty"
            raise UserError(f"{PROGRAM} {command}: give a folder on this machine; {named}")


def _threads(own: Mapping[str, Any]) -> int | None:
    workers = own.get("workers")
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}, but must be at least 1")
    return workers


def _verify_shards(argv: Sequence[str]) -> int:
    folder = parse(folder_parser("shards verify"), argv).folder
    _require_here("shards verify", folder)
    from sptmod_dist.data.shard_verify import verify

    faults = verify(folder)
    print("\n".join(faults) or f"{folder}: every shard is whole")
    return 2 if faults else 0


def _describe_shards(argv: Sequence[str]) -> int:
    where = parse(folder_parser("shards info"), argv).folder
    from sptmod_dist.data.remote import open_source
    from sptmod_dist.data.shard_account import describe
    from sptmod_dist.data.shards import ShardSet
    from sptmod_dist.train.config import DataConfig

    data = DataConfig()
    source = open_source(where, data.cache_folder, data.cache_gigabytes)
    print(describe(ShardSet.of(source)))
    return 0


def demo(argv: Sequence[str]) -> int:
    """Make the demo's recordings, unless they are there."""
    options = parse(demo_parser(), argv)
    from sptmod_dist.data.demo import make_demo

    make_demo(options.out, options.clips)
    return 0


def env(argv: Sequence[str]) -> int:
    """Print versions and machine; no names, no paths."""
    parse(plain_parser("env"), argv)
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
    options = parse(completion_parser(), argv)
    import shtab

    print(shtab.complete(whole_parser(), shell=options.shell))
    return 0


def _elsewhere(module: str) -> Callable[[Sequence[str]], int]:
    """A command that has a file of its own."""

    def run(argv: Sequence[str]) -> int:
        return int(import_module(module).run(argv))

    return run


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


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
    **{name: _elsewhere(module) for name, module in OWN_FILES.items()},
}
