"""What a plug-in exposes: as a table for people, and as controls to plan with.

It must not know of takes or of audio.
"""

from __future__ import annotations

from sptmod_dist.capture.parameters import KNOB, Parameter, plain_name
from sptmod_dist.capture.plugin import Host
from sptmod_dist.data.controls import Control, shown
from sptmod_dist.data.item_tables import FIELDS

_HEAD = ("parameter", "range", "unit", "steps", "default", "")
RESERVED = ("take", "stimulus", *FIELDS)
"""Columns of the tables of takes and items."""
_LOG_UNITS = {"ms", "s", "hz", "khz", ":1"}
_WIDE = 9.0
"""A range whose end is so many times its begin is better planned in ratios, if its unit is heard
so."""
_SHOWN_CHOICES = 6


def table(host: Host) -> str:
    """A head of two lines, and a line for each parameter."""
    latency = "not reported" if host.latency is None else f"{host.latency} samples"
    rows = [_HEAD, *map(_row, host.parameters.values())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
             for row in rows]  # fmt: skip
    head = [host.about, f"channels: {host.channels}; latency: {latency}", ""]
    return "\n".join(line.rstrip() for line in [*head, *lines])


def draft(host: Host) -> tuple[Control, ...]:
    """A control for every parameter that can be set and has a range; what shall stay as it is may
    be deleted from the file."""
    settable = [known for known in host.parameters.values() if not known.readable]
    drafted = [_control(known) for known in settable if known.name != "current_program"]
    return tuple(control for control in drafted if control is not None)


def _control(known: Parameter) -> Control | None:
    name = f"{known.name}_{KNOB}" if known.name in RESERVED else known.name
    if len(known.choices) > 1:
        return Control(name, scale="list", positions=known.choices, default=known.default)
    if known.choices or known.minimum is None or known.maximum is None:
        return None
    assert isinstance(known.default, float)
    default = min(max(known.default, known.minimum), known.maximum)
    unit = known.unit or (":1" if "ratio" in plain_name(known.name) else "")
    wide = known.minimum > 0 and known.maximum / known.minimum > _WIDE
    scale = "log" if wide and unit.casefold() in _LOG_UNITS else "linear"
    return Control(name, known.minimum, known.maximum, scale, unit, default=default)


def _row(known: Parameter) -> tuple[str, ...]:
    notes = []
    if known.readable:
        notes.append("not to be set")
    if known.suggested and known.minimum is not None:
        notes.append("our range: it states none")
    unit = known.unit if known.unit.isprintable() else ""
    steps = str(len(known.choices)) if known.choices else ""
    return (known.name, _range(known), unit, steps, shown(known.default), ", ".join(notes))


def _range(known: Parameter) -> str:
    if known.choices:
        more = ["…"] if len(known.choices) > _SHOWN_CHOICES else []
        return ", ".join([*map(shown, known.choices[:_SHOWN_CHOICES]), *more])
    if known.minimum is None or known.maximum is None:
        return "not stated"
    return f"{known.minimum:g} to {known.maximum:g}"
