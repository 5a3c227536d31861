"""Parameters of plug-ins: what they accept, and which of them a control means.

Names are compared without case, spaces, underscores and units, so that the control `Threshold`
means `threshold_db`. It must not know of plug-ins' files or of pedalboard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sptmod_dist.data.controls import Control, shown
from sptmod_dist.errors import UserError
from sptmod_dist.names import advice

KNOB = "knob"
"""Ends the name of a control whose parameter has a name that tables need, such as `sidechain`."""
UNITS = ("db", "ms", "sec", "seconds", "s", "khz", "hz", "percent", "frames", "semitones", "st")
_TIMES_AND_LEVELS = {"db", "ms", "s", "hz", "khz", "%"}
"""Units that one value cannot have two of: 5 s are not 5 ms."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a plug-in.

    Args:
        name: as `--set` and `--map` take it.
        default: a number, or one of `choices`.
        minimum, maximum: None where the plug-in does not say, or for texts.
        unit: for people.
        choices: all values, where there are few.
        suggested: the range is ours, the plug-in states none.
        readable: a meter, or what the host sets: shown, never set.
    """

    name: str
    default: float | str
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    choices: tuple[float | str, ...] = ()
    suggested: bool = False
    readable: bool = False

    def require(self, value: float | str, where: str) -> None:
        """Refuse what the parameter cannot be.

        Raises:
            UserError: no such choice, outside the range, or text for a number.
        """
        if self.choices and not any(_same(value, choice) for choice in self.choices):
            known = ", ".join(map(shown, self.choices))
            raise UserError(f"{where} = {shown(value)}: {self.name} takes {known} alone.")
        if self.choices:
            return
        if isinstance(value, str):
            raise UserError(f"{where} = {value!r}: {self.name} takes a number; give one.")
        if self.minimum is None or self.maximum is None or self.suggested:
            return
        if not self.minimum <= value <= self.maximum:
            raise UserError(
                f"{where} = {value:g} is outside what {self.name} takes; "
                f"give {self.minimum:g} to {self.maximum:g} {self.unit}".rstrip()
                + "."
            )


def plain_name(name: str) -> str:
    """A name without case, spaces, underscores and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


def match(
    controls: Sequence[Control],
    parameters: Mapping[str, Parameter],
    given: Mapping[str, str],
    taken: Iterable[str] = (),
) -> dict[str, str]:
    """Which parameter each control turns, by name.

    Args:
        controls: of the plan.
        parameters: of the plug-in, by name.
        given: what the user says it is: control to parameter.
        taken: parameters that are fixed, which no control may turn.

    Raises:
        UserError: a control that none or several parameters may be, a parameter that two controls
            turn or that is fixed too, units that differ.
    """
    settable = {name: known for name, known in parameters.items() if not known.readable}
    names = [control.name for control in controls]
    for name in given:
        if name not in names:
            raise UserError(f"--map {name}={given[name]}: {advice_on('control', name, names)}")
    found: dict[str, str] = {}
    for control in controls:
        if control.name in given:
            name = find(given[control.name], settable, f"--map {control.name}={{}}")
        else:
            name = find(control.name, settable, f"control '{control.name}'", mapped=True)
        _check_pair(control, settable[name], found, taken)
        found[control.name] = name
    return found


def find(
    wanted: str, parameters: Mapping[str, Parameter], where: str, mapped: bool = False
) -> str:
    """The one parameter that a name means.

    Raises:
        UserError: none, naming the closest, or several, naming them.
    """
    where = where.format(wanted)
    how = f"; say which with --map {wanted}=PARAMETER" if mapped else ""
    if wanted in parameters:
        return wanted
    for short in (plain_name, _unitless):
        same = [name for name in parameters if short(name) == short(wanted)]
        if len(same) > 1:
            raise UserError(f"{where} may be any of {', '.join(same)}{how or '; write it out'}.")
        if same:
            return same[0]
    words = advice_on("parameter", wanted, parameters).rstrip("?.")
    raise UserError(f"{where}: {words}{how}.")


def advice_on(kind: str, name: str, known: Iterable[str]) -> str:
    """That there is no such name, and which are."""
    return f"there is no {kind} '{name}', {advice(name, known)}"


def _check_pair(
    control: Control, parameter: Parameter, found: Mapping[str, str], taken: Iterable[str]
) -> None:
    for other, name in found.items():
        if name == parameter.name:
            raise UserError(
                f"controls '{other}' and '{control.name}' both turn {name}; "
                f"say which it is with --map {control.name}=PARAMETER."
            )
    if parameter.name in taken:
        raise UserError(
            f"control '{control.name}' turns {parameter.name}, which --set fixes; leave that out."
        )
    units = {control.unit.casefold(), parameter.unit.casefold()}
    if len(units) == 2 and units <= _TIMES_AND_LEVELS:
        raise UserError(
            f"control '{control.name}' is in {control.unit} and {parameter.name} in "
            f"{parameter.unit}; plan it in {parameter.unit}."
        )


def _unitless(name: str) -> str:
    words = re.split(r"[\W_]+", name.casefold().strip())
    while len(words) > 1 and words[-1] in (*UNITS, KNOB, ""):
        words.pop()
    return "".join(words)


def _same(value: float | str, choice: float | str) -> bool:
    """Also after a table has rounded it."""
    if isinstance(value, str) or isinstance(choice, str):
        return value == choice
    return abs(value - choice) <= 1e-9 * max(1.0, abs(choice))
