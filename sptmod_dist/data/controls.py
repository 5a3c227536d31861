"""A device's controls: names, ranges or positions, and how a setting becomes what a model sees.

A model sees each control as a number from 0 to 1 (DAFx25, section on data). This file must not know
of files or of devices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from reprlib import repr as brief
from typing import Any, TypeAlias

from sptmod_dist.data.documents import check_keys
from sptmod_dist.errors import UserError
from sptmod_dist.names import advice
from sptmod_dist.typed import number_or_text

SCALES = ("linear", "log", "list")
Setting: TypeAlias = "float | str"
"""Where a control stands, in the device's own unit; text where its positions have names."""
MOST_RATIO = 1e30
"""From the lowest to the highest value of a log scale."""


@dataclass(frozen=True)
class Control:
    """One knob or switch of a device: over a range, or with positions.

    Args:
        name: as users type it, in `--control NAME=VALUE`.
        minimum, maximum: the range that was recorded; a model is not asked for anything beyond it.
        scale: `log` for what is heard in ratios (times, ratios, frequencies), `linear` for
            decibels, `list` for a switch.
        unit: for people: `dB`, `ms`, `:1`.
        positions: of a switch, in their order: numbers, or texts such as fast and slow. A model
            sees them in equal steps from 0 to 1.
        default: where the control stands unless something else is asked for.

    Raises:
        UserError: an empty name, an empty or non-finite range, an unknown scale, `log` of a
            range that reaches zero, positions beside a range, fewer than two of them, or a default
            that is no setting.
    """

    name: str
    minimum: float | None = None
    maximum: float | None = None
    scale: str = "linear"
    unit: str = ""
    positions: tuple[Setting, ...] = ()
    default: Setting | None = None

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
        if self.scale not in SCALES:
            raise UserError(f"{where}: scale {self.scale!r} is unknown; use {', '.join(SCALES)}.")
        if not isinstance(self.unit, str):
            raise UserError(f"{where}: unit {self.unit!r} is not text; put it in quotes.")
        if self.scale == "list":
            self._check_positions(where)
        else:
            self._check_range(where)
        if self.default is not None:
            object.__setattr__(self, "default", self.setting(self.default))

    def _check_range(self, where: str) -> None:
        if self.positions:
            raise UserError(f"{where}: positions belong to the scale list, not {self.scale}.")
        for key in ("minimum", "maximum"):
            object.__setattr__(self, key, _number(getattr(self, key), f"{where}, {key}"))
        low, high = self._range
        if low >= high:
            raise UserError(
                f"{where}: minimum {low:g} is not below maximum {high:g}; correct them."
            )
        if self.scale == "log" and low <= 0:
            raise UserError(
                f"{where}: a log scale needs a minimum above 0, not {low:g}; use linear."
            )
        if self.scale == "log" and high / MOST_RATIO > low:
            raise UserError(
                f"{where}: a log scale cannot reach from {low:g} to {high:g}; raise the minimum."
            )

    def _check_positions(self, where: str) -> None:
        if self.minimum is not None or self.maximum is not None:
            raise UserError(f"{where} has positions, and a range besides; keep one of them.")
        given = self.positions
        if not isinstance(given, (list, tuple)) or len(given) < 2:
            raise UserError(f"{where}: positions {brief(given)} are no list of two or more.")
        if all(isinstance(position, str) for position in given):
            positions: tuple[Setting, ...] = tuple(given)
            if not all(p.strip() == p and p.isprintable() and p for p in map(str, positions)):
                raise UserError(f"{where}: a position is empty or begins or ends with a space.")
        else:
            positions = tuple(
                _number(p, f"{where}, positions (all numbers or all texts)") for p in given
            )
        if any(_same(a, b) for n, a in enumerate(positions) for b in positions[:n]):
            raise UserError(f"{where}: a position is listed twice; keep one.")
        object.__setattr__(self, "positions", positions)

    @property
    def _range(self) -> tuple[float, float]:
        assert self.minimum is not None and self.maximum is not None
        return self.minimum, self.maximum

    def read(self, text: str) -> Setting:
        """What a table's cell or a word on the command line says, for `setting`: the text itself
        where positions are texts, for `01` is not `1` then; else a number where it is one."""
        named = any(isinstance(position, str) for position in self.positions)
        return text if named else number_or_text(text)

    def setting(self, value: Any) -> Setting:
        """The setting that a value from a file or a command line means.

        Raises:
            UserError: not a finite number, outside the range, or none of the positions.
        """
        if self.scale == "list":
            return self.positions[self._position(value)]
        value = _number(value, f"control '{self.name}'")
        low, high = self._range
        if not low <= value <= high:
            raise UserError(
                f"control '{self.name}' = {value:g} is outside its range; "
                f"give {low:g} to {high:g} {self.unit}".rstrip() + "."
            )
        return value

    def normalise(self, value: Setting) -> float:
        """Where `value` lies: 0 at the minimum or first position, 1 at the maximum or last.

        Raises:
            UserError: as `setting`.
        """
        if self.scale == "list":
            return self._position(value) / (len(self.positions) - 1)
        number, (low, high) = float(self.setting(value)), self._range
        if self.scale == "log":
            return math.log(number / low) / math.log(high / low)
        return (number - low) / (high - low)

    def at(self, place: float) -> Setting:
        """The setting that lies at a place from 0 to 1: what `normalise` undoes."""
        if self.scale == "list":
            return self.positions[round(place * (len(self.positions) - 1))]
        low, high = self._range
        if self.scale == "log":
            value = float(f"{low * (high / low) ** place:.14g}")  # what was round stays so
        else:
            value = round(low + place * (high - low), 12 - math.ceil(math.log10(high - low)))
        return min(max(value, low), high)

    def told(self, value: Setting) -> str:
        """The control where it stands, for people: `threshold -20 dB`."""
        return f"{self.name} {shown(value)} {self.unit}".rstrip()

    def in_words(self) -> str:
        """All that decides what a model sees; equal words mean equal vectors."""
        if self.scale == "list":
            return f"{self.name} {' '.join(map(repr, self.positions))}{self.unit} (list)"
        return f"{self.name} {self.minimum!r} to {self.maximum!r}{self.unit} ({self.scale})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON, without what is not there; `from_dict` reads them."""
        entry = {key: value for key, value in asdict(self).items() if value not in (None, ())}
        if self.positions:
            entry["positions"] = list(self.positions)
        return entry

    @classmethod
    def from_dict(cls, entry: Any, where: str = "a control") -> Control:
        """The control that `to_dict` described; positions alone make it a list.

        Raises:
            UserError: as the class, and for missing or unknown keys, naming `where`.
        """
        optional = ("minimum", "maximum", "scale", "unit", "positions", "default")
        entry = check_keys(entry, ("name",), optional, where)
        if "positions" in entry:
            entry = {"scale": "list", **entry}
        else:
            check_keys(entry, ("name", "minimum", "maximum"), optional, where)
        return cls(**entry)

    def _position(self, value: Any) -> int:
        for alike in (_same, _near):
            found = [n for n, position in enumerate(self.positions) if alike(position, value)]
            if len(found) == 1:
                return found[0]
        raise UserError(
            f"control '{self.name}' = {brief(value)} is none of its positions; give one of "
            f"{', '.join(map(shown, self.positions))}{_hint(value)}."
        )


def _same(position: Setting, value: Any) -> bool:
    """Whether a value from a file or command line is written as a position, or is its number."""
    if isinstance(position, str):
        return position == (exact(value) if _is_number(value) else value)
    return _near(position, value)


def _near(position: Setting, value: Any) -> bool:
    """Whether both are one number, however it is written: `2` and `02`."""
    numbers = [number_or_text(v) if isinstance(v, str) else v for v in (position, value)]
    if not all(map(_is_number, numbers)):
        return False
    try:
        one, other = map(float, numbers)
    except OverflowError:
        return False
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: Setting) -> str:
    """A setting as people write it."""
    return value if isinstance(value, str) else f"{value:g}"


def exact(value: Setting) -> str:
    """A setting as tables hold it: read again, it is the same."""
    return value if isinstance(value, str) else repr(float(value)).removesuffix(".0")


def read_settings(
    controls: Sequence[Control], settings: Mapping[str, Setting]
) -> dict[str, Setting]:
    """Settings whose texts are read as their controls read them; of no control of these, as is."""
    known = {control.name: control for control in controls}
    return {
        name: known[name].read(value) if name in known and isinstance(value, str) else value
        for name, value in settings.items()
    }


def normalised_vector(controls: Sequence[Control], settings: Mapping[str, Setting]) -> list[float]:
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


def unique_controls(entries: Sequence[Any], path: object) -> tuple[Control, ...]:
    """The controls that a document lists.

    Args:
        path: of the document, for messages.

    Raises:
        UserError: as `Control.from_dict`, or a name stands twice.
    """
    try:
        controls = tuple(
            Control.from_dict(entry, f"control {n}") for n, entry in enumerate(entries, 1)
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    names = [control.name for control in controls]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: control '{name}' is listed twice; keep one.")
    return controls


def _number(value: Any, where: str) -> float:
    # beyond, a range's width is no float; NaN is not below either
    if not _is_number(value) or not abs(value) < 1e300:
        raise UserError(
            f"{where}: {brief(value)} is not a finite number; write it like 2.5{_hint(value)}."
        )
    return float(value)


def _hint(value: Any) -> str:
    """YAML takes these words for truth values where they stand bare."""
    return " (put on, off, yes and no in quotes)" if isinstance(value, bool) else ""
