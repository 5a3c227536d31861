"""A study's YAML file: base settings, a grid over them, datasets, splits and seeds.

Read strictly: what is unknown, of a wrong type or without effect is refused in one sentence. What
the settings mean is the matter of `train/options.py`, what follows from the file of `grid.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from sptmod_dist.data.documents import check_keys
from sptmod_dist.errors import UserError
from sptmod_dist.names import advice
from sptmod_dist.yaml_files import read_mapping

FORMAT = "sptmod-study-1"
MOST = 100_000
"""Trainings in a study."""
SHORT = ("N", "B", "L")
"""Keys of a grid for `lengths` (N times L) and `batch_size`."""
PUBLISHED = ("snapshot", "threshold_ratio")
"""Datasets of which tables are published."""
_NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}"
_OWN = ("name", "runs_dir", "seed", "data.train", "data.validation", "data.test")

Point = dict[str, Any]
"""A value for each key of a grid."""


@dataclass(frozen=True)
class Splits:
    """How each dataset's items are divided."""

    kind: str
    """`count`: so many folds by shuffling; `files`: so many that `sptmod-dist split` wrote;
    `given`: one, as the manifest says."""
    count: int = 1
    ratios: str = "8/4/4"
    seed: int = 0
    stratify: tuple[str, ...] = ()
    distinct_settings: bool = False


@dataclass(frozen=True)
class Dataset:
    """Recordings that the whole grid is trained on."""

    name: str
    manifest: Path
    settings: dict[str, Any]
    """Over the study's own."""
    published: str | None
    """Whose published tables stand beside ours, one of `PUBLISHED`."""


@dataclass(frozen=True)
class StudyFile:
    """What a study's file says."""

    path: Path
    name: str
    folder: Path
    files: tuple[Path, ...]
    """YAML files of settings, the first beneath the others."""
    settings: dict[str, Any]
    """Over those of the files."""
    datasets: tuple[Dataset, ...]
    splits: Splits
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    """Of the grids, in their order, without what is excluded."""
    expected_iterations: int | None
    """Of a training, for estimates; None: as many as `stopping` allows."""
    evaluate: bool
    """Measure each finished training on its test set."""

    @property
    def count(self) -> int:
        """How many trainings it has."""
        return len(self.points) * len(self.datasets) * self.splits.count * len(self.seeds)


def read_study(path: str | Path) -> StudyFile:
    """Read and check a study's file.

    Raises:
        UserError: naming the file, the key, and what to do.
    """
    path = Path(path)
    required = ("format", "name", "folder", "datasets", "splits", "grid")
    optional = ("config", "settings", "seeds", "exclude", "expected_iterations", "evaluate")
    where = str(path)
    top = check_keys(read_mapping(path), required, optional, where)
    if top["format"] != FORMAT:
        raise UserError(f"{where}: format is {brief(top['format'])}, not '{FORMAT}': correct it")
    study = StudyFile(
        path=path,
        name=_name(top["name"], f"{where}: name"),
        folder=Path(_text(top["folder"], f"{where}: folder")),
        files=tuple(Path(_text(f, f"{where}: config")) for f in _as_list(top.get("config", []))),
        settings=_settings(top.get("settings", {}), f"{where}: settings"),
        datasets=_datasets(top["datasets"], where),
        splits=_splits(top["splits"], where),
        seeds=_seeds(top.get("seeds", [0]), where),
        points=_points(top["grid"], top.get("exclude", []), where),
        expected_iterations=_whole(top.get("expected_iterations"), f"{where}: expected_iterations"),
        evaluate=_flag(top.get("evaluate", True), f"{where}: evaluate"),
    )
    if study.count > MOST:
        raise UserError(f"{where}: these are {study.count} trainings, {MOST} at most: take fewer")
    return study


def _datasets(value: Any, where: str) -> tuple[Dataset, ...]:
    if not isinstance(value, dict) or not value:
        raise UserError(
            f"{where}: datasets must be names with a manifest each, such as "
            "`datasets: {mine: {manifest: recordings/manifest.yaml}}`"
        )
    found = []
    for name, entry in value.items():
        at = f"{where}: datasets.{_name(name, f'{where}: a name in datasets')}"
        entry = check_keys(entry, ("manifest",), ("settings", "published"), at)
        published = entry.get("published")
        if published is not None and published not in PUBLISHED:
            remedy = advice(str(published), PUBLISHED)
            raise UserError(f"{at}.published is {brief(published)}: {remedy}")
        manifest = Path(_text(entry["manifest"], f"{at}.manifest"))
        settings = _settings(entry.get("settings", {}), f"{at}.settings")
        found.append(Dataset(name, manifest, settings, published))
    return tuple(found)


def _splits(value: Any, where: str) -> Splits:
    at = f"{where}: splits"
    if value == "given":
        return Splits("given")
    if type(value) is int:
        value = {"count": value}
    if isinstance(value, dict) and "files" in value:
        entry = check_keys(value, ("files",), (), at)
        return Splits("files", _number(entry["files"], 1, 1000, f"{at}.files"))
    entry = check_keys(value, ("count",), ("ratios", "seed", "stratify", "distinct_settings"), at)
    return Splits(
        "count",
        _number(entry["count"], 1, 1000, f"{at}.count"),
        _text(entry.get("ratios", "8/4/4"), f"{at}.ratios"),
        _number(entry.get("seed", 0), 0, 2**63 - 1, f"{at}.seed"),
        tuple(_text(c, f"{at}.stratify") for c in _as_list(entry.get("stratify", []))),
        _flag(entry.get("distinct_settings", False), f"{at}.distinct_settings"),
    )


def _seeds(value: Any, where: str) -> tuple[int, ...]:
    found = [_number(seed, 0, 2**63 - 1, f"{where}: seeds") for seed in _as_list(value)]
    if not found or len(set(found)) != len(found):
        raise UserError(f"{where}: seeds must be whole numbers that differ, such as [0, 1, 2]")
    return tuple(found)


def _points(grids: Any, exclude: Any, where: str) -> tuple[Point, ...]:
    grids = [_grid(grid, f"{where}: grid") for grid in _as_list(grids)]
    if not grids:
        raise UserError(f"{where}: grid is empty: give keys with lists of values, `B: [8, 16]`")
    exclude = [_exclusion(e, grids, f"{where}: exclude") for e in _as_list(exclude)]
    unused = set(range(len(exclude)))
    found: list[Point] = []
    seen: set[str] = set()
    for point in chain.from_iterable(map(_product, grids)):
        by = [n for n, some in enumerate(exclude) if _holds(point, some)]
        unused -= set(by)
        key = repr(sorted(point.items()))
        if not by and key not in seen:
            found.append(point)
            seen.add(key)
    if unused:
        raise UserError(
            f"{where}: exclude has {brief(exclude[min(unused)])}, which nothing in the grid is: "
            "correct it or leave it out"
        )
    if not found:
        raise UserError(f"{where}: the grid has no configuration that is not excluded")
    return tuple(found)


def _grid(grid: Any, at: str) -> dict[str, list[Any]]:
    if not isinstance(grid, dict):
        raise UserError(f"{at} must be keys with lists of values, such as `B: [8, 16]`")
    for key, values in grid.items():
        _check_key(key, at)
        doubled = isinstance(values, list) and any(v in values[:n] for n, v in enumerate(values))
        if not isinstance(values, list) or not values or doubled:
            raise UserError(f"{at}.{key} must be a list of values that differ, such as [8, 16]")
        if key in SHORT:
            for value in values:
                _number(value, 1, 2**40, f"{at}.{key}")
    if "lengths" in grid and ("N" in grid or "L" in grid):
        raise UserError(f"{at} has lengths beside N or L, which mean the same: leave one out")
    if "batch_size" in grid and "B" in grid:
        raise UserError(f"{at} has batch_size beside B, which is the same: leave one out")
    if math.prod(map(len, grid.values())) > MOST:
        raise UserError(f"{at} has more than {MOST} configurations: take fewer values")
    return grid


def _exclusion(entry: Any, grids: list[dict[str, list[Any]]], at: str) -> Point:
    if not isinstance(entry, dict) or not entry:
        raise UserError(f"{at} must be a list of partial choices, such as [{{B: 128, L: 32768}}]")
    known = list(dict.fromkeys(chain.from_iterable(grids)))
    for key in entry:
        if key not in known:
            raise UserError(f"{at} has {brief(key)}, no key of the grid: {advice(str(key), known)}")
    return entry


def _product(grid: Mapping[str, list[Any]]) -> list[Point]:
    points: list[Point] = [{}]
    for key, values in grid.items():
        points = [point | {key: value} for point in points for value in values]
    return points


def _holds(point: Point, some: Point) -> bool:
    return all(key in point and point[key] == value for key, value in some.items())


def _check_key(key: Any, at: str) -> None:
    text = isinstance(key, str) and re.fullmatch(r"[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*", key)
    if not text:
        raise UserError(f"{at} has the key {brief(key)}: give N, B, L or a setting's dotted key")
    if key in _OWN:
        raise UserError(f"{at}.{key} is the study's own to set: leave it out")


def _settings(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{at} must be keys with values, as in a training's YAML file")
    return value


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _name(value: Any, at: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(_NAME, value):
        raise UserError(
            f"{at} is {brief(value)}, but must be a plain name: letters, digits and . _ + -, 60 at "
            "most"
        )
    return value


def _text(value: Any, at: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise UserError(f"{at} is {brief(value)}, but must be text")
    return value


def _number(value: Any, least: int, most: int, at: str) -> int:
    if type(value) is not int or not least <= value <= most:
        whole = f"a whole number from {least} to {most}"
        raise UserError(f"{at} is {brief(value)}, but must be {whole}")
    return value


def _whole(value: Any, at: str) -> int | None:
    return None if value is None else _number(value, 1, 10**9, at)


def _flag(value: Any, at: str) -> bool:
    if type(value) is not bool:
        raise UserError(f"{at} is {brief(value)}, but must be true or false")
    return value
