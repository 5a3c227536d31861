"""The end of a capture: what the checks found of all takes, in a file and in words; the manifest.

It must not know of devices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sptmod_dist.capture.session import Session
from sptmod_dist.files import atomic_write

FORMAT = "sptmod-capture-1"
_SHOWN = 10
"""Doubts that are printed; all are in the file."""


def finish(
    session: Session, device: str, rate: int, say: Callable[[str], None] = print
) -> None:
    """Write `checks/report.json`, tell the doubts, and write the manifest when no take is missing.

    Args:
        session: after a capture.
        device: as it describes itself.
        rate: of the takes, in Hz.
        say: called with each line.
    """
    takes = session.plan.takes
    found = session.results(take for take in takes if take not in session.missing())
    _write_report(session, device, found)
    _tell_doubts(found, say)
    left = session.missing()
    if left:
        say(
            f"{len(takes) - len(left)} of {len(takes)} takes are there; the manifest is written "
            f"when all are: {', '.join(take.id for take in left[:_SHOWN])}"
            f"{' …' if len(left) > _SHOWN else ''} are missing."
        )
        return
    session.write_manifest(rate, device)
    say(f"Wrote {session.manifest}: {len(takes)} items.")


def _write_report(session: Session, device: str, found: Mapping[str, Any]) -> None:
    report = {"format": FORMAT, "device": device, "takes": found}
    with atomic_write(session.checks / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _tell_doubts(found: Mapping[str, Any], say: Callable[[str], None]) -> None:
    doubts: list[Sequence[str]] = [
        (name, finding["what"], finding["remedy"])
        for name, report in found.items()
        for finding in report["findings"]
        if finding["severity"] == "doubt"
    ]
    for name, what, remedy in doubts[:_SHOWN]:
        say(f"  {name}: {what} {remedy}".rstrip())
    if len(doubts) > _SHOWN:
        say(f"  … and {len(doubts) - _SHOWN} more doubts, all in checks/report.json.")
