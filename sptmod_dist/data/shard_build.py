"""From a manifest of recordings to sets of shards, one a split.

The new sets are complete, in a folder of their own, before the first old one is touched. This file
knows recordings and sets; of models it knows what they need of their data, in numbers.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sptmod_dist
from sptmod_dist import audio
from sptmod_dist.data.geometry import Geometry, Needs, ShardError
from sptmod_dist.data.recordings import SPLITS, Manifest, Recording, load_item
from sptmod_dist.data.recordings import Item as RecordedItem
from sptmod_dist.data.shard_file import file_sha256
from sptmod_dist.data.shard_index import INDEX_NAME, SHARD_NAME, Index, Provenance
from sptmod_dist.data.shard_writer import SetWriter
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.files import fsync_dir

SHARD_BYTES = 256_000_000
"""A good size for local disks and for streaming readers alike."""

Say = Callable[[str], object]


def build_sets(
    manifest: Manifest,
    out: str | Path,
    needs: Needs,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    say: Say = print,
) -> list[Path]:
    """Make a set of shards of each split in `out`, unless the right ones are there.

    Args:
        manifest: of the recordings.
        out: the sets become OUT/train, OUT/validation and OUT/test, for the splits that have
            items; anything else in the folder is left alone.
        needs: what the model needs.
        shard_bytes: a shard is closed before it grows larger.
        overwrite: build anew, whatever sets are there.
        say: called with each line of the account.

    Returns:
        The sets' folders.

    Raises:
        UserError: a recording is faulty or too short.
        ShardError: other sets are there, the model needs something else than the recordings have,
            or the disk does not take them. Nothing has changed then.
    """
    out = Path(out)
    geometry = needs.geometry(manifest.sample_rate, manifest.controls, str(manifest.path))
    splits = [split for split in SPLITS if manifest.of_split(split)]
    present = [split for split in SPLITS if (out / split).exists() or (out / split).is_symlink()]
    provenance = _provenance(manifest)
    if present and not overwrite:
        faults = _faults(out, splits, present, geometry, provenance)
        if faults:
            raise ShardError(
                f"{out} already holds other sets ({'; '.join(dict.fromkeys(faults))}): "
                "replace them with --overwrite, or choose another folder"
            )
        say(f"{out}: {', '.join(splits)} are up to date")
    else:
        for split in present:
            _require_own(out / split)
        for left in sorted(out.glob(".building-*")):
            say(f"{left} was left by a build that was killed{_kept(left)}: "
                "delete it, unless one is running")
        with _building(out) as folder:
            for split in splits:
                _build_set(folder / split, manifest, split, geometry, shard_bytes, provenance, say)
            _replace(out, folder, splits, present)
    return [out / split for split in splits]


def _provenance(manifest: Manifest) -> Provenance:
    folder, everything = manifest.path.parent, hashlib.sha256()
    everything.update(file_sha256(manifest.path).encode())
    items = manifest.items
    files = {path for i in items for path in (i.input, i.output, i.sidechain) if path is not None}
    for path in sorted(files):
        everything.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return Provenance(
        sptmod_dist=sptmod_dist.__version__,
        device=manifest.device,
        manifest_sha256=file_sha256(manifest.path),
        recordings_sha256=everything.hexdigest(),
    )


def _kept(left: Path) -> str:
    """A build that was killed while it changed places has the former sets in its folder."""
    old = sorted(path.name for path in left.glob("old-*"))
    return f" and holds the former sets ({', '.join(old)})" if old else ""


def _faults(
    out: Path, splits: list[str], present: list[str], geometry: Geometry, provenance: Provenance
) -> list[str]:
    """In what the sets that are there are not those that would be built."""
    faults = [f"{split} is missing" for split in splits if split not in present]
    faults += [f"the recordings have no {split} items" for split in present if split not in splits]
    for split in present:
        try:
            faults += _set_differences(ShardSet.open(out / split), split, geometry, provenance)
        except ShardError as error:
            faults.append(f"{split} cannot be used ({error})")
    return faults


def _set_differences(
    shard_set: ShardSet, split: str, geometry: Geometry, provenance: Provenance
) -> Iterator[str]:
    yield from shard_set.geometry.differences(geometry)
    if shard_set.index.split != split:
        yield f"{split} holds {shard_set.index.split}"
    if shard_set.index.provenance.recordings_sha256 != provenance.recordings_sha256:
        yield "they were made of other recordings"


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


@contextmanager
def _building(out: Path) -> Iterator[Path]:
    """A folder beside the sets to be, which is gone afterwards whatever happens."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".building-", dir=out))
    except OSError as error:
        raise ShardError(
            f"{out} cannot be made or written to ({error.strerror}): choose another folder"
        ) from None
    try:
        yield folder
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise ShardError(f"{out}: another build wrote here meanwhile: run it again") from error
        raise ShardError(
            f"{out}: the shards cannot be written ({error.strerror}): free the disk or choose "
            "another folder"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _build_set(
    folder: Path,
    manifest: Manifest,
    split: str,
    geometry: Geometry,
    shard_bytes: int,
    provenance: Provenance,
    say: Say,
) -> None:
    items = manifest.of_split(split)
    _require_length(manifest, items, geometry, say)
    _require_space(folder.parent, items, geometry)
    folder.mkdir()
    sequences_per_record = 1 if split == "train" else 0
    writer = SetWriter(folder, split, geometry, sequences_per_record, shard_bytes, "float32")
    try:
        for item in items:
            recording = load_item(manifest, item)
            _require_channels(manifest, item, recording, geometry)
            audio_of_item = (recording.input, recording.output, file_sha256(item.output))
            writer.add(item.id, item.settings, recording.vector, *audio_of_item)
        index = writer.finish(provenance)
    finally:
        writer.abandon()
    fsync_dir(folder)
    say(_account(index))


def _require_length(
    manifest: Manifest, items: tuple[RecordedItem, ...], geometry: Geometry, say: Say
) -> None:
    """Every validation and test item, and at least one train item, must hold a sequence."""
    lengths = {item.id: audio.info(item.input).frames for item in items}
    short = [name for name, samples in lengths.items() if not geometry.n_sequences(samples)]
    if short and (items[0].split != "train" or len(short) == len(items)):
        raise ShardError(
            f"{manifest.path}: {items[0].split} item '{short[0]}' has {lengths[short[0]]} samples "
            f"({lengths[short[0]] / geometry.sample_rate:.2f} s) and one sequence needs "
            f"{geometry.sequence_length} ({geometry.sequence_length / geometry.sample_rate:.2f} "
            "s): record longer, or lower the lengths or the model's lookback"
        )
    for name in short:
        say(f"train: item '{name}' is shorter than one sequence and is left out")


def _require_space(folder: Path, items: tuple[RecordedItem, ...], geometry: Geometry) -> None:
    """Say at the start that a disk is too small: the lookback can multiply a set's size by 50."""
    rows = 2 * geometry.input_channels + geometry.sidechain_channels
    samples = [audio.info(item.input).frames for item in items]
    if items[0].split == "train":
        samples = [geometry.n_sequences(count) * geometry.sequence_length for count in samples]
    needed, free = 4 * rows * sum(samples), shutil.disk_usage(folder).free
    if needed > free:
        raise ShardError(
            f"{folder.parent}: the {items[0].split} set takes {needed / 1e9:.1f} GB and "
            f"{free / 1e9:.1f} GB are free: choose another disk, or longer lengths, whose "
            "lookbacks overlap less"
        )


def _require_channels(
    manifest: Manifest, item: RecordedItem, recording: Recording, geometry: Geometry
) -> None:
    outputs = geometry.input_channels
    inputs = outputs + geometry.sidechain_channels
    found = (recording.input.shape[0], recording.output.shape[0])
    if found != (inputs, outputs):
        raise ShardError(
            f"{manifest.path}: item '{item.id}' has {found[0]} input channels, sidechain included, "
            f"and {found[1]} output channels, the model takes {inputs} and {outputs}: set the "
            "model's input_channels and sidechain_channels, or use other recordings"
        )


def _replace(out: Path, folder: Path, splits: list[str], present: list[str]) -> None:
    """Put the new sets in the place of the old ones; the old go back if that fails half-way."""
    done: list[tuple[Path, Path]] = []
    moves = [(out / split, folder / f"old-{split}") for split in present]
    moves += [(folder / split, out / split) for split in splits]
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        raise
    fsync_dir(out)


def _account(index: Index) -> str:
    """A line on what was made."""
    geometry = index.geometry
    source = sum(item.samples for item in index.items)
    stored = sum(record.samples for record in index.records)
    dropped = sum(item.dropped for item in index.items)
    size = sum(shard.bytes for shard in index.shards)
    return (
        f"{index.split}: {len(index.items)} items, {sum(i.sequences for i in index.items)} "
        f"sequences, {source / geometry.sample_rate / 3600:.3f} hours, {size / 1e6:.1f} MB "
        f"({stored / source:.2f} times the recordings), "
        f"{dropped / geometry.sample_rate:.2f} s dropped"
    )
