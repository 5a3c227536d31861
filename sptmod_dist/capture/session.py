"""A session's folder: what is there of each take, what is out of date, and the manifest.

    controls.yaml plan.csv sheet.html   the plan
    stimulus/stimulus-0.wav             what was played
    dry/stimulus-0.wav wet/item-000.wav the recordings, aligned and equally long
    journal.jsonl                       what was done
    checks/                             what was found
    manifest.yaml items.csv             written when every take is there
    .tmp                                takes at work; gone afterwards

It must not know of devices or checks.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sptmod_dist import audio
from sptmod_dist.capture.journal import Journal
from sptmod_dist.capture.plan import Plan, Take
from sptmod_dist.data.recordings import Item, Manifest


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A session's folder for takes at work. What a capture that was killed has left there, or half
    written beside the takes, goes first: only who holds the session's lock may call this."""
    place = folder / ".tmp"
    shutil.rmtree(place, ignore_errors=True)
    for half in (half for name in ("dry", "wet", "checks") for half in folder.glob(f"{name}/.*-*")):
        half.unlink()
    place.mkdir(exist_ok=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Session:
    """The folder of a plan.

    Args:
        folder: it is there, with the plan.
        plan: read from it.
    """

    def __init__(self, folder: str | Path, plan: Plan) -> None:
        self.folder, self.plan = Path(folder), plan
        self.dry, self.wet = self.folder / "dry", self.folder / "wet"
        self.checks = self.folder / "checks"
        self.manifest = self.folder / "manifest.yaml"
        self.journal = Journal(self.folder / "journal.jsonl")
        self._held: dict[str, str] = {}
        self._left: set[str] = set()
        self._lock = threading.Lock()

    def begin(
        self, device: str, digests: Mapping[str, str], planned: Mapping[str, str]
    ) -> list[Take]:
        """Which takes are to be recorded now: those that are missing or out of date.

        What says that all are there, the manifest, leaves when one is not.

        Args:
            device: as it describes itself.
            digests: of the takes that are asked for, by id: of all that decides what they sound
                like.
            planned: of all takes, by id: of what the plan says of them.
        """
        for folder in (self.dry, self.wet, self.checks):
            folder.mkdir(exist_ok=True)
        self._left = set()
        for take in self.plan.takes:
            entry = self.done(take)
            wanted = digests.get(take.id)
            same = entry and entry.get("planned") == planned[take.id] and entry["device"] == device
            if entry and same and wanted in (None, entry["digest"]):
                self._held[entry["dry"]] = entry["dry_digest"]
            else:
                self._left.add(take.id)
        if self._left:
            self.manifest.unlink(missing_ok=True)
        return [take for take in self.missing() if take.id in digests]

    def missing(self) -> list[Take]:
        """The takes of the plan that are not there, or out of date, since `begin`."""
        return [take for take in self.plan.takes if take.id in self._left]

    def done(self, take: Take) -> dict[str, Any] | None:
        """A take's line in the journal, if its files are there, whole."""
        entry = self.journal.get(take.id)
        if entry is None or entry.get("digest") is None:
            return None
        try:
            sizes = entry["bytes"]
            same = all((self.folder / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, KeyError, TypeError, AttributeError):
            return None
        return entry if same else None

    def store(
        self,
        take: Take,
        device: str,
        digest: str,
        planned: str,
        dry: np.ndarray,
        wet: np.ndarray,
        rate: int,
        found: Mapping[str, Any],
    ) -> None:
        """Write a take's files, and then its line.

        Args:
            take: of the plan.
            device, digest, planned: as for `begin`.
            dry, wet: aligned.
            rate: in Hz.
            found: what the check says, for `results`.

        Shape:
            dry `[C, T]`, wet `[C, T]`
        """
        if self.journal.get(take.id) is not None:
            self.journal.add({"take": take.id, "digest": None})  # from here on the file is no more
        dry_digest = hashlib.sha256(np.ascontiguousarray(dry).data).hexdigest()
        dry_file = self._store_dry(take, dry, rate, dry_digest)
        wet_file = self.wet / f"{take.id}.wav"
        audio.write_unclipped(wet_file, wet, rate)
        files = (dry_file, wet_file)
        self.journal.add(
            {
                "take": take.id,
                "device": device,
                "digest": digest,
                "planned": planned,
                "bytes": {f.relative_to(self.folder).as_posix(): f.stat().st_size for f in files},
                "dry": dry_file.name,
                "dry_digest": dry_digest,
                "found": dict(found),
            }
        )
        self._left.discard(take.id)

    def files(self, take: Take) -> tuple[Path, Path]:
        """The dry and the wet of a take that is there."""
        entry = self.journal.get(take.id)
        assert entry is not None
        return self.dry / entry["dry"], self.wet / f"{take.id}.wav"

    def results(self, takes: Iterable[Take]) -> dict[str, dict[str, Any]]:
        """What the checks found, by the take's id."""
        entries = {take.id: self.journal.get(take.id) for take in takes}
        return {name: entry["found"] for name, entry in entries.items() if entry}

    def write_manifest(self, rate: int, device: str) -> Manifest:
        """All takes as items, in a CSV, none in a split yet."""
        items = []
        for take in self.plan.takes:
            dry, wet = self.files(take)
            items.append(Item(take.id, dry, None, wet, dict(take.settings), ""))
        found = self.results(self.plan.takes).values()
        may_clip = any(each.get("clipping_at") is not None for each in found)
        controls = self.plan.controls
        Manifest(self.manifest, rate, device, controls, tuple(items), may_clip).write(
            self.manifest, items_file="items.csv"
        )
        return Manifest.read(self.manifest)

    def _store_dry(self, take: Take, dry: np.ndarray, rate: int, digest: str) -> Path:
        """The file of its stimulus, or one of its own where it was cut otherwise."""
        shared, own = f"stimulus-{take.stimulus}.wav", f"{take.id}.wav"
        with self._lock:
            name = shared if self._held.get(shared, digest) == digest else own
            if self._held.get(name) != digest:
                audio.write_unclipped(self.dry / name, dry, rate)
                self._held[name] = digest
        return self.dry / name
