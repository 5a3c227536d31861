"""From a study's file to its trainings: each with a readable id, its settings and its folder.

A training's id is a pure function of its values, so trainings that are added to a file later leave
those that are done as they are. It reads the files of settings and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sptmod_dist import settings
from sptmod_dist.errors import UserError
from sptmod_dist.study.study_file import SHORT, Dataset, Point, StudyFile
from sptmod_dist.train.config import TrainConfig
from sptmod_dist.train.options import load_config

_LONGEST = 150


@dataclass(frozen=True)
class Training:
    """One training of a study."""

    id: str
    """Readable, unique, and the name of its run."""
    configuration: str
    """The id without fold and seed: trainings of one configuration are summed up together."""
    dataset: Dataset
    point: Point
    """What the grid says of it."""
    fold: int
    seed: int
    config: TrainConfig

    @property
    def values(self) -> dict[str, Any]:
        """What tells it from the others: dataset, N, B, L, other keys of the grid, fold, seed."""
        others = {key: value for key, value in self.point.items() if key not in SHORT}
        lengths = self.config.lengths
        own = {"N": len(lengths), "B": self.config.batch_size, "L": lengths[0]}
        return {"dataset": self.dataset.name, **own, **others, "fold": self.fold, "seed": self.seed}


def shards_folder(study: StudyFile, dataset: str, fold: int) -> Path:
    """Where the sets of a fold are, which serve its whole grid."""
    return study.folder / "shards" / f"{dataset}-fold{fold}"


def trainings_of(study: StudyFile) -> list[Training]:
    """Every training of a study, in the order of its file.

    Raises:
        UserError: settings with which no training could start, naming the configuration; or two
            configurations that are the same.
    """
    found: dict[str, Training] = {}
    for training in _each(study):
        other = found.setdefault(training.id, training)
        if other is not training:
            raise UserError(
                f"{study.path}: {training.id} stands in the grid twice: leave one of them out"
            )
    return list(found.values())


def _each(study: StudyFile) -> Iterator[Training]:
    for dataset in study.datasets:
        over = settings.merge(study.settings, dataset.settings)
        base = load_config(study.files, over, complete=False)
        for point in study.points:
            name = f"{dataset.name}-{_parts(point)}" if point else dataset.name
            try:
                config = load_config(study.files, _with(over, point, base), complete=False)
                config = _placed(study, config, dataset.name, 0, name, 0)
                config.check()
            except UserError as error:
                raise UserError(f"{study.path}: {name}: {error}") from None
            for fold in range(study.splits.count):
                for seed in study.seeds:
                    full = f"{name}-fold{fold}-seed{seed}"
                    own = _placed(study, config, dataset.name, fold, full, seed)
                    yield Training(full, name, dataset, point, fold, seed, own)


def _placed(
    study: StudyFile, config: TrainConfig, dataset: str, fold: int, name: str, seed: int
) -> TrainConfig:
    folder = shards_folder(study, dataset, fold)
    train, validation, test = (str(folder / split) for split in ("train", "validation", "test"))
    data = replace(config.data, train=train, validation=validation, test=test)
    runs = str(study.folder / "runs")
    return replace(config, name=name, runs_dir=runs, seed=seed, data=data)


def _with(over: Mapping[str, Any], point: Point, base: TrainConfig) -> dict[str, Any]:
    """A grid's values over the settings."""
    merged = dict(over)
    n, length = point.get("N", len(base.lengths)), point.get("L", base.lengths[0])
    if "N" in point or "L" in point:
        merged = settings.merge(merged, {"lengths": [length] * n})
    if "B" in point:
        merged = settings.merge(merged, {"batch_size": point["B"]})
    for key, value in point.items():
        if key not in SHORT:
            nested: Any = value
            for name in reversed(key.split(".")):
                nested = {name: nested}
            merged = settings.merge(merged, nested)
    return merged


def _parts(point: Point) -> str:
    """A point in a folder's name; where letters are lost or too many, a digest tells it apart."""
    keys = [key for key in SHORT if key in point] + sorted(point.keys() - set(SHORT))
    whole = "-".join(
        f"{key}{point[key]}" if key in SHORT else f"{key}={_shown(point[key])}" for key in keys
    )
    name = re.sub(r"[^A-Za-z0-9._+=-]", "_", whole)
    if name == whole and len(name) <= _LONGEST:
        return name
    plain = json.dumps(point, sort_keys=True)
    return f"{name[: _LONGEST - 9]}~{hashlib.blake2b(plain.encode(), digest_size=4).hexdigest()}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
