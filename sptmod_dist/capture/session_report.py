"""The end of a capture: what the checks found of all takes, in a file and in words; the manifest.

It must not know of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

from sptmod_dist import audio
from sptmod_dist.capture.plan import Take
from sptmod_dist.capture.session import Session
from sptmod_dist.data.controls import normalised_vector
from sptmod_dist.names import listed
from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.report import (
    conclusion,
    findings_in_words,
    noise_in_words,
    overall,
    write_report,
)
from sptmod_dist.quality.set_check import Entry, check_set
from sptmod_dist.quality.sketch import Sketch, make_sketch
from sptmod_dist.quality.take_report import Step, TakeReport

_SHOWN = 10
"""Takes that are named as missing."""


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
    entries = _entries(session, takes, sketches, workers)
    reports = [entry.report for entry in entries]
    together = check_set(entries, [control.name for control in session.plan.controls])
    write_report(session.checks / "report.json", device, reports, together)
    for line in (*findings_in_words(reports, together, notes=False), noise_in_words(reports)):
        if line:
            say(line)
    if missing:
        say(
            f"{len(takes)} of {len(session.plan.takes)} takes are there; the manifest is written "
            f"when all are: {listed([take.id for take in missing], _SHOWN)} "
            f"{'is' if len(missing) == 1 else 'are'} missing."
        )
    else:
        session.write_manifest(rate, device)
        say(conclusion(reports, together))
        sound = overall(reports, together) != "unfit"
        then = f"; `sptmod-dist split {session.manifest}` divides them" if sound else ""
        say(f"Wrote {session.manifest}: {len(takes)} items{then}.")
    return overall(reports, together) != "unfit"


def _entries(
    session: Session, takes: Sequence[Take], sketches: Mapping[str, Sketch], workers: int
) -> list[Entry]:
    found = session.results(takes)
    with ThreadPoolExecutor(workers, thread_name_prefix="sketch") as pool:
        drawn = list(pool.map(lambda take: sketches.get(take.id) or _sketch(session, take), takes))
    vectors = [normalised_vector(session.plan.controls, take.settings) for take in takes]
    return [
        Entry(read_report(found[take.id]), sketch, tuple(vector))
        for take, sketch, vector in zip(takes, drawn, vectors, strict=True)
    ]


def _sketch(session: Session, take: Take) -> Sketch:
    dry, wet = session.files(take)
    (into, rate), (out, _) = audio.read(dry), audio.read(wet)
    return make_sketch(into, out, rate)


def read_report(found: Mapping[str, Any]) -> TakeReport:
    """The report that `to_dict` made and the journal has; also of another version."""
    known = {field.name for field in fields(TakeReport)}
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in found.items()
        if name in known
    }
    plain["findings"] = tuple(Finding(**finding) for finding in plain["findings"])
    plain["steps"] = tuple(Step(**step) for step in plain.get("steps", ()))
    return TakeReport(**plain)
