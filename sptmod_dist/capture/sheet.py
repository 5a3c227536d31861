"""A plan as a page to print, for a person at the device: how to play it, and what to set for each
take.

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
h1 { font-size: 15pt; margin: 0 0 6pt }
table { border-collapse: collapse; width: 100% }
th, td { border: 0.3pt solid #888; padding: 2pt 5pt; text-align: right }
th { background: #eee }
thead { display: table-header-group }
tr { break-inside: avoid }
table.notes td { text-align: left; height: 16pt; width: 33%; vertical-align: top; color: #555 }
ol { margin: 8pt 0; padding-left: 16pt }
li { margin: 3pt 0 }
code { font-size: 9pt }
td.same { color: #777 }
td.box { text-align: center; font-size: 13pt }
td.id, th.id { text-align: left }
"""
_NOTES = (
    ("Device", "Date", "Who"),
    ("Interface and rate (Hz)", "Level sent", "Level recorded"),
)
"""Places to write on."""


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


def sheet(session: str, controls: Sequence[Control], takes: Sequence[Listed]) -> str:
    """The page, as HTML.

    Args:
        session: the name of its folder.
        controls: those that the plan never turns are told once, above the table.
        takes: in their order.
    """
    still = [c for c in controls if len({take.settings[c.name] for take in takes}) == 1]
    turned = [control for control in controls if control not in still]
    name = escape(session)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{name}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{name}: {len(takes)} take{'s' if len(takes) > 1 else ''}</h1>\n"
        + _notes()
        + _how(name, still, takes)
        + _table(turned, takes)
        + "\n</body></html>\n"
    )


def _notes() -> str:
    rows = "".join(f"<tr>{''.join(f'<td>{name}</td>' for name in row)}</tr>" for row in _NOTES)
    others = "Knobs and switches that this page does not name, and where they stand"
    return f'<table class="notes">{rows}<tr><td colspan="3">{others}<br><br></td></tr></table>\n'


def _how(name: str, still: Sequence[Control], takes: Sequence[Listed]) -> str:
    settings = ", ".join(escape(c.told(takes[0].settings[c.name])) for c in still)
    one = len({take.stimulus for take in takes}) == 1
    once = f"Set what stays: <b>{settings}</b>. " if still else ""
    command = f"sptmod-dist capture {name}"
    steps = (
        f"{once}Write down where everything else stands, and leave it so for all takes.",
        "Set the levels where the device is loudest: the recording's peaks at -6 dB or below, never"
        " clipped. Then leave them so. Switch off whatever else changes the sound.",
        "For each take set what is <b>bold</b> (grey stays as it is), start recording, play the"
        f" stimulus from begin to end (<code>{name}/stimulus/stimulus-N.wav</code>, N is in the"
        f" table; {_made(name, takes)} makes {'it' if one else 'them'}), then stop. The short rows"
        " of clicks at its begin and end are markers: both must be in the recording. Save it as a"
        " WAV of the stimulus's rate under the name of the file, and tick the box.",
        f"Or play all takes at once: <code>{command} play all.wav</code> writes one file with a"
        " pause before each take in which to turn the knobs. Record it in one file.",
        f"<code>{command} recordings WHAT-WAS-RECORDED</code> (a folder, or the one file) checks"
        " the takes and aligns them.",
    )
    return f"<ol>{''.join(f'<li>{step}</li>' for step in steps)}</ol>\n"


def _made(name: str, takes: Sequence[Listed]) -> str:
    seeds = sorted({take.stimulus for take in takes})
    more = f" --seed {seeds[0]}" if seeds[0] else ""
    more += f" --count {seeds[-1] - seeds[0] + 1}" if len(seeds) > 1 else ""
    return f"<code>sptmod-dist stimulus {name}/stimulus{more}</code>"


def _table(controls: Sequence[Control], takes: Sequence[Listed]) -> str:
    units = [f" ({escape(c.unit)})" if c.unit else "" for c in controls]
    names = [f"{escape(c.name)}{unit}" for c, unit in zip(controls, units, strict=True)]
    head = '<th></th><th>take</th><th class="id">file</th>'
    head += "".join(f"<th>{name}</th>" for name in ("stimulus", *names))
    rows = []
    before: dict[str, Setting] = {}
    for take in takes:
        rows.append(_row(controls, take, before))
        before = take.settings
    body = "\n".join(rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _row(controls: Sequence[Control], take: Listed, before: dict[str, Setting]) -> str:
    cells = []
    for control in controls:
        value = take.settings[control.name]
        text = escape(_readable(value))
        same = before.get(control.name) == value
        cells.append(f'<td class="same">{text}</td>' if same else f"<td><b>{text}</b></td>")
    return (
        f'<tr><td class="box">&#9744;</td><td>{take.number}</td>'
        f'<td class="id">{escape(take.id)}.wav</td><td>{take.stimulus}</td>{"".join(cells)}</tr>'
    )


def _readable(value: Setting) -> str:
    """Four digits: more cannot be set by hand."""
    return value if isinstance(value, str) else shown(float(f"{value:.4g}"))
