"""`split`: folds of a manifest, each with its train, validation and test items."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from sptmod_dist.command_options import parse, plain_parser
from sptmod_dist.errors import UserError

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
    from sptmod_dist.data.recordings import SPLITS, Manifest
    from sptmod_dist.data.splits import controls_of, divide, doubts, ratios_of, write_folds

    manifest, ratios = Manifest.read(options.manifest), ratios_of(options.ratios)
    by = controls_of(options.stratify or [], {c.name: c for c in manifest.controls})
    folds = write_folds(manifest, options.folds, ratios, options.seed, by, options.overwrite)
    width = max(len(path.name) for path, _ in folds)
    print(f"{'':{width}}  " + "  ".join(f"{split:>10}" for split in SPLITS))
    for path, found in folds:
        print(f"{path.name:{width}}  " + "  ".join(f"{found[split]:10}" for split in SPLITS))
    for doubt in doubts(manifest, divide(manifest.items, ratios, options.seed, 0, by)):
        print(f"Fold 0: {doubt}.")
    return 0
