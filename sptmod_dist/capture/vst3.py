"""Plug-ins in VST3 files, loaded by pedalboard into this process.

Every take gets a fresh instance, so that none can remember the take before, made and run on the
main thread: many plug-ins work nowhere else. Its delay is left in the output, where the check
measures it, in the place of trusting what the plug-in reports. What plug-ins print goes to the
process's own output, and a crash of theirs ends it: `hosted.py` gives them processes of their own.
It must not know of controls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sptmod_dist.capture.parameters import Parameter
from sptmod_dist.data.devices import import_pedalboard
from sptmod_dist.errors import UserError
from sptmod_dist.names import advice

_T = TypeVar("_T")
FEW = 16
"""Steps that are listed one by one."""


class VST3:
    """A plug-in by the path of its file.

    Args:
        path: a `.vst3` file, or folder as some systems have it.
        name: which, where a file holds several.

    Raises:
        UserError: pedalboard is not installed; the file is missing, is none, or holds several and
            none was named; the plug-in is an instrument.
    """

    def __init__(self, path: str | Path, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = _choose(self.path, name)
        self._use(self._learn)
        self.channels = {1: "mono", 2: "stereo"}[self._inputs]
        self.identity = f"{self.about} {_digest(self.path)}"

    def run(
        self, audio: np.ndarray, rate: int, values: Mapping[str, float | str]
    ) -> np.ndarray:
        """Process with a fresh instance.

        Shape:
            `[1, T]` to `[1, T + latency]`, or `[2, T + latency]` where a stereo plug-in makes two
            different channels of one
        """
        longer = np.pad(audio, ((0, 0), (0, self.latency))).astype(np.float32)
        source = np.repeat(longer, self._inputs, axis=0)

        def processed(plugin: Any) -> np.ndarray:
            _set(plugin, values)
            return plugin.process(source, rate, reset=False)

        wet = self._use(processed)
        return wet[:1] if (wet == wet[0]).all() else wet

    def shown(self, settings: Sequence[Mapping[str, float | str]]) -> list[dict[str, Any]]:
        """What the plug-in says of itself after each of these was set."""

        def seen(plugin: Any) -> list[dict[str, Any]]:
            found = []
            for values in settings:
                _set(plugin, values)
                found.append({name: _plain(getattr(plugin, name)) for name in values})
            return found

        return self._use(seen)

    def _learn(self, plugin: Any) -> None:
        if not plugin.is_effect:
            raise UserError(f"{self.path}: {self.name} is an instrument; give an effect.")
        self.latency = int(plugin.reported_latency_samples)
        self.parameters = {
            name: _parameter(known, getattr(plugin, name))
            for name, known in plugin.parameters.items()
        }
        self._inputs = _inputs(plugin, self.name)
        version = f"{plugin.version} " if plugin.version else ""
        self.about = (
            f"{self.name} {version}by {plugin.manufacturer_name} "
            f"(VST3, in pedalboard {import_pedalboard().__version__})"
        )

    def _use(self, action: Callable[[Any], _T]) -> _T:
        """Do something with a fresh instance, and end it."""
        pedalboard = import_pedalboard()
        try:
            plugin = pedalboard.VST3Plugin(str(self.path), plugin_name=self.name)
        except (ImportError, ValueError, RuntimeError) as error:
            raise UserError(f"{self.path} cannot be loaded: {_first_line(error)}") from error
        try:
            return action(plugin)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{self.name} failed: {_first_line(error)}") from error
        finally:
            vars(plugin).clear()  # its parameters hold it in a circle


def _choose(path: Path, name: str | None) -> str:
    if not path.exists():
        raise UserError(f"{path} does not exist; give the path of a VST3 plug-in.")
    try:
        names = import_pedalboard().VST3Plugin.get_plugin_names_for_file(str(path))
    except (ImportError, ValueError, RuntimeError) as error:
        reason = _first_line(error)
        raise UserError(f"{path} is no VST3 plug-in for this system: {reason}") from error
    if name is None and len(names) > 1:
        raise UserError(
            f"{path} holds {len(names)} plug-ins; choose one with --name: {', '.join(names)}."
        )
    if name is not None and name not in names:
        raise UserError(f"{path} holds no plug-in '{name}': {advice(name, names)}")
    return name or names[0]


def _parameter(known: Any, value: Any) -> Parameter:
    name, readable = known.python_name, not known.is_automatable
    if known.type is str:
        choices = tuple(str(choice) for choice in known.valid_values)
        return Parameter(name, str(value), choices=choices, readable=readable)
    low, high = (0.0, 1.0) if known.type is bool else map(float, known.range[:2])
    unit = (known.units or known.label or "").strip()
    steps = 2 if known.type is bool else known.num_steps if known.is_discrete else 0
    few = range(steps if steps <= FEW else 0)
    numbers = tuple(low + (high - low) * step / (steps - 1) for step in few)
    return Parameter(name, float(value), low, high, unit, numbers, readable=readable)


def _inputs(plugin: Any, name: str) -> int:
    """The channels that it wants: one where it takes one."""
    for channels in (1, 2):
        try:
            plugin.process(np.zeros((channels, 512), np.float32), 44_100, reset=False)
            return channels
        except ValueError as error:
            reason = _first_line(error)
    raise UserError(f"{name} takes neither mono nor stereo: {reason}")


def _set(plugin: Any, values: Mapping[str, float | str]) -> None:
    for name, value in values.items():
        parameter = plugin.parameters[name]
        setattr(plugin, name, bool(value) if parameter.type is bool else value)
        if parameter.type is float:
            _set_finely(plugin, name, parameter, float(value))


def _plain(value: Any) -> float | str:
    """Without what pedalboard wraps around it, which no other process can read."""
    return str(value) if isinstance(value, str) else float(value)


def _set_finely(plugin: Any, name: str, parameter: Any, value: float) -> None:
    """Nearer than pedalboard's thousand steps, where the plug-in reads its own text."""
    coarse, error = parameter.raw_value, abs(getattr(plugin, name) - value)
    raw = parameter.get_raw_value_for_text(f"{value:.9g}")
    if 0 <= raw <= 1:
        parameter.raw_value = raw
        if abs(getattr(plugin, name) - value) > error:
            parameter.raw_value = coarse


def _digest(path: Path) -> str:
    """Of the plug-in's code: all of its files."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _first_line(error: BaseException) -> str:
    """A foreign message as the end of a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[1] if len(lines) > 1 and lines[0].endswith(":") else (lines or ["no reason"])[0]
    return text.rstrip(".") + "."
