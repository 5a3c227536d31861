"""The end of a capture: what the checks found of all takes, in a file and in words; the manifest.

It must not know of devices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from sptmod_dist import audio
from sptmod_dist.capture.plan import Take
from sptmod_dist.capture.session import Session
from sptmod_dist.data.controls import normalised_vector
from sptmod_dist.files import atomic_write
from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.set_check import Entry, check_set
from sptmod_dist.quality.sketch import Sketch, make_sketch
from sptmod_dist.quality.take_report import TakeReport

FORMAT = "sptmod-capture-1"
_SHOWN = 10
"""Doubts that are printed; all are in the file."""


def finish(
    session: Session,
    device: str,
    rate: int,
    sketches: Mapping[str, Sketch],
    workers: int,
    say: Callable[[str], None] = print,
) -> bool:
    """Compare the takes, write `checks/report.json`, tell what is doubtful, and write the manifest
    when no take is missing.

    Args:
        session: after a capture.
        device: as it describes itself.
        rate: of the takes, in Hz.
        sketches: by take, those that are known; the others are made from the files.
        workers: threads for that.
        say: called with each line.

    Returns:
        Whether no fault was found among all takes together.
    """
    missing = session.missing()
    takes = [take for take in session.plan.takes if take not in missing]
    found = session.results(takes)
    together = _compare(session, takes, found, sketches, workers)
    _write_report(session, device, found, together)
    _tell(found, together, say)
    if missing:
        say(
            f"{len(takes)} of {len(session.plan.takes)} takes are there; the manifest is written "
            f"when all are: {_listed([take.id for take in missing])} missing."
        )
    else:
        session.write_manifest(rate, device)
        say(
            f"Wrote {session.manifest}: {len(takes)} items; `sptmod-dist split {session.manifest}` "
            "divides them."
        )
    return not any(finding.severity == "fault" for finding in together)


def _compare(
    session: Session,
    takes: Sequence[Take],
    found: Mapping[str, Any],
    sketches: Mapping[str, Sketch],
    workers: int,
) -> tuple[Finding, ...]:
    controls = session.plan.controls
    with ThreadPoolExecutor(workers, thread_name_prefix="sketch") as pool:
        drawn = list(pool.map(lambda take: sketches.get(take.id) or _sketch(session, take), takes))
    entries = [
        Entry(_report(found[take.id]), sketch, tuple(normalised_vector(controls, take.settings)))
        for take, sketch in zip(takes, drawn, strict=True)
    ]
    return check_set(entries, [control.name for control in controls])


def _sketch(session: Session, take: Take) -> Sketch:
    dry, wet = session.files(take)
    (into, rate), (out, _) = audio.read(dry), audio.read(wet)
    return make_sketch(into, out, rate)


def _report(found: Mapping[str, Any]) -> TakeReport:
    """As much of a take's report as takes are compared by."""
    return TakeReport(
        found["name"], found["rate"], latency=found["latency"], polarity=found["polarity"]
    )


def _write_report(
    session: Session, device: str, found: Mapping[str, Any], together: Sequence[Finding]
) -> None:
    report = {
        "format": FORMAT,
        "device": device,
        "together": [asdict(finding) for finding in together],
        "takes": found,
    }
    with atomic_write(session.checks / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _tell(
    found: Mapping[str, Any], together: Sequence[Finding], say: Callable[[str], None]
) -> None:
    doubts = [
        f"{finding['severity']}: {name}: {finding['what']} {finding['remedy']}".rstrip()
        for name, report in found.items()
        for finding in report["findings"]
        if finding["severity"] == "doubt"
    ]
    for line in doubts[:_SHOWN]:
        say(line)
    if len(doubts) > _SHOWN:
        say(f"… and {len(doubts) - _SHOWN} more doubts, all in checks/report.json.")
    for finding in together:
        say(f"{finding.severity}: {finding.what} {finding.remedy}".rstrip())


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"
