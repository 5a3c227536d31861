"""The folder of an evaluation: written whole or not at all, the earlier one replaced.

Everything is made in a folder beside it and moved in at the end. Only files that the earlier
evaluation says it wrote are replaced or removed; whatever else lies there stays. It knows names of
files, not what is in them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write, fsync_dir, fsync_file

JSON_NAME = "evaluation.json"
_FORMATS = re.compile(r"sptmod-evaluation-\d+")
_OURS = re.compile(r"evaluation\.json|[\w.+=-]+\.(png|wav|csv|md)")
_FIRST = ("evaluation.json", "level_curve.png")  # what format 1 wrote besides its audio
_AUDIO = ("input", "target", "prediction")


@contextmanager
def evaluation_folder(out: Path, names: Iterable[str]) -> Iterator[Path]:
    """Give an empty folder; put its files into `out` when the block ends well.

    Args:
        out: where an earlier evaluation may lie.
        names: of files that will be there, so that a foreign one is met before the work.

    Raises:
        UserError: `out` is a file, or has a foreign file of such a name.
    """
    out = out.resolve()  # of a link, what it leads to
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder with --out")
    _check_free(out, names)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Files move within a disk alone, and another may be mounted there.
    is_mounted = out.is_dir() and out.stat().st_dev != out.parent.stat().st_dev
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out if is_mounted else out.parent))
    try:
        yield work
        _publish(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, out: Path) -> None:
    new = sorted(path.name for path in work.iterdir())
    _check_free(out, new)
    earlier = _earlier(out)
    for name in new:
        fsync_file(work / name)
    out.mkdir(exist_ok=True)
    _announce(out, earlier.union(new))
    for name in sorted(new, key=lambda name: name == JSON_NAME):  # which says what there is
        os.replace(work / name, out / name)
    for name in earlier - set(new):
        (out / name).unlink(missing_ok=True)
    fsync_dir(out)


def _announce(out: Path, names: Iterable[str]) -> None:
    """Say that all of these are an evaluation's, before they come: a kill may come between them."""
    try:
        report = json.loads((out / JSON_NAME).read_text(encoding="utf-8"))
    except OSError:
        report = {"format": "sptmod-evaluation-0"}  # nothing has been measured here
    report["files"] = sorted(names)
    with atomic_write(out / JSON_NAME) as path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _check_free(out: Path, names: Iterable[str]) -> None:
    """Refuse to replace what no evaluation wrote."""
    earlier = _earlier(out)
    for name in names:
        if os.path.lexists(out / name) and name not in earlier:
            raise UserError(
                f"{out / name} is no result of an earlier evaluation: move it away, or give "
                "another folder with --out"
            )


def _earlier(out: Path) -> set[str]:
    """The plain files that the evaluation which lies there says it wrote."""
    try:
        report = json.loads((out / JSON_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    if not isinstance(report, dict) or not _FORMATS.fullmatch(str(report.get("format"))):
        return set()
    names = report.get("files", _of_format_1(report))
    return {
        name
        for name in (names if isinstance(names, list) else [])
        if isinstance(name, str) and _OURS.fullmatch(name) and (out / name).is_file()
    }


def _of_format_1(report: dict[str, object]) -> list[str]:
    listening = report.get("listening_items")
    first = listening[0] if isinstance(listening, list) and listening else ""
    return [*_FIRST, *(f"{safe_name(str(first))}-{what}.wav" for what in _AUDIO)]


def safe_name(text: str) -> str:
    """A file name of any text: a set may come from anywhere."""
    return re.sub(r"[^\w.+=-]", "_", text)
