"""Where a training's settings come together: YAML files in order, then the command line.

Each layer holds only what it changes; the last one wins. A preset is the starting point of its
layer and is gone from the result. With a preset or another kind of model, what earlier layers said
of the model is gone too, but for what fits it to its data. All parsing errors become one sentence
with the file (or the option), the key and the closest right one. What the settings mean is
`train/config.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from sptmod_dist import settings
from sptmod_dist.model.config import PRESETS, Kind, SPTModConfig
from sptmod_dist.names import advice, closest
from sptmod_dist.train.config import PRECISIONS, ConfigError, TrainConfig, from_dict
from sptmod_dist.yaml_files import read_mapping

COMMAND_LINE = "command line"
_SETTINGS_OPTIONS = ("config", "help", "model.preset", "model.spn.help")
_TRAIN_OPTIONS = ("resume", "force_resume", "overwrite", "print_config")
_DATA_FIELDS = ("input_channels", "sidechain_channels", "n_params")


@dataclass(frozen=True)
class TrainOptions:
    """What was asked of `sptmod-dist train`."""

    config: TrainConfig
    resume: str | None
    force_resume: bool
    overwrite: bool
    print_config: bool


def parse_train(argv: Sequence[str], prog: str = "sptmod-dist train") -> TrainOptions:
    """The options of one training; `--help` prints and exits.

    Raises:
        UserError: an unknown option or key, a wrong type, an impossible value, an unreadable file.
    """
    printing = "--print_config" in argv
    argv = [argument for argument in argv if argument != "--print_config"]  # its name is taken
    # Printing is also how a new file is begun, when the needed settings are still missing.
    config, own = parse_settings(train_parser(prog), argv, _TRAIN_OPTIONS, complete=not printing)
    force = bool(own.get("force_resume"))
    resume = own.get("resume") or ("auto" if force else None)
    return TrainOptions(config, resume, force, bool(own.get("overwrite")), printing)


def parse_settings(
    parser: ArgumentParser,
    argv: Sequence[str],
    own: Sequence[str],
    complete: bool = True,
    base: Mapping[str, Any] | None = None,
) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration that a command line asks for, and the command's own options among them.

    Args:
        parser: From `settings_parser`, with the command's own options added.
        argv: The arguments.
        own: The names of the command's own options.
        complete: Refuse settings with which no training could start.
        base: As `load_config`.

    Returns:
        The configuration, and the own options that were given.

    Raises:
        UserError: an unknown option or key, a wrong type, an impossible value, an unreadable file.
    """
    _check_option_names(argv, own)
    try:
        given = parser.parse_args(list(argv), defaults=False).as_dict()
    except ArgumentError as error:
        raise _refusal(argv, error) from error
    options = {name: given.pop(name) for name in own if name in given}
    return load_config(given.pop("config", []), given, complete, base), options


def load_config(
    files: Iterable[str | Path],
    overrides: Mapping[str, Any],
    complete: bool = True,
    base: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """The configuration from YAML files, later ones over earlier ones, and overrides over all.

    Args:
        files: YAML files; each needs to hold only what it changes.
        overrides: Nested mappings of plain values, as the command line gives them.
        complete: Refuse settings with which no training could start.
        base: Settings beneath the files': a command's own defaults, written like a file.

    Raises:
        UserError: as `from_dict`, or a file that cannot be read.
    """
    layers = [(str(path), read_mapping(path)) for path in files]
    if overrides:
        layers.append((COMMAND_LINE, dict(overrides)))
    merged = _add_layer({}, dict(base or {}), "defaults")
    for where, layer in layers:
        merged = _add_layer(merged, layer, where)
    where = " with ".join(where for where, _ in layers) or COMMAND_LINE
    return from_dict(merged, where, complete)


def train_parser(prog: str = "sptmod-dist train") -> ArgumentParser:
    """The options of `sptmod-dist train`."""
    parser = settings_parser(prog, "Train a model")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="go on from the run's last checkpoint where there is one, or from the one at PATH",
    )
    parser.add_argument(
        "--force-resume",
        action="store_true",
        help="go on even if settings or data differ from the checkpoint's; all are listed",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a run of the same name (what it wrote)"
    )
    parser.add_argument(
        "--print_config", action="store_true", help="print the resolved settings and stop"
    )
    return parser


def settings_parser(prog: str, purpose: str) -> ArgumentParser:
    """A parser whose options are the tree's keys, for parsing, help and shell completion."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False)
    parser.description = f"{purpose}; any setting of the YAML files can be given as an option."
    parser.add_argument(
        "--config", action="append", metavar="FILE", help="YAML file; give several, the last wins"
    )
    parser.add_argument(
        "--model.preset", choices=sorted(PRESETS), help="start from this model's settings"
    )
    parser.add_argument(
        f"--model.{settings.KIND}", choices=get_args(Kind), help="which model; sptmod"
    )
    parser.add_class_arguments(TrainConfig, skip={"model"})
    parser.add_class_arguments(SPTModConfig, "model", skip={settings.KIND})
    return parser


def _add_layer(base: dict[str, Any], layer: dict[str, Any], where: str) -> dict[str, Any]:
    if isinstance(layer.get("model"), Mapping):
        layer, base = dict(layer), dict(base)
        model, earlier = dict(layer["model"]), base.get("model") or {}
        kept = {key: earlier[key] for key in _DATA_FIELDS if key in earlier}
        if "preset" in model:
            earlier = _preset(model.pop("preset"), where) | kept
        kind = earlier.get(settings.KIND, TrainConfig().model.kind)
        if model.setdefault(settings.KIND, kind) != kind:
            earlier = kept  # the rest was of another kind
        layer["model"], base["model"] = model, earlier
    return settings.merge(base, settings.check(TrainConfig, layer, where))


def _preset(name: Any, where: str) -> dict[str, Any]:
    if not isinstance(name, str) or name not in PRESETS:
        remedy = advice(str(name), sorted(PRESETS))
        raise ConfigError(f"{where}: there is no model.preset {name!r}: {remedy}")
    fields: dict[str, Any] = settings.to_plain(PRESETS[name]())
    return fields


def _option_names(argv: Sequence[str]) -> Iterator[str]:
    for argument in argv:
        if argument == "--":
            return
        if argument.startswith("--"):
            yield argument[2:].partition("=")[0]


def _check_option_names(argv: Sequence[str], own: Sequence[str]) -> None:
    own = [name if name == "print_config" else name.replace("_", "-") for name in own]
    known = [*settings.dotted_keys(TrainConfig), *_SETTINGS_OPTIONS, *own]
    for name in _option_names(argv):
        if name not in known:
            near = closest(name, known)
            remedy = f"did you mean --{near}?" if near else "see --help for all options"
            raise ConfigError(f"there is no option --{name}: {remedy}")


def _refusal(argv: Sequence[str], error: ArgumentError) -> ConfigError:
    """The parser's words, which may fill several lines, as one sentence of ours."""
    for name, value in _given_values(argv):
        hint = settings.field_type(TrainConfig, name)
        if hint is not None and not _parses(name, value):
            wanted = settings.expected(hint)
            advice = f"; {PRECISIONS}" if name == "precision" else ""
            return ConfigError(f"command line: --{name} is {value!r}, but must be {wanted}{advice}")
    words = " ".join(str(error).removeprefix("argument ").split())
    return ConfigError(f"command line: {words}; see --help")


def _given_values(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    for argument, following in zip(argv, [*argv, "--"][1:], strict=True):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            if equals or not following.startswith("--"):
                yield name, value if equals else following


def _parses(name: str, value: str) -> bool:
    try:
        train_parser().parse_args([f"--{name}={value}"], defaults=False)
    except ArgumentError:
        return False
    return True
