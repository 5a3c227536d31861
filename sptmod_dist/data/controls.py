"""A device's controls: names, ranges, scales, and how a setting becomes what a model sees.

A model sees each control as a number from 0 to 1 (DAFx25, section on data). This file must not know
of files or of devices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from reprlib import repr as brief
from typing import Any

from sptmod_dist.data.documents import check_keys
from sptmod_dist.errors import UserError
from sptmod_dist.names import advice

SCALES = ("linear", "log")


@dataclass(frozen=True)
class Control:
    """One knob of a device.

    Args:
        name: as users type it, in `--control NAME=VALUE`.
        minimum, maximum: the range that was recorded; a model is not asked for anything beyond it.
        scale: `log` for what is heard in ratios (times, ratios, frequencies), `linear` for
            decibels.
        unit: for people: `dB`, `ms`, `:1`.

    Raises:
        UserError: an empty name, an empty or non-finite range, an unknown scale, or `log` of a
            range that reaches zero.
    """

    name: str
    minimum: float
    maximum: float
    scale: str = "linear"
    unit: str = ""

    def __post_init__(self) -> None:
        where = f"control '{self.name}'"
        if (
            not isinstance(self.name, str)
            or not self.name
            or "=" in self.name
            or self.name.split() != [self.name]
        ):
            raise UserError(
                f"{self.name!r} is no name for a control; use a word without spaces or '='."
            )
        for key in ("minimum", "maximum"):
            object.__setattr__(self, key, _number(getattr(self, key), f"{where}, {key}"))
        if self.minimum >= self.maximum:
            raise UserError(
                f"{where}: minimum {self.minimum:g} is not below maximum {self.maximum:g}; "
                "correct them."
            )
        if self.scale not in SCALES:
            raise UserError(f"{where}: scale {self.scale!r} is unknown; use linear or log.")
        if self.scale == "log" and self.minimum <= 0:
            raise UserError(
                f"{where}: a log scale needs a minimum above 0, not {self.minimum:g}; use linear."
            )
        if not isinstance(self.unit, str):
            raise UserError(f"{where}: unit {self.unit!r} is not text; put it in quotes.")

    def normalise(self, value: float) -> float:
        """Where `value` lies in the range: 0 at the minimum, 1 at the maximum.

        Raises:
            UserError: not a finite number, or outside the range.
        """
        value = _number(value, f"control '{self.name}'")
        if not self.minimum <= value <= self.maximum:
            raise UserError(
                f"control '{self.name}' = {value:g} is outside its range; "
                f"give {self.minimum:g} to {self.maximum:g} {self.unit}".rstrip()
                + "."
            )
        if self.scale == "log":
            return math.log(value / self.minimum) / math.log(self.maximum / self.minimum)
        return (value - self.minimum) / (self.maximum - self.minimum)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, entry: Any, where: str = "a control") -> Control:
        """The control that `to_dict` described.

        Raises:
            UserError: as the class, and for missing or unknown keys, naming `where`.
        """
        return cls(**check_keys(entry, ("name", "minimum", "maximum"), ("scale", "unit"), where))


def normalised_vector(controls: Sequence[Control], settings: Mapping[str, float]) -> list[float]:
    """The vector that a model sees, in the order of `controls`, each value from 0 to 1.

    Raises:
        UserError: a setting that no control has, a control without a setting, a value outside its
            range.
    """
    names = [control.name for control in controls]
    for name in settings:
        if name not in names:
            raise UserError(f"there is no control '{name}': {advice(str(name), names)}")
    for name in names:
        if name not in settings:
            raise UserError(f"control '{name}' has no value; give all of {', '.join(names)}.")
    return [control.normalise(settings[control.name]) for control in controls]


def _number(value: Any, where: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) < 1e300:  # beyond, a range's width is no float; NaN neither
        raise UserError(f"{where}: {brief(value)} is not a finite number; write it like 2.5.")
    return float(value)
