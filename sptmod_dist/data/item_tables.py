"""The items of a manifest as a table: CSV for spreadsheets, JSONL for programs.

Columns of a CSV are id, input, output, sidechain, split and each control's name; a cell that is
empty is not there. It must not know what the columns mean.

    id,input,output,split,ratio
    a2,a.wav,a-ratio2.wav,train,2
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sptmod_dist.data.controls import Control, exact
from sptmod_dist.data.csv_rows import csv_text, read_rows, read_text
from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.names import advice

FIELDS = ("id", "input", "output", "sidechain", "split")
KINDS = (".csv", ".jsonl")


def read_table(path: Path, controls: Sequence[Control]) -> list[tuple[str, Any]]:
    """Each row as the keys and values that stand in a manifest's list, with where it stands.

    Args:
        path: ends in `.csv` or `.jsonl`.
        controls: their names are the columns that are settings.

    Raises:
        UserError: another kind of file, one that is no text, no rows, or a row that is none.
    """
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path} is no table of items; name it .csv or .jsonl.")
    is_csv = path.suffix.lower() == ".csv"
    rows = _csv(path, controls) if is_csv else _jsonl(path)
    if not rows:
        raise UserError(f"{path} has no rows; list at least one recording.")
    return rows


def write_table(path: Path, entries: Sequence[dict[str, Any]], controls: Sequence[str]) -> None:
    """Write the entries of a manifest's list as such a table, whole or not at all.

    Raises:
        UserError: a control has the name of another column.
    """
    if path.suffix.lower() == ".jsonl":
        text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    else:
        text = _as_csv(path, entries, controls)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def _csv(path: Path, controls: Sequence[Control]) -> list[tuple[str, Any]]:
    names = [control.name for control in controls]
    _require_apart(path, names)
    header, rows = read_rows(path)
    known = [*FIELDS, *names]
    for name in header:
        if name not in known:
            raise UserError(f"{path} has the unknown column '{name}': {advice(name, known)}")
    return [(where, _entry(cells, controls)) for where, cells in rows]


def _entry(cells: dict[str, str], controls: Sequence[Control]) -> dict[str, Any]:
    entry: dict[str, Any] = {name: cells[name] for name in FIELDS if cells.get(name)}
    settings = {c.name: c.read(cells[c.name]) for c in controls if cells.get(c.name)}
    return {**entry, "controls": settings} if settings else entry


def _jsonl(path: Path) -> list[tuple[str, Any]]:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is no JSON ({error}); correct it.") from None
        rows.append((f"{path}, line {number}", entry))
    return rows


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the key {name!r:.40} stands there twice")
    return dict(pairs)


def _as_csv(path: Path, entries: Sequence[dict[str, Any]], controls: Sequence[str]) -> str:
    _require_apart(path, controls)
    fields = [name for name in FIELDS if any(name in entry for entry in entries)]
    rows = [
        [entry.get(name, "") for name in fields] + [exact(entry["controls"][n]) for n in controls]
        for entry in entries
    ]
    return csv_text([[*fields, *controls], *rows])


def _require_apart(path: Path, controls: Sequence[str]) -> None:
    for name in controls:
        if name in FIELDS:
            raise UserError(
                f"{path}: a column '{name}' cannot be told from the control '{name}'; rename the "
                "control, or write the items as .jsonl."
            )
