"""Dividing a manifest's items into train, validation and test, several times over.

By item, never within one: what was learned is not measured on. Source: DAFx25, section on data: ten
splits of the items, shuffled by seed. It must not know of shards or models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from sptmod_dist.data.controls import Control
from sptmod_dist.data.recordings import SPLITS, Item, Manifest
from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.names import advice

_QUARTILES = (0.25, 0.5, 0.75)
_SWEEPS = 20  # of exchanging items; few are needed


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
    items: Sequence[Item],
    ratios: Sequence[float],
    seed: int,
    fold: int,
    by: Sequence[Control] = (),
    families: Sequence[Sequence[int]] | None = None,
) -> list[str]:
    """Each item's split in one fold, a function of seed and fold.

    Args:
        items: all of a manifest.
        ratios: of train, validation and test.
        by: controls of which each split shall have its share: of every position or value, and of
            every quartile where there are more than four. Chance decides among such divisions.
        families: numbers of items that stay together; the counts are then near the ratios.

    Raises:
        UserError: as `counts`, or families leave a split empty.
    """
    draw, wanted = np.random.default_rng([seed, fold]), counts(ratios, len(items))
    families = families or [[number] for number in range(len(items))]
    sizes = np.array([len(family) for family in families])
    places = _dealt(sizes, wanted, draw)
    for split, want, got in zip(SPLITS, wanted, _sums(places, sizes), strict=True):
        if want and not got:
            raise UserError(
                f"no item is left for {split}, since {sizes.max()} of {len(items)} items belong "
                "together (the same output, or the same input at the same setting); record items "
                "that differ, such as each with a stimulus of another seed, or give other ratios"
            )
    layers = [_layers(control, items)[[family[0] for family in families]] for control in by]
    _balance(places, sizes, layers, draw)
    splits = [""] * len(items)
    for family, place in zip(families, places, strict=True):
        for number in family:
            splits[number] = SPLITS[place]
    return splits


def _dealt(sizes: np.ndarray, wanted: Sequence[int], draw: np.random.Generator) -> np.ndarray:
    """A split for each family, at random where it finds room, the largest first."""
    order = draw.permutation(len(sizes))
    room, places = np.array(wanted, float), np.zeros(len(sizes), int)
    for number in order[np.argsort(-sizes[order], kind="stable")]:
        fits = np.where(room >= sizes[number], room, 0.0)
        if fits.any():
            places[number] = draw.choice(len(room), p=fits / fits.sum())
        else:
            places[number] = room.argmax()
        room[places[number]] -= sizes[number]
    return places


def _layers(control: Control, items: Sequence[Item]) -> np.ndarray:
    """The number of the position or quartile in which each item lies."""
    places = np.array([control.normalise(item.settings[control.name]) for item in items])
    values = np.unique(places)
    if not control.positions and len(values) > len(_QUARTILES) + 1:
        values = np.quantile(places, _QUARTILES)
    return np.searchsorted(values, places)


def _balance(
    places: np.ndarray, sizes: np.ndarray, layers: list[np.ndarray], draw: np.random.Generator
) -> None:
    """Exchange families of one size between splits until no exchange brings a layer's counts
    nearer to its share."""
    share = _sums(places, sizes) / sizes.sum()
    excess = [_excess(places, sizes, layer, share) for layer in layers]
    for _ in range(_SWEEPS if layers else 0):
        moved = False
        for one in draw.permutation(len(places)):
            change = sum(
                _change(places, layer, over, one, sizes[one])
                for layer, over in zip(layers, excess, strict=True)
            )
            change = np.where((sizes == sizes[one]) & (places != places[one]), change, 0.0)
            other = int(change.argmin())
            if change[other] < -1e-9:
                places[[one, other]] = places[[other, one]]
                excess = [_excess(places, sizes, layer, share) for layer in layers]
                moved = True
        if not moved:
            return


def _excess(
    places: np.ndarray, sizes: np.ndarray, layer: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Items of each layer and split beyond their share. Shape: `[layers, splits]`."""
    found = np.zeros((layer.max() + 1, len(share)))
    np.add.at(found, (layer, places), sizes)
    return found - found.sum(axis=1, keepdims=True) * share


def _change(
    places: np.ndarray, layer: np.ndarray, over: np.ndarray, one: int, size: int
) -> np.ndarray:
    """Of the sum of the squared excesses, when one family is exchanged with each of the others."""
    here, mine = places[one], layer[one]
    moved = -over[mine, here] + over[mine, places] - over[layer, places] + over[layer, here]
    return np.where(layer != mine, 2 * size * moved + 4 * size**2, 0.0)


def _sums(places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return np.bincount(places, weights=sizes, minlength=len(SPLITS))


def _apportioned(shares: Sequence[float]) -> list[int]:
    found = [int(share) for share in shares]
    rest = sorted(range(len(shares)), key=lambda k: found[k] - shares[k])
    for k in rest[: round(sum(shares)) - sum(found)]:
        found[k] += 1
    return found


def fold_paths(manifest: Path, folds: int, overwrite: bool) -> list[Path]:
    """Where the folds' manifests go: beside the one that is divided.

    Raises:
        UserError: one of them is there already.
    """
    paths = [manifest.with_name(f"{manifest.stem}-fold{fold}.yaml") for fold in range(folds)]
    for path in paths:
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists already; add --overwrite to replace the folds.")
    return paths


def write_folds(manifest: Manifest, paths: Sequence[Path], folds: Sequence[Sequence[str]]) -> None:
    """Write a manifest for each fold, all or none.

    Args:
        manifest: that is divided.
        paths: in its folder, one a fold.
        folds: each item's split, in each fold.
    """
    whole = {"file": manifest.path.name, "digest": manifest.digest}
    with ExitStack() as files:  # renamed in the end
        for path, splits in zip(paths, folds, strict=True):
            items = tuple(replace(i, split=s) for i, s in zip(manifest.items, splits, strict=True))
            fold = replace(manifest, items=items, divided_from=whole)
            fold.write(files.enter_context(atomic_write(path)))


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
