"""Rows of a CSV file, each with its place, and what a cell holds.

It must not know what the columns mean.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from sptmod_dist.errors import UserError


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as CSV in UTF-8.") from None


def read_rows(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """The header, and of each row that is not empty where it stands and its cells by column.

    Raises:
        UserError: no readable CSV, a column that stands twice, or too many or too few cells.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if header and header[0].lower().startswith("sep="):  # a word to a spreadsheet
            header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                where = f"{path}, line {reader.line_num}"
                rows.append((where, _row(where, header, cells)))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; save it as CSV anew.") from None
    return [name for name in header if name], rows


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """The text of a CSV file with these rows."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _check_header(path: Path, header: Sequence[str]) -> None:
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise UserError(f"{path}: its columns are not divided by commas; save it as CSV with them.")
    for name in header:
        if name and header.count(name) > 1:
            raise UserError(f"{path} has the column '{name}' twice; keep one.")


def _row(where: str, header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise UserError(f"{where} has {len(cells)} cells under {len(header)} columns; correct it.")
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if name}
    for name, cell in zip(header, cells, strict=True):
        if cell.strip() and not name:  # spreadsheets leave empty columns behind
            raise UserError(f"{where}: {cell!r:.40} stands under no column; name it, or remove it.")
    return row
