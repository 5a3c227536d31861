"""Aligned copies of checked recordings, with a manifest of their own; originals are not touched."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sptmod_dist import audio
from sptmod_dist.data.recordings import Item, Manifest
from sptmod_dist.errors import UserError
from sptmod_dist.quality.align import align
from sptmod_dist.quality.checking import Recorded, ahead, read_item, report_of
from sptmod_dist.quality.take_report import TakeReport


@dataclass(frozen=True)
class Fixed:
    """An item's aligned audio.

    Shape:
        dry `[C, n]`, wet `[C, n]`, sidechain `[S, n]` or None
    """

    item: Item
    dry: np.ndarray
    wet: np.ndarray
    sidechain: np.ndarray | None


def require_free(folder: Path) -> None:
    """Refuse a folder that holds anything, before the work begins.

    Raises:
        UserError: it is there and not empty, or it cannot be made.
    """
    if not folder.parent.is_dir():
        raise UserError(f"{folder.parent} is not a folder; create it first.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; choose a folder that is new or empty.")


def fix(
    manifest: Manifest,
    folder: Path,
    fraction: bool,
    polarity: bool,
    workers: int,
    say: Callable[[str], None] = print,
) -> int:
    """Write what can be used into a new folder; takes with faults that no copy mends are left out.

    Args:
        manifest: of the originals.
        folder: new or empty; nothing is left there when this fails.
        fraction: whether to remove parts of a sample too.
        polarity: whether to turn over what is turned.
        workers: threads, each with an item in memory.
        say: called with each line.

    Returns:
        How many takes were left out.

    Raises:
        UserError: the folder is not empty, or no take can be used.
    """
    require_free(folder)
    new = not folder.exists()
    for name in ("dry", "wet"):
        (folder / name).mkdir(parents=True)
    try:
        return _fill(manifest, folder, fraction, polarity, workers, say)
    except BaseException:
        for name in ("dry", "wet"):
            shutil.rmtree(folder / name)
        if new:
            folder.rmdir()
        raise


def _fill(
    manifest: Manifest,
    folder: Path,
    fraction: bool,
    polarity: bool,
    workers: int,
    say: Callable[[str], None],
) -> int:
    files = _Files(folder)

    def work(item: Item) -> Fixed | None:
        return _fixed(manifest, item, fraction, polarity)

    made = []
    for item, fixed in zip(manifest.items, ahead(work, manifest.items, workers), strict=True):
        if fixed is None:
            say(f"{item.id} is left out: it is unfit.")
        else:
            made.append(files.store(fixed, manifest.sample_rate))
    if not made:
        raise UserError(f"no take can be used, so nothing is written to {folder}.")
    copy = replace(manifest, path=folder / "manifest.yaml", items=tuple(made), divided_from=None)
    copy.write(copy.path, items_file="items.csv")
    say(f"Wrote {copy.path}: {len(made)} items, aligned.")
    return len(manifest.items) - len(made)


def _fixed(manifest: Manifest, item: Item, fraction: bool, polarity: bool) -> Fixed | None:
    """The aligned item; None where it is unfit even with its sides exchanged back."""
    try:
        recorded = read_item(item)
    except UserError:
        return None
    report = report_of(manifest, item, recorded)
    if report.verdict == "unfit" and report.wet_channels == (1, 0):
        recorded = replace(recorded, wet=recorded.wet[::-1])
        report = report_of(manifest, item, recorded)
    if report.verdict == "unfit":
        return None
    return _aligned(item, recorded, report, fraction, polarity)


def _aligned(
    item: Item, recorded: Recorded, report: TakeReport, fraction: bool, polarity: bool
) -> Fixed:
    """A sidechain is cut with the dry, as further channels of it."""
    dry, key = recorded.dry, recorded.sidechain
    channels = report.dry_channels
    if key is not None:
        channels += tuple(range(len(dry), len(dry) + len(key)))
        dry = np.concatenate([dry, key])
    made = align(
        dry, recorded.wet, recorded.rate, replace(report, dry_channels=channels), fraction, polarity
    )
    count = len(report.dry_channels)
    return Fixed(item, made.dry[:count], made.wet, None if key is None else made.dry[count:])


class _Files:
    """Writes the copies: of equal inputs, one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._inputs: dict[str, Path] = {}

    def store(self, fixed: Fixed, rate: int) -> Item:
        """Write an item's files; the item that names them."""
        output = self.folder / "wet" / f"{fixed.item.id}.wav"
        audio.write_unclipped(output, fixed.wet, rate)
        key = None
        if fixed.sidechain is not None and fixed.item.sidechain is not None:
            key = self._input(fixed.item.sidechain, fixed.item.id, fixed.sidechain, rate)
        dry = self._input(fixed.item.input, fixed.item.id, fixed.dry, rate)
        return replace(fixed.item, input=dry, sidechain=key, output=output)

    def _input(self, source: Path, name: str, samples: np.ndarray, rate: int) -> Path:
        digest = hashlib.sha256(repr(samples.shape).encode() + samples.tobytes()).hexdigest()
        if digest not in self._inputs:
            path = self.folder / "dry" / f"{source.stem}.wav"
            taken = set(self._inputs.values())
            number = 0
            while path in taken:  # the same source, cut otherwise, or another of this name
                path = path.with_name(f"{source.stem}-{name}{f'-{number}' if number else ''}.wav")
                number += 1
            audio.write_unclipped(path, samples, rate)
            self._inputs[digest] = path
        return self._inputs[digest]
