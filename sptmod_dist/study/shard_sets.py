"""The shards of a study: one set of whole recordings a dataset and fold, for its whole grid.

A recording that is kept whole gives the sequences of any lengths: no lookback stands there twice,
and (N, L) = (1, 4096) and (3, 32768) read the same bytes. Whoever needs a set first makes it, the
others wait; nothing is made twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.item_twins import families
from sptmod_dist.data.one_attempt import one_attempt
from sptmod_dist.data.recordings import SPLITS, Manifest
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.splits import controls_of, divide, ratios_of
from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.study.grid import Training, shards_folder
from sptmod_dist.study.study_file import Dataset, Splits, StudyFile
from sptmod_dist.train.data import needs_of

_READY = "ready.json"


def prepare_sets(study: StudyFile, first: Training, fold: int) -> None:
    """Make the sets of a dataset's fold, unless they are there.

    Args:
        first: the dataset's first training, so that the sets are the same whoever makes them.
        fold: of the dataset.

    Raises:
        UserError: the manifest is faulty, cannot be divided so, does not fit to the model, or is
            another one than that of which the sets were made.
    """
    folder = shards_folder(study, first.dataset.name, fold)
    manifest = fold_of(first.dataset, study.splits, fold)
    digest = _digest(manifest, first)
    if _is_ready(folder, digest):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with one_attempt(folder.with_name(f"{folder.name}.lock"), str(folder)):
        if _is_ready(folder, digest):
            return
        data = first.config.data
        try:
            build_sets(
                manifest,
                folder,
                needs_of(first.config),
                data.shard_megabytes * 1_000_000,
                say=lambda line: print(line, flush=True),
                sequences_per_record=0,
                sample_format=data.sample_format,
                distinct_settings=data.distinct_settings,
            )
        except ShardError:
            raise
        except UserError as error:  # so that those who wait take it over
            raise ShardError(str(error)) from None
        with atomic_write(folder / _READY) as path:
            path.write_text(json.dumps({"digest": digest}) + "\n")


def fold_of(dataset: Dataset, splits: Splits, fold: int) -> Manifest:
    """A dataset's items with their splits in a fold.

    Raises:
        UserError: the manifest is missing or faulty, or its items cannot be divided so.
    """
    if splits.kind == "files":
        path = dataset.manifest
        return Manifest.read(path.with_name(f"{path.stem}-fold{fold}{path.suffix}"))
    manifest = Manifest.read(dataset.manifest)
    if splits.kind == "given":
        return manifest
    by = controls_of(list(splits.stratify), {c.name: c for c in manifest.controls})
    together = families(manifest, splits.distinct_settings)
    places = divide(manifest.items, ratios_of(splits.ratios), splits.seed, fold, by, together)
    items = zip(manifest.items, places, strict=True)
    return replace(manifest, items=tuple(replace(item, split=split) for item, split in items))


def _is_ready(folder: Path, digest: str) -> bool:
    try:
        found = json.loads((folder / _READY).read_text())["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if found != digest:
        raise UserError(
            f"{folder} was made of other recordings, controls or splits than the study has now: "
            "give the study another folder, or remove this one and what was trained on it"
        )
    return all((folder / split / "index.json").exists() for split in SPLITS[:2])


def _digest(manifest: Manifest, training: Training) -> str:
    """Of all that the sets hold, but for what the recordings sound like."""
    items = [[i.id, i.split, i.output.name, i.settings] for i in manifest.items]
    controls = [control.to_dict() for control in manifest.controls]
    data, model = training.config.data, training.config.model
    about = [items, controls, manifest.sample_rate, data.sample_format, data.distinct_settings]
    channels = [model.input_channels, model.sidechain_channels, model.n_params]
    return hashlib.sha256(json.dumps([about, channels]).encode()).hexdigest()
