"""From a manifest of recordings to sets of shards, one a split.

It knows recordings, and what a model needs of its data, in numbers; how the sets are written and
stored is the matter of `shard_writer` and `shard_store`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sptmod_dist
from sptmod_dist import audio
from sptmod_dist.data.controls import normalised_vector
from sptmod_dist.data.geometry import Geometry, Needs, ShardError
from sptmod_dist.data.recordings import SPLITS, Manifest, Recording, load_item
from sptmod_dist.data.recordings import Item as RecordedItem
from sptmod_dist.data.shard_file import file_sha256
from sptmod_dist.data.shard_folders import one_builder
from sptmod_dist.data.shard_index import Provenance
from sptmod_dist.data.shard_leaks import check_leaks
from sptmod_dist.data.shard_plan import Available, Cut, plan_set
from sptmod_dist.data.shard_store import Say, store_sets
from sptmod_dist.data.shard_writer import NewSet

SHARD_BYTES = 256_000_000
"""A good size for local disks and for streaming readers alike."""


def build_sets(
    manifest: Manifest,
    out: str | Path,
    needs: Needs,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    say: Say = print,
    *,
    sequences_per_record: int = 1,
    sample_format: str = "float32",
    distinct_settings: bool = False,
    workers: int | None = None,
) -> list[Path]:
    """Make a set of shards of each split in `out`, unless the right ones are there.

    The bytes depend on the recordings and the arguments alone, not on the number of threads nor on
    how often a build was stopped and started again.

    Args:
        manifest: of the recordings.
        out: the sets become OUT/train, OUT/validation and OUT/test, for the splits that have
            items; anything else in the folder is left alone.
        needs: what the model needs.
        shard_bytes: a shard is closed before it grows larger.
        overwrite: build anew, whatever sets are there.
        say: called with each line of the account.
        sequences_per_record: of the training set; the others' records are whole items.
        sample_format: a name in `FORMATS`.
        distinct_settings: refuse a setting of the controls that stands in two splits.
        workers: threads, each with one recording in memory; None for one a core, at most 8.

    Returns:
        The sets' folders.

    Raises:
        UserError: a recording is faulty or too short.
        ShardError: other sets are there, another build is running, the model needs something else
            than the recordings have, a recording is in two splits, or the disk does not take them.
            Nothing has changed then.
    """
    _require_split(manifest)
    geometry = needs.geometry(manifest.sample_rate, manifest.controls, str(manifest.path))
    with ThreadPoolExecutor(workers) as pool:  # hashing lets go of the interpreter
        files = _files(manifest)
        states = {path: _state(path) for path in files}
        sums = dict(zip(files, pool.map(file_sha256, files), strict=True))
    provenance = _provenance(manifest, sums)
    sets = []
    for split in (split for split in SPLITS if manifest.of_split(split)):
        cut = Cut(sequences_per_record if split == "train" else 0, sample_format, shard_bytes)
        available = list(_available(manifest, split, geometry, sums))
        left_out = require_length(split, geometry, available, str(manifest.path))
        plan = plan_set(split, geometry, cut, available)
        sets.append(NewSet(plan, provenance, _reader(manifest, split, states), left_out))
    items = ((new.plan.split, item) for new in sets for item in new.plan.items)
    check_leaks(items, distinct_settings, str(manifest.path))
    with one_builder(Path(out)):
        return store_sets(Path(out), sets, overwrite, workers, say)


def require_length(
    split: str, geometry: Geometry, available: Sequence[Available], where: str
) -> tuple[str, ...]:
    """Refuse items that are too short, where none may be left out.

    Every validation and test item, and at least one train item, must hold a sequence.

    Args:
        split: of the set to be, and
        geometry: what it is for.
        available: its items.
        where: where they are from, for the message.

    Returns:
        A remark on each item that is left out.

    Raises:
        ShardError: naming an item.
    """
    rate, needed = geometry.sample_rate, geometry.sequence_length
    short = [item for item in available if item.covered < needed]
    if short and (split != "train" or len(short) == len(available)):
        name, samples = short[0].id, short[0].covered
        raise ShardError(
            f"{where}: {split} item '{name}' has {samples} samples ({samples / rate:.2f} s) and "
            f"one sequence needs {needed} ({needed / rate:.2f} s): take longer recordings, or "
            "lower the lengths or the model's lookback"
        )
    left_out = "item '{}' is shorter than one sequence and is left out"
    return tuple(f"{split}: {left_out.format(item.id)}" for item in short)


def _require_split(manifest: Manifest) -> None:
    for item in manifest.items:
        if not item.split:
            raise ShardError(
                f"{manifest.path}: item '{item.id}' is in no split: divide the items with "
                f"`sptmod-dist split {manifest.path}`, or give each a split"
            )


def _files(manifest: Manifest) -> list[Path]:
    items = manifest.items
    files = {path for i in items for path in (i.input, i.output, i.sidechain) if path is not None}
    return [manifest.path, *sorted(files)]


def _provenance(manifest: Manifest, sums: Mapping[Path, str]) -> Provenance:
    own, *others = sums
    everything = hashlib.sha256(sums[own].encode())
    for path in others:
        name = path.relative_to(manifest.path.parent).as_posix()
        everything.update(f"{name} {sums[path]}\n".encode())
    return Provenance(
        sptmod_dist=sptmod_dist.__version__,
        device=manifest.device,
        manifest_sha256=sums[own],
        recordings_sha256=everything.hexdigest(),
    )


def _available(
    manifest: Manifest, split: str, geometry: Geometry, sums: Mapping[Path, str]
) -> Iterator[Available]:
    for item in manifest.of_split(split):
        _require_channels(manifest, item, geometry)
        samples = audio.info(item.input).frames
        controls = normalised_vector(manifest.controls, item.settings)
        yield Available(item.id, item.settings, controls, samples, samples, sums[item.output])


def _require_channels(manifest: Manifest, item: RecordedItem, geometry: Geometry) -> None:
    outputs = geometry.input_channels
    inputs = outputs + geometry.sidechain_channels
    files = (item.input,) if item.sidechain is None else (item.input, item.sidechain)
    found = (sum(audio.info(path).channels for path in files), audio.info(item.output).channels)
    if found != (inputs, outputs):
        raise ShardError(
            f"{manifest.path}: item '{item.id}' has {found[0]} input channels, sidechain included, "
            f"and {found[1]} output channels, the model takes {inputs} and {outputs}: set the "
            "model's input_channels and sidechain_channels, or use other recordings"
        )


def _state(path: Path) -> tuple[int, int, int]:
    """What changes when somebody writes to a file."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _reader(
    manifest: Manifest, split: str, states: Mapping[Path, tuple[int, int, int]]
) -> Callable[[int], Recording]:
    items: Sequence[RecordedItem] = manifest.of_split(split)

    def read(number: int) -> Recording:
        item = items[number]
        recording = load_item(manifest, item)
        for path in (item.input, item.output, item.sidechain):
            if path is not None and _state(path) != states[path]:
                raise ShardError(
                    f"{path} has changed since the build began: run it again when nobody writes "
                    "to the recordings"
                )
        return recording

    return read
