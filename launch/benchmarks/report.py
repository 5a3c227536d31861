"""Figures and how they are shown: Markdown tables for people, a flat list for programs.

The only place that knows either form. It knows nothing of what is measured.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from sptmod_dist.files import atomic_write

DECIMALS = {"bytes": 0, "ms": 2, "MB": 0, "sequences/s": 0}
FIELDS = ("name", "value", "unit", "target", "better")


@dataclass(frozen=True)
class Figure:
    """One result under a name that stays, so that two runs can be compared."""

    name: str
    value: float
    unit: str
    """`1` for a ratio or a share."""
    target: float | None
    """What it should reach; a figure that misses it fails nothing."""
    better: Literal["higher", "lower"]
    note: str = ""
    """For the reader of the table: the spread, or how it came about."""


@dataclass(frozen=True)
class Section:
    """Figures that belong together, with what must be known to read them."""

    title: str
    figures: Sequence[Figure]
    text: str = ""


def median(name: str, values: Sequence[float], unit: str, **how: Any) -> Figure:
    """The median of interleaved repeats, with the middle half of them as its note."""
    note = f"{len(values)} repeats"
    if len(values) > 3:
        low, _, high = statistics.quantiles(values, method="inclusive")
        digits = DECIMALS.get(unit, 3)
        note += f", half of them in {low:.{digits}f} … {high:.{digits}f}"
    note = "; ".join(filter(None, [note, how.pop("note", "")]))
    how = {"target": None, "better": "lower", **how}
    return Figure(name, statistics.median(values), unit, note=note, **how)


def markdown(about: Machine, sections: Sequence[Section]) -> str:
    """The machine in a line, and every section as a heading, a paragraph and a table."""
    return "\n\n".join([str(about), *map(_section, sections)])


class Machine:
    """Where and beside what something is measured, from now on."""

    def __init__(self) -> None:
        self._begin = (time.monotonic(), _of_others())

    def __str__(self) -> str:
        seconds, of_others = time.monotonic() - self._begin[0], _of_others()
        text = (
            f"{cores()} cores ({platform.machine()}), torch {torch.__version__}, "
            f"Python {platform.python_version()}; took {seconds:.0f} s"
        )
        if of_others is None or self._begin[1] is None:
            return text
        share = max(0.0, of_others - self._begin[1]) / seconds
        return f"{text}, in which other programs kept {share:.1f} cores busy"


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_json(path: Path, sections: Sequence[Section]) -> None:
    """The figures of all sections as a list of objects with `FIELDS`, whole or not at all."""
    rows = [
        {field: getattr(figure, field) for field in FIELDS}
        for section in sections
        for figure in section.figures
    ]
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(rows, indent=1) + "\n")


def _of_others() -> float | None:
    """Seconds of computing by other programs since the machine began; Linux alone knows."""
    try:
        fields = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    except OSError:
        return None
    user, nice, system, _, _, interrupts, soft, stolen = map(int, fields)
    everyone = (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
    return everyone - sum(os.times()[:4])


def _section(section: Section) -> str:
    head = "| figure | value | unit | target | |\n|---|---:|---|---:|---|"
    parts = [f"### {section.title}", section.text]
    if section.figures:
        parts.append("\n".join([head, *map(_row, section.figures)]))
    return "\n\n".join(filter(None, parts))


def _row(figure: Figure) -> str:
    digits = DECIMALS.get(figure.unit, 3)
    value = f"{figure.value:,.{digits}f}"
    sign = "≥" if figure.better == "higher" else "≤"
    target = "" if figure.target is None else f"{sign} {figure.target:,.{min(digits, 2)}f}"
    unit = "" if figure.unit == "1" else figure.unit
    return f"| `{figure.name}` | {value} | {unit} | {target} | {figure.note} |"
