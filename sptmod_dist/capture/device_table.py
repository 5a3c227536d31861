"""What a plug-in exposes: as a table for people, and as controls to plan with.

It must not know of plans or of files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sptmod_dist.capture.parameters import KNOB, Parameter, plain_name
from sptmod_dist.capture.plugin import Host
from sptmod_dist.data.controls import Control, shown
from sptmod_dist.data.item_tables import FIELDS
from sptmod_dist.quality.judge import BYPASSED_DB
from sptmod_dist.quality.take_check import check_take

_HEAD = ("parameter", "range", "unit", "steps", "default", "")
RESERVED = ("take", "stimulus", *FIELDS)
"""Columns of the tables of takes and items."""
_LOG_UNITS = {"ms", "s", "hz", "khz", ":1"}
_WIDE = 9.0
"""A range whose end is so many times its begin is better planned in ratios, if its unit is heard
so."""
_SHOWN_CHOICES = 6
STARTS = {
    "Compressor": {"threshold_db": -20.0, "ratio": 4.0},
    "NoiseGate": {"threshold_db": -40.0},
}
"""Defaults of drafts where the effect's own leave the sound as it is."""


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
    starts = STARTS.get(host.name, {})
    drafted = [
        _control(known, starts.get(known.name))
        for known in settable
        if known.name != "current_program"
    ]
    return tuple(control for control in drafted if control is not None)


def does_nothing(host: Host, controls: Sequence[Control]) -> bool:
    """Whether the device leaves loud and quiet noise as it is, all controls at their defaults."""
    rate = 44_100
    level = 10 ** np.repeat([-0.3, -2.5, -0.3, -2.5], rate)
    dry = (level * np.random.default_rng(0).uniform(-1, 1, len(level))).astype(np.float32)[None]
    values = {c.name.removesuffix(f"_{KNOB}"): c.default for c in controls if c.default is not None}
    gain = check_take(dry, host.run(dry, rate, values), rate).gain_db
    return gain is not None and max(map(abs, gain)) < BYPASSED_DB


def _control(known: Parameter, start: float | None = None) -> Control | None:
    name = f"{known.name}_{KNOB}" if known.name in RESERVED else known.name
    if len(known.choices) > 1:
        return Control(name, scale="list", positions=known.choices, default=known.default)
    if known.choices or known.minimum is None or known.maximum is None:
        return None
    assert isinstance(known.default, float)
    default = min(max(start or known.default, known.minimum), known.maximum)
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
