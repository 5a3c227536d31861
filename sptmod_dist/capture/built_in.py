"""Effects that are built into pedalboard, as `plugin.py` uses them.

They state no ranges: those here are ours, for drafts; what an effect itself refuses is found by
trying. It must not know of controls or of files.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sptmod_dist.capture.parameters import Parameter
from sptmod_dist.data.devices import import_pedalboard
from sptmod_dist.errors import UserError
from sptmod_dist.names import advice

RANGES = {
    "threshold_db": (-60.0, 0.0),
    "ratio": (1.0, 20.0),
    "attack_ms": (0.1, 100.0),
    "release_ms": (10.0, 1000.0),
    "lookahead_ms": (0.0, 20.0),
    "ceiling_db": (-24.0, 0.0),
    "gain_db": (-24.0, 24.0),
    "drive_db": (0.0, 60.0),
    "bit_depth": (2.0, 24.0),
    "cutoff_hz": (20.0, 20_000.0),
    "cutoff_frequency_hz": (20.0, 20_000.0),
    "q": (0.1, 10.0),
}
"""Ranges worth recording; a plan may go beyond them as far as the effect does."""
_KINDS = ("is_effect", "is_instrument")


class BuiltIn:
    """One of pedalboard's own effects, by its name, such as `Compressor`.

    Raises:
        UserError: pedalboard is not installed, or has no such effect.
    """

    latency: int | None = None

    def __init__(self, name: str) -> None:
        pedalboard = import_pedalboard()
        effects = _effects()
        if name not in effects:
            raise UserError(
                f"pedalboard has no effect '{name}': {advice(name, effects)}; "
                "a plug-in of another maker is given by its path, FILE.vst3"
            )
        self.name, self._make = name, effects[name]
        self.about = f"pedalboard {pedalboard.__version__} {name}"
        self.identity = self.about
        fresh = self._make()
        self.parameters = {
            parameter: _parameter(parameter, getattr(fresh, parameter))
            for parameter in _properties(self._make)
        }
        self.channels = "any"

    def run(
        self, audio: np.ndarray, rate: int, values: Mapping[str, float | str]
    ) -> np.ndarray:
        """Process with a fresh effect.

        Shape:
            `[1, T]` to `[1, T]`
        """
        effect = self._make()
        self._set(effect, values)
        return effect.process(np.ascontiguousarray(audio, np.float32), rate, reset=True)

    def shown(self, settings: Sequence[Mapping[str, float | str]]) -> list[dict[str, Any]]:
        """What the effect says of itself after each of these was set.

        Raises:
            UserError: it refuses one.
        """
        found = []
        for values in settings:
            effect = self._make()
            self._set(effect, values)
            found.append({name: _plain(getattr(effect, name)) for name in values})
        return found

    def close(self) -> None:
        """Nothing runs on."""

    def _set(self, effect: Any, values: Mapping[str, float | str]) -> None:
        for name, value in values.items():
            kind = type(getattr(effect, name))
            try:
                setattr(effect, name, kind.__members__[value] if _is_enum(kind) else kind(value))
            except (ValueError, TypeError, RuntimeError) as error:
                raise UserError(
                    f"{self.name} refuses {name} = {value}: {str(error).rstrip('.')}."
                ) from error


def _effects() -> dict[str, Any]:
    """All effects that work alone: made without arguments, and with something to set."""
    pedalboard = import_pedalboard()
    outside = (pedalboard.ExternalPlugin, pedalboard.PluginContainer)
    effects = {
        name: effect
        for name, effect in inspect.getmembers(pedalboard, inspect.isclass)
        if issubclass(effect, pedalboard.Plugin) and not issubclass(effect, outside)
    }
    bases = {base for effect in effects.values() for base in effect.__mro__[1:]}
    return {
        name: effect
        for name, effect in effects.items()
        if effect not in bases and _properties(effect) and name != "Convolution"
    }


def _properties(effect: Any) -> list[str]:
    found = inspect.getmembers(effect, lambda member: isinstance(member, property))
    return [name for name, member in found if name not in _KINDS and member.fset is not None]


def _parameter(name: str, value: Any) -> Parameter:
    if isinstance(value, bool):
        return Parameter(name, float(value), choices=(0.0, 1.0))
    if _is_enum(type(value)):
        return Parameter(name, _plain(value), choices=tuple(type(value).__members__))
    low, high = RANGES.get(name, (None, None))
    unit = {"db": "dB", "ms": "ms", "hz": "Hz"}.get(name.rpartition("_")[2], "")
    return Parameter(name, float(value), low, high, unit, suggested=True)


def _is_enum(kind: type) -> bool:
    return hasattr(kind, "__members__")


def _plain(value: Any) -> float | str:
    return value.name if _is_enum(type(value)) else float(value)
