"""The items of a manifest as a table: CSV for spreadsheets, JSONL for programs.

Columns of a CSV are id, input, output, sidechain, split and each control's name; a cell that is
empty is not there. It must not know what the columns mean.

    id,input,output,split,ratio
    a2,a.wav,a-ratio2.wav,train,2
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.names import advice

FIELDS = ("id", "input", "output", "sidechain", "split")


def read_table(path: Path, controls: Sequence[str]) -> list[tuple[str, Any]]:
    """Each row as the keys and values that stand in a manifest's list, with where it stands.

    Args:
        path: ends in `.csv` or `.jsonl`.
        controls: names of the columns that are settings.

    Raises:
        UserError: another kind of file, one that is no text, no rows, or a row that is none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text ({error}); save it as UTF-8.") from None
    if path.suffix.lower() == ".csv":
        rows = _csv(path, text, controls)
    elif path.suffix.lower() == ".jsonl":
        rows = _jsonl(path, text)
    else:
        raise UserError(f"{path} is no table of items; name it .csv or .jsonl.")
    if not rows:
        raise UserError(f"{path} has no rows; list at least one recording.")
    return rows


def write_table(path: Path, entries: Sequence[dict[str, Any]], controls: Sequence[str]) -> None:
    """Write the entries of a manifest's list as such a table, whole or not at all."""
    if path.suffix.lower() == ".jsonl":
        text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    else:
        text = _as_csv(entries, controls)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def _csv(path: Path, text: str, controls: Sequence[str]) -> list[tuple[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, Any]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header, controls)
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if any(cell.strip() for cell in cells):
                rows.append((where, _entry(where, header, cells, controls)))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; save it as CSV anew.") from None
    return rows


def _check_header(path: Path, header: Sequence[str], controls: Sequence[str]) -> None:
    known = [*FIELDS, *controls]
    for name in header:
        if name not in known:
            raise UserError(f"{path} has the unknown column '{name}': {advice(name, known)}")
        if header.count(name) > 1:
            raise UserError(f"{path} has the column '{name}' twice; keep one.")


def _entry(
    where: str, header: Sequence[str], cells: Sequence[str], controls: Sequence[str]
) -> dict[str, Any]:
    if len(cells) > len(header):
        raise UserError(f"{where} has {len(cells)} cells under {len(header)} columns; correct it.")
    given = {n: c.strip() for n, c in zip(header, cells, strict=False) if c.strip()}
    entry: dict[str, Any] = {name: given[name] for name in FIELDS if name in given}
    settings = {name: _value(given[name]) for name in controls if name in given}
    return {**entry, "controls": settings} if settings else entry


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _jsonl(path: Path, text: str) -> list[tuple[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append((f"{path}, line {number}", json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is no JSON ({error}); correct it.") from None
    return rows


def _as_csv(entries: Sequence[dict[str, Any]], controls: Sequence[str]) -> str:
    fields = [name for name in FIELDS if any(name in entry for entry in entries)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*fields, *controls])
    for entry in entries:
        settings = [entry["controls"].get(name, "") for name in controls]
        writer.writerow([*(entry.get(name, "") for name in fields), *settings])
    return text.getvalue()
