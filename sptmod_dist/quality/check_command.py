"""`check`: whether recordings are aligned and sound, and aligned copies of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from sptmod_dist.command_options import parse, plain_parser
from sptmod_dist.errors import UserError

if TYPE_CHECKING:
    from sptmod_dist.data.recordings import Manifest
    from sptmod_dist.quality.findings import Finding
    from sptmod_dist.quality.set_check import Entry

_MOST_WORKERS = 8


def parser() -> ArgumentParser:
    """Options of `check`."""
    found = plain_parser("check")
    found.add_argument("first", metavar="MANIFEST|DRY", help="manifest.yaml, or what went in")
    found.add_argument("wet", nargs="?", metavar="WET", help="what came out, after DRY")
    found.add_argument(
        "--out", metavar="FOLDER", help="for report.json and the pictures; beside what is checked"
    )
    found.add_argument("--fix", metavar="FOLDER", help="write aligned copies, with a manifest")
    found.add_argument("--fraction", action="store_true", help="--fix: parts of a sample as well")
    found.add_argument("--polarity", action="store_true", help="--fix: turn over what is turned")
    found.add_argument("--workers", type=int, help="threads, each with a take in memory; 1 a core")
    return found


def run(argv: Sequence[str]) -> int:
    """Check, print what was found, and write the report, the pictures and the copies.

    Returns:
        0 where all can be trained on, doubts or not; 2 with a fault.

    Raises:
        UserError: nothing that can be checked, or a folder that is in use.
    """
    options = parse(parser(), argv)
    _check_options(options)
    from sptmod_dist.data.recordings import Manifest
    from sptmod_dist.quality.checking import pair_manifest

    if options.wet is None:
        manifest = Manifest.read(options.first)
        beside = manifest.path.with_name(f"{manifest.path.stem}-check")
    else:
        manifest = pair_manifest(Path(options.first), Path(options.wet))
        beside = Path(options.wet).with_name(f"{Path(options.wet).stem}-check")
    out = Path(options.out) if options.out else beside
    return _check(options, manifest, out)


def _check_options(options: Any) -> None:
    if (options.fraction or options.polarity) and not options.fix:
        raise UserError("--fraction and --polarity say how to --fix; add --fix FOLDER")
    if options.out and options.fix and Path(options.out).resolve() == Path(options.fix).resolve():
        raise UserError("--out and --fix name one folder; give each its own")
    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers is {options.workers}, but must be 1 or more")
    audio_alone = Path(options.first).suffix.lower() in (".wav", ".flac", ".aif", ".aiff", ".ogg")
    if options.wet is None and audio_alone:
        raise UserError(
            f"{options.first} is audio; give what came out after it, or give a manifest.yaml"
        )


def _check(options: Any, manifest: Manifest, out: Path) -> int:
    from sptmod_dist.quality.fixing import fix, require_free
    from sptmod_dist.quality.report import conclusion, overall

    _make_folder(out)
    if options.fix:
        require_free(Path(options.fix))
    workers = options.workers or min(_MOST_WORKERS, os.cpu_count() or 1)
    entries, whole = _checked(manifest, out, workers)
    reports = [entry.report for entry in entries]
    source = options.first if options.wet is None else f"{options.first} {options.wet}"
    _tell(source, out, entries, whole)
    left_out = 0
    if options.fix:
        left_out = fix(manifest, Path(options.fix), options.fraction, options.polarity, workers)
    print(conclusion(reports, whole))
    return 2 if overall(reports, whole) == "unfit" or left_out else 0


def _make_folder(out: Path) -> None:
    """A report of before is replaced, and nothing else."""
    from sptmod_dist.quality.report import is_report

    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give --out a folder.")
    if out.is_dir() and any(out.iterdir()) and not is_report(out / "report.json"):
        raise UserError(f"{out} holds something else; give --out a folder that is new or empty.")
    if not out.parent.is_dir():
        raise UserError(f"{out.parent} is not a folder; create it first.")
    out.mkdir(exist_ok=True)


def _checked(
    manifest: Manifest, out: Path, workers: int
) -> tuple[list[Entry], tuple[Finding, ...]]:
    from sptmod_dist.quality.checking import Checked, check_items
    from sptmod_dist.quality.picture import draw
    from sptmod_dist.quality.set_check import check_set

    def picture(checked: Checked) -> None:
        draw(out / f"{checked.entry.name}.png", checked.entry.report, checked.curves)

    entries = check_items(manifest, workers, picture)
    return entries, check_set(entries, [control.name for control in manifest.controls])


def _tell(
    source: str, out: Path, entries: Sequence[Entry], whole: Sequence[Finding]
) -> None:
    from sptmod_dist.quality.report import findings_in_words, table, write_report

    reports = [entry.report for entry in entries]
    write_report(out / "report.json", source, reports, whole)
    print("\n".join(table(reports)))
    print()
    for line in findings_in_words(reports, whole, notes=len(reports) == 1):
        print(line)
    if all(report.best_esr is None for report in reports):
        print("Noise shows where the dry is silent or repeated: `capture` tells it of its takes.")
    print(f"Wrote {out / 'report.json'} and a picture of each take beside it.")
