"""What a check says: a table with a line a take, findings in words, and a report for programs.

It must not know of audio.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sptmod_dist import __version__
from sptmod_dist.files import atomic_write
from sptmod_dist.quality.findings import SEVERITIES, Finding, verdict
from sptmod_dist.quality.take_report import TakeReport

FORMAT = "sptmod-check-1"
_HEAD = (
    "take", "verdict", "latency", "drift ppm", "polarity", "DC %", "gain dB", "noise dB",
    "best ESR dB",
)
_SHOWN = 30
"""Lines of findings that are printed; all are in the report."""
_TAKES = 3
"""Names of takes that share a finding."""


def table(reports: Sequence[TakeReport]) -> list[str]:
    """A line a take, under a head. Of the best ESR, that which no model can go below."""
    rows = [_HEAD, *(_row(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def findings_in_words(
    reports: Sequence[TakeReport], whole: Sequence[Finding], notes: bool
) -> list[str]:
    """The findings, the worst first; equal ones of several takes in one line.

    Args:
        reports: of the takes.
        whole: what concerns all takes.
        notes: whether to tell the takes' notes too.
    """
    lines = [
        line
        for severity in SEVERITIES
        for line in [
            *(_line(f, "") for f in whole if f.severity == severity),
            *(_of_takes(reports, severity) if notes or severity != "note" else ()),
        ]
    ]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"… and {more} more in report.json"] if more > 0 else [])


def noise_in_words(reports: Sequence[TakeReport]) -> str:
    """The best ESR that the device's own noise leaves to any model, of the noisiest take and of the
    usual one; nothing where no take tells it."""
    known = {report.name: report.best_esr for report in reports if report.best_esr is not None}
    if not known:
        return ""
    worst = max(known, key=lambda name: known[name])
    middle = _esr_in_db(statistics.median(known.values()))
    line = f"The device's noise leaves an ESR of {middle} dB at best"
    return line + (f", {_esr_in_db(known[worst])} dB in {worst}." if len(known) > 1 else ".")


def conclusion(reports: Sequence[TakeReport], whole: Sequence[Finding]) -> str:
    """The verdict on everything in a sentence."""
    counts = {
        name: sum(report.verdict == name for report in reports)
        for name in ("sound", "doubtful", "unfit")
    }
    takes = f"{len(reports)} take{'s' * (len(reports) > 1)}"
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    ending = {
        "sound": "ready to train on",
        "doubtful": "look at the doubts before you train",
        "unfit": "not to be trained on before the faults are mended",
    }[overall(reports, whole)]
    return f"{takes}: {told}; {ending}."


def overall(reports: Sequence[TakeReport], whole: Sequence[Finding]) -> str:
    """The worst verdict."""
    return verdict([*whole, *(finding for report in reports for finding in report.findings)])


def write_report(
    path: Path, source: str, reports: Sequence[TakeReport], whole: Sequence[Finding]
) -> None:
    """Write `report.json`, whole or not at all.

    Args:
        path: of the file.
        source: what was checked.
        reports: of the takes, in order.
        whole: what concerns all takes.
    """
    content = {
        "format": FORMAT,
        "version": __version__,
        "checked": source,
        "verdict": overall(reports, whole),
        "findings": [vars(finding) for finding in whole],
        "takes": [report.to_dict() for report in reports],
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def is_report(path: Path) -> bool:
    """Whether a file is a report of this kind."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _row(report: TakeReport) -> tuple[str, ...]:
    if report.method == "none":
        return (report.name, report.verdict, *["-"] * (len(_HEAD) - 2))
    offset = max(map(abs, report.dc), default=0.0)
    gain = report.gain_db
    return (
        report.name,
        report.verdict,
        f"{report.latency:.2f}",
        f"{report.drift_ppm:.1f}",
        "turned" if report.polarity < 0 else "same",
        f"{100 * offset:.2f}",
        "-" if gain is None else f"{gain[0]:.1f} to {gain[1]:.1f}",
        "-" if report.noise_db is None else _decibels(report.noise_db),
        "-" if report.best_esr is None else _esr_in_db(report.best_esr),
    )


def _esr_in_db(esr: float) -> str:
    return _decibels(10 * math.log10(esr + 1e-20))


def _decibels(value: float) -> str:
    return f"{value:.1f}" if value > -140 else "< -140"


def _of_takes(reports: Sequence[TakeReport], severity: str) -> Iterator[str]:
    groups: dict[Finding, list[str]] = {}
    for report in reports:
        for finding in report.of(severity):
            groups.setdefault(finding, []).append(report.name)
    for finding, names in groups.items():
        more = f" and {len(names) - _TAKES} more" if len(names) > _TAKES else ""
        yield _line(finding, ", ".join(names[:_TAKES]) + more)


def _line(finding: Finding, where: str) -> str:
    start = f"{finding.severity}: {where}: " if where else f"{finding.severity}: "
    return f"{start}{finding.what} {finding.remedy}".rstrip()
