"""Writing the shards of planned sets: by several threads, each a whole shard at a time.

It writes into folders that are not yet in use and knows nothing of manifests or of what was there
before. A shard that is complete has a *note* beside the sets, with what the index will say of it:
who finds the note and the bytes that it tells of need not write the shard again. The format is
described in shards/README.md.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from tqdm import tqdm

from sptmod_dist.data.checksums import crc32_of, crc32s
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.recordings import Recording
from sptmod_dist.data.shard_file import ShardFile, file_sha256, tar_places
from sptmod_dist.data.shard_index import (
    FIELDS,
    INDEX_NAME,
    Index,
    Member,
    Provenance,
    Record,
    Shard,
    member_name,
    record_json,
    write_index,
)
from sptmod_dist.data.shard_plan import PlannedRecord, SetPlan
from sptmod_dist.files import fsync_dir


class Note(NamedTuple):
    """What the index will say of a shard: the shard, and each record's members."""

    shard: Shard
    members: list[list[Member]]


@dataclass(frozen=True)
class NewSet:
    """A set to be: its plan, what it is made of, and how an item's audio is had by its number."""

    plan: SetPlan
    provenance: Provenance
    read: Callable[[int], Recording]
    """Called by several threads at once; as much of the recording as can be had, from its start."""
    remarks: tuple[str, ...] = ()
    """What is lost on the way from the recordings to the set, in sentences."""


def write_sets(sets: Sequence[NewSet], folder: Path, workers: int = 1) -> list[Index]:
    """Write sets, each into the folder of its split's name, and their indexes.

    A thread holds one recording at a time, of whatever set, and one member as bytes.

    Args:
        sets: of different splits.
        folder: exists; what an earlier call of the same sets left in it is taken.
        workers: threads.

    Raises:
        ShardError: the sample format cannot hold a recording, or one is not as long as planned.
        UserError: a recording is faulty, or whatever else the sets' readers refuse.
        OSError: the disk does not take it.
    """
    notes = folder / "notes"
    jobs: list[_Job] = []
    mine = threading.local()
    for new in sets:
        for path in (notes / new.plan.split, folder / new.plan.split):
            path.mkdir(parents=True, exist_ok=True)
        read = _Shared(new.read, len(new.plan.items), mine)
        of_set = [_Job(new.plan, n, folder, notes, read) for n in range(len(new.plan.shards))]
        _sweep(folder / new.plan.split, {job.path.name for job in of_set})
        jobs += of_set
    written = iter(_write_all(jobs, workers))
    indexes = []
    for new in sets:
        index = _index(new, [next(written) for _ in new.plan.shards])
        write_index(folder / new.plan.split / INDEX_NAME, index)
        fsync_dir(folder / new.plan.split)
        indexes.append(index)
    return indexes


def _sweep(folder: Path, shards: set[str]) -> None:
    """Remove what a process that was killed had begun: the set shall hold nothing else."""
    for path in folder.iterdir():
        if path.name not in shards:
            path.unlink()


def _index(new: NewSet, notes: list[Note]) -> Index:
    plan = new.plan
    members = (of_record for note in notes for of_record in note.members)
    records = [
        Record(record.key, shard, *record[1:], *next(members)) for shard, record in plan.records
    ]
    return Index(
        split=plan.split,
        kind=plan.kind,
        sequences_per_record=plan.cut.sequences_per_record,
        sample_format=plan.format.name,
        block=plan.block,
        geometry=plan.geometry,
        shards=[note.shard for note in notes],
        items=plan.items,
        records=records,
        provenance=new.provenance,
    )


class _Shared:
    """Recordings that are read once while threads work on them, and no longer held than that.

    Args:
        mine: where a thread holds the last one that it asked for, of whatever set.
    """

    def __init__(
        self, read: Callable[[int], Recording], count: int, mine: threading.local
    ) -> None:
        self._read = read
        self._locks = [threading.Lock() for _ in range(count)]
        self._held: WeakValueDictionary[int, Recording] = WeakValueDictionary()
        self._mine = mine

    def __call__(self, number: int) -> Recording:
        with self._locks[number]:
            recording = self._held.get(number)
            self._mine.recording = recording  # lets the former one go before another is read
            if recording is None:
                recording = self._mine.recording = self._held[number] = self._read(number)
            return recording


class _Stopped(Exception):
    """Another shard failed, or the user wants no more."""


class _Job(NamedTuple):
    """One shard to write."""

    plan: SetPlan
    number: int
    folder: Path
    notes: Path
    read: Callable[[int], Recording]

    @property
    def path(self) -> Path:
        return self.folder / self.plan.split / f"shard-{self.number:05d}.tar"

    @property
    def note_path(self) -> Path:
        return self.notes / self.plan.split / f"shard-{self.number:05d}.json"

    def run(self, stop: threading.Event) -> Note:
        """Write the shard and its note, or find them."""
        note = _found(self.note_path, self.path)
        if note is None:
            note = self._write(stop)
            self.note_path.write_text(json.dumps(note))  # half of one is as good as none
        return note

    def _write(self, stop: threading.Event) -> Note:
        part = self.path.with_suffix(".part")
        file = ShardFile(part)
        try:
            sums = [self._add(file, record, stop) for record in self.plan.shards[self.number]]
            shard = file.close()._replace(name=self.path.name)
            os.replace(part, self.path)
        except BaseException:
            with suppress(OSError):  # a full disk does not take what is buffered either
                file.abandon()
            part.unlink(missing_ok=True)
            raise
        return Note(shard, list(self._members(sums)))

    def _members(self, sums: list[list[str]]) -> Iterator[list[Member]]:
        """Of each record, where a reader of tar files finds them."""
        places, suffix = tar_places(self.path), self.plan.format.suffix
        for record, of_record in zip(self.plan.shards[self.number], sums, strict=True):
            names = [member_name(record.key, field, suffix) for field in FIELDS]
            pairs = zip(names, of_record, strict=True)
            yield [Member(*places[name], crc32s) for name, crc32s in pairs]

    def _add(self, file: ShardFile, record: PlannedRecord, stop: threading.Event) -> list[str]:
        if stop.is_set():
            raise _Stopped
        recording = self.read(record.item)
        about = record_json(self.plan.items[record.item], record.start, record.samples)
        sums = [
            self._add_audio(file, record, "input", recording.input),
            self._add_audio(file, record, "output", recording.output),
            crc32_of(about),
        ]
        file.add(member_name(record.key, "json", ""), about)
        return sums

    def _add_audio(
        self, file: ShardFile, record: PlannedRecord, field: str, whole: np.ndarray
    ) -> str:
        stored, item = self.plan.stored(record, field), self.plan.items[record.item]
        audio = whole[:, record.start : record.start + record.samples]
        if audio.shape != (stored.rows, stored.samples):
            raise ShardError(
                f"the recording of item '{item.id}' has changed since the build began: "
                "run it again when nobody writes to the recordings"
            )
        try:
            data = stored.format.encode(audio, self.plan.geometry.sample_rate)
        except ValueError as error:
            raise ShardError(
                f"the {field} of item '{item.id}' cannot be stored as {stored.format.name} "
                f"({error}): build with data.sample_format float32"
            ) from None
        file.add(member_name(record.key, field, stored.format.suffix), data)
        return crc32s(data, stored)


def _found(note_path: Path, path: Path) -> Note | None:
    """What an earlier build noted of a shard, where the shard is as it left it."""
    try:
        shard, members = json.loads(note_path.read_bytes())
        note = Note(Shard(*shard), [[Member(*m) for m in record] for record in members])
        return note if file_sha256(path) == note.shard.sha256 else None
    except (OSError, ValueError, TypeError):
        return None


def _write_all(jobs: Sequence[_Job], workers: int) -> list[Note]:
    """The notes in the jobs' order. The first failure stops all, and is raised."""
    stop = threading.Event()
    total = sum(job.plan.bytes_of(job.number) for job in jobs)
    pool = ThreadPoolExecutor(workers, "shards")
    # Without a terminal there is nobody to watch, and logs are spared.
    with tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=None) as progress:
        try:
            futures = {pool.submit(job.run, stop): job for job in jobs}
            for future in as_completed(futures):
                future.result()  # or its failure
                job = futures[future]
                progress.update(job.plan.bytes_of(job.number))
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    return [future.result() for future in futures]
