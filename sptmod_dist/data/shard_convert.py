"""From sets of shards to sets for another model, without the recordings.

Whole items give all that the recordings would. Sequences lack the end of each recording, which
filled none: what of the new sets is missing for that is said. It knows sets, and what a model needs
of its data, in numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import sptmod_dist
from sptmod_dist.data.geometry import Geometry, Needs, ShardError
from sptmod_dist.data.recordings import SPLITS, Recording
from sptmod_dist.data.shard_build import require_length
from sptmod_dist.data.shard_folders import finish_moves, one_builder
from sptmod_dist.data.shard_index import INDEX_NAME
from sptmod_dist.data.shard_leaks import check_leaks
from sptmod_dist.data.shard_plan import Available, Cut, SetPlan, plan_set
from sptmod_dist.data.shard_store import Say, store_sets
from sptmod_dist.data.shard_writer import NewSet
from sptmod_dist.data.shards import ShardSet


def convert_sets(
    sets: str | Path,
    out: str | Path,
    needs: Needs,
    cut: Cut,
    distinct_settings: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    say: Say = print,
) -> list[Path]:
    """Make the sets that a model needs out of the sets that another needed.

    Args:
        sets: holds train, validation and test, or some of them.
        out: the new sets go there; it may be `sets` itself.
        needs: what the model needs.
        cut: of the training set; the others' records are whole items.
        distinct_settings: as in `build_sets`; so are
        overwrite,
        workers, and
        say.

    Returns:
        The sets' folders.

    Raises:
        ShardError: as `build_sets`; or the sets cannot be read, are for other channels or controls,
            or do not hold a sequence for the model.
    """
    sets, out = Path(sets), Path(out)
    if sets.is_dir() and out.is_dir() and sets.samefile(out):
        with one_builder(out):  # or another could replace what is read, or bring more to replace
            new = _new_sets(sets, needs, cut, distinct_settings)
            return store_sets(out, new, overwrite, workers, say)
    finish_moves(sets)
    new = _new_sets(sets, needs, cut, distinct_settings)
    with one_builder(out):
        return store_sets(out, new, overwrite, workers, say)


def _new_sets(sets: Path, needs: Needs, cut: Cut, distinct_settings: bool) -> list[NewSet]:
    splits = [split for split in SPLITS if (sets / split / INDEX_NAME).exists()]
    if not splits:
        raise ShardError(
            f"{sets} holds no sets (looked for {', '.join(f'{s}/{INDEX_NAME}' for s in SPLITS)}): "
            "name the folder that `sptmod-dist shards build` was given as --out"
        )
    whole = replace(cut, sequences_per_record=0)
    new_sets = []
    for split in splits:
        old = ShardSet.open(sets / split)
        old.require_split(split, f"{split} in {sets}")
        new_sets.append(_new_set(old, needs, cut if split == "train" else whole))
    items = ((new.plan.split, item) for new in new_sets for item in new.plan.items)
    check_leaks(items, distinct_settings, str(sets))
    return new_sets


def _new_set(old: ShardSet, needs: Needs, cut: Cut) -> NewSet:
    geometry, split = _geometry(old, needs), old.index.split
    available = [
        Available(i.id, i.settings, i.controls, i.samples, old.covered(n), i.sha256)
        for n, i in enumerate(old.items)
    ]
    remarks = require_length(split, geometry, available, old.place)
    plan = plan_set(split, geometry, cut, available)
    version, fingerprint = sptmod_dist.__version__, old.fingerprint
    provenance = replace(old.index.provenance, sptmod_dist=version, converted_from=fingerprint)
    return NewSet(plan, provenance, _reader(old), (*remarks, *_losses(old, plan)))


def _geometry(old: ShardSet, needs: Needs) -> Geometry:
    has = old.geometry
    new = needs.geometry(has.sample_rate, has.controls, old.place)
    wanted = (new.input_channels, new.sidechain_channels)
    if (has.input_channels, has.sidechain_channels) != wanted:
        raise ShardError(
            f"{old.place} has {has.input_channels} channels and {has.sidechain_channels} of a "
            f"sidechain, the model takes {wanted[0]} and {wanted[1]}: set the model's "
            "input_channels and sidechain_channels, or build from other recordings"
        )
    return new


def _losses(old: ShardSet, plan: SetPlan) -> Iterator[str]:
    """What the recordings would give and the old set does not."""
    rate, split = plan.geometry.sample_rate, plan.split
    samples = sum(item.dropped for item in old.items)
    possible = sum(plan.geometry.n_sequences(item.samples) for item in old.items)
    sequences = possible - sum(item.sequences for item in plan.items)
    if sequences:
        yield (
            f"{split}: {old.place} lacks {samples} samples ({samples / rate:.2f} s) at the ends of "
            f"the recordings, with which it would give more sequences: {sequences}"
        )
    if old.index.sample_format != "float32":
        yield (
            f"{split}: {old.place} keeps samples as {old.index.sample_format}, and the new set "
            "cannot be more exact"
        )


def _reader(old: ShardSet) -> Callable[[int], Recording]:
    def read(number: int) -> Recording:
        outputs, samples = old.geometry.input_channels, old.covered(number)
        inputs = outputs + old.geometry.sidechain_channels
        audio_in = np.empty((inputs, samples), np.float32)
        audio_out = np.empty((outputs, samples), np.float32)
        old.item_into(number, audio_in, audio_out)
        return Recording(audio_in, audio_out, old.items[number].controls)

    return read
