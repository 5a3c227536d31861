"""A plan as a page to print: what to set for each take, what changed since the one before.

It stands alone: no picture, font or script from elsewhere. It must not know how plans are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Protocol

from sptmod_dist.data.controls import Control, Setting, shown

_STYLE = """
@page { size: A4; margin: 12mm }
body { font: 10pt sans-serif }
table { border-collapse: collapse; width: 100% }
th, td { border: 0.3pt solid #888; padding: 2pt 5pt; text-align: right }
th { background: #eee }
thead { display: table-header-group }
tr { break-inside: avoid }
td.same { color: #777 }
td.box { text-align: center; font-size: 13pt }
td.id { text-align: left }
"""


class Listed(Protocol):
    """What the page must know of a take."""

    @property
    def number(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def stimulus(self) -> int: ...
    @property
    def settings(self) -> dict[str, Setting]: ...


def sheet(controls: Sequence[Control], takes: Sequence[Listed]) -> str:
    """The page, as HTML."""
    units = [f" ({escape(c.unit)})" if c.unit else "" for c in controls]
    names = [f"{escape(c.name)}{unit}" for c, unit in zip(controls, units, strict=True)]
    head = "".join(f"<th>{name}</th>" for name in ("", "take", "file", "stimulus", *names))
    rows = []
    before: dict[str, Setting] = {}
    for take in takes:
        rows.append(_row(controls, take, before))
        before = take.settings
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>Takes</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{len(takes)} takes</h1>\n"
        "<p>Set what is bold, play the stimulus, record, tick the box. "
        "What is grey stays as it is.</p>\n"
        f"<table><thead><tr>{head}</tr></thead><tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></body></html>\n"
    )


def _row(controls: Sequence[Control], take: Listed, before: dict[str, Setting]) -> str:
    cells = []
    for control in controls:
        value = take.settings[control.name]
        text = escape(_readable(value))
        same = before.get(control.name) == value
        cells.append(f'<td class="same">{text}</td>' if same else f"<td><b>{text}</b></td>")
    return (
        f'<tr><td class="box">&#9744;</td><td>{take.number}</td>'
        f'<td class="id">{escape(take.id)}</td><td>{take.stimulus}</td>{"".join(cells)}</tr>'
    )


def _readable(value: Setting) -> str:
    """Four digits: more cannot be set by hand."""
    return value if isinstance(value, str) else shown(float(f"{value:.4g}"))
