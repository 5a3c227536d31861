"""Checking the takes of a manifest, or one pair of files, several at once.

It reads files and writes none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from sptmod_dist import audio
from sptmod_dist.data.controls import normalised_vector
from sptmod_dist.data.recordings import Item, Manifest
from sptmod_dist.errors import UserError
from sptmod_dist.quality.align import align
from sptmod_dist.quality.findings import Finding
from sptmod_dist.quality.judge import lossy, may_clip
from sptmod_dist.quality.picture import Curves, make_curves
from sptmod_dist.quality.set_check import Entry
from sptmod_dist.quality.sketch import make_sketch
from sptmod_dist.quality.take_check import check_take
from sptmod_dist.quality.take_report import TakeReport

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class Recorded:
    """An item's audio as it lies on the disk.

    Shape:
        dry `[C, T]`, wet `[C', T']`, sidechain `[S, T]` or None
    """

    dry: np.ndarray
    wet: np.ndarray
    sidechain: np.ndarray | None
    rate: int
    wet_rate: int


@dataclass(frozen=True)
class Checked:
    """What is kept of a take: for the comparison with others, and for its picture."""

    entry: Entry
    curves: Curves | None


def pair_manifest(dry: Path, wet: Path) -> Manifest:
    """Two files as a manifest of one item.

    Raises:
        UserError: one cannot be read, or both are the same.
    """
    if dry.resolve() == wet.resolve():
        raise UserError(f"{dry} is given twice; give what went in, then what came out.")
    rate = audio.info(dry).rate
    audio.info(wet)
    name = re.sub(r"[^\w.+=-]", "-", wet.stem).lstrip(".+=-") or "take"
    item = Item(name, dry, None, wet, {}, "")
    return Manifest(wet.parent / "manifest.yaml", rate, f"recorded in {wet.name}", (), (item,))


def check_items(
    manifest: Manifest, workers: int, then: Callable[[Checked], None] = lambda checked: None
) -> list[Entry]:
    """Check each item.

    Args:
        manifest: of files with markers or without, or aligned ones.
        workers: threads, each with an item in memory.
        then: called with each in turn, in this thread.

    Returns:
        In the manifest's order.
    """
    entries = []
    for checked in ahead(lambda item: check_item(manifest, item), manifest.items, workers):
        then(checked)
        entries.append(checked.entry)
    return entries


def check_item(manifest: Manifest, item: Item) -> Checked:
    """Check one; a file that cannot be read is a fault of this item alone."""
    vector = tuple(normalised_vector(manifest.controls, item.settings))
    try:
        recorded = read_item(item)
    except UserError as error:
        fault = Finding("fault", _sentence(error), "Record or export it again.")
        report = TakeReport(item.id, manifest.sample_rate, findings=(fault,))
        return Checked(Entry(report, None, vector), None)
    report = report_of(manifest, item, recorded)
    curves = make_curves(recorded.dry, recorded.wet, recorded.rate, report)
    if report.method == "none":
        return Checked(Entry(report, None, vector), curves)
    try:
        aligned = align(recorded.dry, recorded.wet, recorded.rate, report)
    except UserError:
        return Checked(Entry(report, None, vector), curves)
    sketch = make_sketch(aligned.dry, aligned.wet, report.rate)
    return Checked(Entry(report, sketch, vector), curves)


def read_item(item: Item) -> Recorded:
    """Its files.

    Raises:
        UserError: one cannot be read.
    """
    dry, rate = audio.read(item.input)
    wet, wet_rate = audio.read(item.output)
    key = None if item.sidechain is None else audio.read(item.sidechain)[0]
    return Recorded(dry, wet, key, rate, wet_rate)


def report_of(manifest: Manifest, item: Item, recorded: Recorded) -> TakeReport:
    """The check of one item, with what concerns its manifest."""
    report = check_take(
        recorded.dry, recorded.wet, recorded.rate, recorded.wet_rate, name=item.id
    )
    told = []
    if recorded.rate != manifest.sample_rate:
        what = f"The dry has {recorded.rate} Hz and the manifest states {manifest.sample_rate} Hz."
        told.append(Finding("fault", what, "Correct the manifest, or resample the files."))
    key = recorded.sidechain
    if key is not None and key.shape[1] != recorded.dry.shape[1]:
        what = f"The sidechain has {key.shape[1]} samples and the dry {recorded.dry.shape[1]}."
        told.append(Finding("fault", what, "Cut both to the same length, from the same start."))
    told += lossy(audio.info(item.output).subtype)
    if manifest.may_clip:
        report = may_clip(report)
    return replace(report, findings=(*told, *report.findings))


def ahead(work: Callable[[_In], _Out], jobs: Sequence[_In], workers: int) -> Iterator[_Out]:
    """The results in order, while some of the next are worked at in threads; no more are held."""
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="check") as pool:
        running = [pool.submit(work, job) for job in jobs[: 2 * workers]]
        try:
            for number in range(len(jobs)):
                result = running.pop(0).result()
                if number + 2 * workers < len(jobs):
                    running.append(pool.submit(work, jobs[number + 2 * workers]))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _sentence(error: UserError) -> str:
    return str(error).rstrip(".") + "."
