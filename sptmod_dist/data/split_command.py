"""`split`: folds of a manifest, each with its train, validation and test items."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from sptmod_dist.command_options import parse, plain_parser
from sptmod_dist.errors import UserError

if TYPE_CHECKING:
    from sptmod_dist.data.recordings import Item

_MOST = 1000


def parser() -> ArgumentParser:
    """Options of `split`."""
    found = plain_parser("split")
    found.add_argument("manifest", help="the recordings' manifest.yaml")
    found.add_argument("--folds", type=int, default=10, help="how many, each shuffled anew; 10")
    found.add_argument(
        "--ratios",
        default="8/4/4",
        metavar="TRAIN/VALIDATION/TEST",
        help="counts where they add up to the items, else shares; 8/4/4",
    )
    found.add_argument("--seed", type=int, default=0, help="of the shuffling; 0")
    found.add_argument(
        "--stratify",
        action="append",
        metavar="CONTROL",
        help="give each split its share of this control's values; repeat it",
    )
    found.add_argument(
        "--distinct-settings",
        action="store_true",
        help="keep items with the same setting of the controls in one split",
    )
    found.add_argument("--overwrite", action="store_true", help="replace folds that are there")
    return found


def run(argv: Sequence[str]) -> int:
    """Write the folds and say what is in them.

    Raises:
        UserError: the manifest is faulty, or the options do not fit to it.
    """
    options = parse(parser(), argv)
    if not 1 <= options.folds <= _MOST:
        raise UserError(f"--folds is {options.folds}, but must be 1 to {_MOST}")
    if options.seed < 0:
        raise UserError(f"--seed is {options.seed}, but must be 0 or more")
    from sptmod_dist.data.item_twins import families
    from sptmod_dist.data.recordings import Manifest
    from sptmod_dist.data.splits import controls_of, divide, fold_paths, ratios_of, write_folds

    manifest, ratios = Manifest.read(options.manifest), ratios_of(options.ratios)
    by = controls_of(options.stratify or [], {c.name: c for c in manifest.controls})
    paths = fold_paths(manifest.path, options.folds, options.overwrite)
    together = families(manifest, options.distinct_settings)
    folds = [
        divide(manifest.items, ratios, options.seed, fold, by, together)
        for fold in range(options.folds)
    ]
    write_folds(manifest, paths, folds)
    _print_table(paths, folds)
    _print_older(manifest.path, paths)
    _print_twins(manifest.items, together)
    if not options.distinct_settings:
        _print_settings(manifest.items, folds)
    return 0


def _print_table(paths: Sequence[Path], folds: Sequence[Sequence[str]]) -> None:
    from sptmod_dist.data.recordings import SPLITS

    width = max(len(path.name) for path in paths)
    print(f"{'':{width}}  " + "  ".join(f"{split:>10}" for split in SPLITS))
    for path, splits in zip(paths, folds, strict=True):
        found = "  ".join(f"{splits.count(split):10}" for split in SPLITS)
        print(f"{path.name:{width}}  {found}")


def _print_older(manifest: Path, paths: Sequence[Path]) -> None:
    """Folds of a division into more, which do not belong to this one."""
    older = sorted(
        path.name
        for path in manifest.parent.iterdir()
        if re.fullmatch(rf"{re.escape(manifest.stem)}-fold\d+\.yaml", path.name)
        and path not in paths
    )
    if older:
        print(f"Left of another division, and not replaced: {', '.join(older)}.")


def _print_twins(items: Sequence[Item], together: Sequence[Sequence[int]]) -> None:
    for family in [family for family in together if len(family) > 1]:
        names = ", ".join(items[number].id for number in family[:4])
        more = f" and {len(family) - 4} more" if len(family) > 4 else ""
        print(f"These belong together and stay in one split: {names}{more}.")


def _print_settings(items: Sequence[Item], folds: Sequence[Sequence[str]]) -> None:
    """No leak by itself, where inputs differ, and good to know."""
    from sptmod_dist.data.item_twins import settings_key

    where: dict[Hashable, set[str]] = {}
    for item, split in zip(items, folds[0], strict=True):
        where.setdefault(settings_key(item), set()).add(split)
    shared = sum(len(splits) > 1 for splits in where.values())
    if shared and items[0].settings:
        print(
            f"Settings of the controls that stand in more than one split of the first fold: "
            f"{shared}; --distinct-settings keeps them apart."
        )
