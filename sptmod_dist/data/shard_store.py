"""Putting new sets where they belong: not if they are there, and never over others unasked.

Wherever the sets' audio comes from, this is how they are made. The new sets are complete, in a
folder of their own, before the first old one is touched.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.recordings import SPLITS
from sptmod_dist.data.shard_account import account, advice
from sptmod_dist.data.shard_folders import building, in_words, leftovers, replace
from sptmod_dist.data.shard_index import FORMAT, INDEX_NAME, SHARD_NAME, Index
from sptmod_dist.data.shard_writer import NewSet, write_sets
from sptmod_dist.data.shards import ShardSet

Say = Callable[[str], object]

_MOST_THREADS = 8  # unless more are asked for


def store_sets(
    out: Path, sets: Sequence[NewSet], overwrite: bool, workers: int | None, say: Say
) -> list[Path]:
    """Make the sets in `out`, unless they are there. Whoever calls it is `one_builder` there.

    A process that is interrupted or killed leaves the shards that it finished; another that is
    given the same sets goes on from there.

    Args:
        out: the sets become OUT/train, OUT/validation and OUT/test; anything else in the folder is
            left alone.
        sets: one a split.
        overwrite: make them anew, whatever sets are there.
        workers: threads, each with one recording in memory; None for one a core, at most 8.
        say: called with each line of the account.

    Returns:
        The sets' folders.

    Raises:
        ShardError: other sets are there, the disk does not take them, or what `sets` read cannot be
            stored. What was there is as it was then.
        UserError: a recording is faulty.
    """
    splits = [new.plan.split for new in sets]
    present = [s for s in SPLITS if (out / s).exists() or (out / s).is_symlink()]
    if present and not overwrite:
        _require_equal(out, sets, present)
        say(f"{out}: {', '.join(splits)} are up to date")
    else:
        for split in present:
            _require_own(out / split)
        _make(out, sets, present, workers or _cores(), say)
    return [out / split for split in splits]


def _make(out: Path, sets: Sequence[NewSet], present: list[str], workers: int, say: Say) -> None:
    digest = _digest(sets)
    for left in leftovers(out, digest):
        say(f"{left} was left by a build of something else that was stopped: delete it, or start "
            "that build again to go on with it")
    for remark in (remark for new in sets for remark in new.remarks):
        say(remark)
    with building(out, digest) as folder:
        made, shards = sorted(folder.glob("notes/*/*.json")), sum(len(n.plan.shards) for n in sets)
        if made:
            say(f"{out}: going on with a build that was stopped after {len(made)} of {shards} "
                "shards")
        _require_space(out, folder, sets)
        try:
            indexes = write_sets(sets, folder, workers)
        except (KeyboardInterrupt, SystemExit):
            say(f"{folder} keeps the shards that are done: the same command goes on with them")
            raise
        replace(out, folder, [new.plan.split for new in sets], present)
    for index in indexes:
        say(account(index))
    for index in indexes:
        if index.split == "train":
            say(f"train: {advice(index)}")


def _cores() -> int:
    """Those that this process may use, where the system tells; each thread holds a recording."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def _digest(sets: Sequence[NewSet]) -> str:
    """Of all that the bytes depend on."""
    everything = [
        (new.plan.split, new.plan.geometry.in_words(), new.plan.cut, new.plan.items, new.provenance)
        for new in sets
    ]
    return hashlib.sha256(repr((FORMAT, everything)).encode()).hexdigest()[:16]


def _require_equal(out: Path, sets: Sequence[NewSet], present: list[str]) -> None:
    faults = list(dict.fromkeys(_faults(out, sets, present)))
    if faults:
        raise ShardError(
            f"{out} already holds other sets ({'; '.join(faults)}): replace them with "
            "--overwrite, or choose another folder"
        )


def _faults(out: Path, sets: Sequence[NewSet], present: list[str]) -> Iterator[str]:
    """In what the sets that are there are not those that would be made."""
    new_sets = {new.plan.split: new for new in sets}
    yield from (f"{split} is missing" for split in new_sets if split not in present)
    for split in present:
        if split not in new_sets:
            yield f"there are no {split} items now"
            continue
        try:
            yield from _differences(ShardSet.open(out / split).index, new_sets[split])
        except ShardError as error:
            yield f"{split} cannot be used ({error})"


def _differences(index: Index, new: NewSet) -> Iterator[str]:
    plan, split = new.plan, new.plan.split
    yield from index.geometry.differences(plan.geometry)
    if index.split != split:
        yield f"{split} holds {index.split}"
    if index.provenance.recordings_sha256 != new.provenance.recordings_sha256:
        yield "they were made of other recordings"
    if index.provenance.converted_from != new.provenance.converted_from:
        yield "they were not made in the same way, of recordings or of other sets"
    cut = plan.cut
    if index.sequences_per_record != cut.sequences_per_record:
        yield (f"{split} has {index.sequences_per_record} sequences a record instead of "
               f"{cut.sequences_per_record}")
    elif [(r.shard, r.key) for r in index.records] != [(n, r.key) for n, r in plan.records]:
        yield f"{split} has shards of another size"
    if index.sample_format != cut.sample_format:
        yield f"{split} is kept as {index.sample_format} instead of {cut.sample_format}"


def _require_own(folder: Path) -> None:
    """Refuse to replace anything that is not a set, or that holds something else besides."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    strange = sorted(name for name in names - {INDEX_NAME} if not SHARD_NAME.fullmatch(name))
    if folder.is_symlink() or INDEX_NAME not in names or strange:
        what = f"holds {strange[0]}, which is no part of one" if strange else "is none"
        raise ShardError(
            f"{folder} stands where a set of shards would be and {what}: move it away or choose "
            "another folder"
        )


def _require_space(out: Path, folder: Path, sets: Sequence[NewSet]) -> None:
    """Say at the start that a disk is too small: the lookback can multiply a set's size by 50.

    What FLAC takes is not known before.
    """
    with in_words(out):
        free = shutil.disk_usage(out).free
    needed = sum(new.plan.bytes for new in sets if new.plan.format.width)
    needed -= sum(path.stat().st_size for path in folder.glob("*/shard-*.tar"))
    if needed > free:
        raise ShardError(
            f"{out}: the sets take {needed / 1e9:.1f} GB more and {free / 1e9:.1f} GB are free: "
            "choose another disk, or a larger data.sequences_per_record, with which lookbacks "
            "are shared"
        )
