"""Dividing a manifest's items into train, validation and test, several times over.

By item, never within one: what was learned is not measured on. Source: DAFx25, section on data: ten
splits of the items, shuffled by seed. It must not know of shards or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sptmod_dist.data.controls import Control, shown
from sptmod_dist.data.recordings import SPLITS, Item, Manifest
from sptmod_dist.data.shard_file import file_sha256
from sptmod_dist.errors import UserError
from sptmod_dist.names import advice

_LAYERS = 4  # of a continuous control's range, each divided in proportion


def counts(ratios: Sequence[float], items: int) -> list[int]:
    """How many items each split gets: the ratios themselves where they add up, else in proportion
    (the largest remainders are rounded up).

    Raises:
        UserError: a split would get none.
    """
    whole = all(float(ratio).is_integer() for ratio in ratios)
    if whole and sum(ratios) == items:
        found = [int(ratio) for ratio in ratios]
    else:
        found = _apportioned([ratio * items / sum(ratios) for ratio in ratios])
    for split, ratio, count in zip(SPLITS, ratios, found, strict=True):
        if ratio > 0 and count == 0:
            raise UserError(
                f"of {items} items none is left for {split} at these ratios; give other ratios, or "
                "record more items"
            )
    return found


def divide(
    items: Sequence[Item], ratios: Sequence[float], seed: int, fold: int, by: Sequence[Control] = ()
) -> list[str]:
    """Each item's split in one fold, a function of seed and fold.

    Args:
        items: all of a manifest.
        ratios: of train, validation and test.
        by: controls of which each split shall have its share: of every position, and of every
            quarter of a range.

    Raises:
        UserError: as `counts`.
    """
    draw = np.random.default_rng([seed, fold])
    order = draw.permutation(len(items))
    layers = {n: tuple(_layer(control, items[n]) for control in by) for n in range(len(items))}
    order = np.array(sorted(order, key=lambda n: layers[int(n)]))  # stable: shuffled within layers
    return _dealt(order, counts(ratios, len(items)))


def _dealt(order: np.ndarray, wanted: Sequence[int]) -> list[str]:
    """Deal items along the order, always to the split that is furthest behind its share."""
    splits, given = [""] * len(order), [0] * len(wanted)
    for step, number in enumerate(order, 1):
        behind = [w * step / len(order) - g if g < w else -np.inf
                  for w, g in zip(wanted, given, strict=True)]
        best = int(np.argmax(behind))
        splits[int(number)], given[best] = SPLITS[best], given[best] + 1
    return splits


def _layer(control: Control, item: Item) -> float:
    place = control.normalise(item.settings[control.name])
    return place if control.positions else float(min(int(place * _LAYERS), _LAYERS - 1))


def _apportioned(shares: Sequence[float]) -> list[int]:
    found = [int(share) for share in shares]
    rest = sorted(range(len(shares)), key=lambda k: found[k] - shares[k])
    for k in rest[: round(sum(shares)) - sum(found)]:
        found[k] += 1
    return found


def write_folds(
    manifest: Manifest,
    folds: int,
    ratios: Sequence[float],
    seed: int,
    by: Sequence[Control] = (),
    overwrite: bool = False,
) -> list[tuple[Path, dict[str, int]]]:
    """Write a manifest for each fold beside the one that is divided.

    Returns:
        Each file, and how many items its splits have.

    Raises:
        UserError: files are there already, the ratios do not fit, or the same recording is in two
            items, which would stand on two sides.
    """
    paths = [manifest.path.with_name(f"{manifest.path.stem}-fold{n}.yaml") for n in range(folds)]
    for path in paths:
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists already; add --overwrite to replace the folds.")
    _refuse_doubles(manifest.items)
    divided = [divide(manifest.items, ratios, seed, fold, by) for fold in range(folds)]
    found = []
    for path, splits in zip(paths, divided, strict=True):
        items = tuple(replace(i, split=s) for i, s in zip(manifest.items, splits, strict=True))
        replace(manifest, items=items).write(path)
        found.append((path, {split: splits.count(split) for split in SPLITS}))
    return found


def _refuse_doubles(items: Iterable[Item]) -> None:
    seen: dict[str, Item] = {}
    for item in items:
        twin = seen.setdefault(file_sha256(item.output), item)
        if twin is not item:
            raise UserError(
                f"items '{twin.id}' and '{item.id}' hold the same recording ({twin.output.name} "
                f"and {item.output.name}); leave one of them out, or record it anew."
            )


def doubts(manifest: Manifest, splits: Sequence[str]) -> Iterator[str]:
    """What two splits of a fold share besides recordings: no leak by itself, and good to know."""
    for what, key in (("setting of the controls", _setting), ("input and setting", _input)):
        where: dict[object, set[str]] = {}
        for item, split in zip(manifest.items, splits, strict=True):
            where.setdefault(key(item), set()).add(split)
        shared = sum(len(found) > 1 for found in where.values())
        if shared and (manifest.controls or key is _input):
            yield f"the same {what} is in two splits, {shared} times"


def _setting(item: Item) -> object:
    return tuple(sorted((name, shown(value)) for name, value in item.settings.items()))


def _input(item: Item) -> object:
    return item.input.resolve(), _setting(item)


def ratios_of(text: str) -> list[float]:
    """Three shares such as `8/4/4`.

    Raises:
        UserError: other than three numbers, a negative one, or none for training or validation.
    """
    parts = text.split("/")
    try:
        ratios = [float(part) for part in parts]
    except ValueError:
        ratios = []
    good = len(ratios) == len(SPLITS) and all(0 <= r < 1e9 for r in ratios)
    if not (good and ratios[0] > 0 and ratios[1] > 0):
        raise UserError(
            f"--ratios {text}: give the shares of {', '.join(SPLITS)}, such as 8/4/4; the first "
            "two above 0"
        )
    return ratios


def controls_of(names: Sequence[str], known: Mapping[str, Control]) -> list[Control]:
    """The controls of these names.

    Raises:
        UserError: there is no such control.
    """
    for name in names:
        if name not in known:
            raise UserError(f"--stratify {name}: no such control: {advice(name, known)}")
    return [known[name] for name in names]
