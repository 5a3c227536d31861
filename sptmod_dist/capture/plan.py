"""A plan: which takes to record, in which order, each with its stimulus and settings.

    SESSION/controls.yaml   what the device can be set to
    SESSION/plan.csv        a line a take: take,id,stimulus,<control>…,<control>_normalised…
    SESSION/sheet.html      the same for a person at the device, to print

Settings may be edited in the table; the normalised columns are for other programs, and must agree,
be empty or be left out. It must not know of devices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sptmod_dist.capture.controls_file import read_controls, write_controls
from sptmod_dist.capture.sheet import sheet
from sptmod_dist.data.controls import Control, Setting, exact, normalised_vector
from sptmod_dist.data.csv_rows import csv_text, read_rows
from sptmod_dist.data.item_tables import FIELDS
from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.names import advice
from sptmod_dist.typed import number_or_text

CONTROLS, TABLE, SHEET = "controls.yaml", "plan.csv", "sheet.html"
_NORMALISED = "_normalised"
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Take:
    """One recording to be: its number from 1 in the order of the plan, its name, the seed of its
    stimulus, and where each control stands."""

    number: int
    id: str
    stimulus: int
    settings: dict[str, Setting]


@dataclass(frozen=True)
class Plan:
    """All takes of a session, in their order."""

    folder: Path
    controls: tuple[Control, ...]
    takes: tuple[Take, ...]

    @classmethod
    def read(cls, folder: str | Path) -> Plan:
        """Read and check the plan of a session.

        Raises:
            UserError: files are missing, or a line of the table that is no take, with its place.
        """
        folder = Path(folder)
        if not (folder / TABLE).is_file():
            raise UserError(
                f"{folder} holds no plan ({TABLE}); make one with `sptmod-dist plan`."
            )
        controls = read_controls(folder / CONTROLS)
        return cls(folder, controls, _takes(folder / TABLE, controls))

    def write(self, folder: str | Path) -> None:
        """Write the plan's three files into a folder, which is made; all or none.

        A file of the same controls that is there keeps its comments.

        Raises:
            UserError: a control has the name of another column.
        """
        folder = Path(folder)
        page = sheet(folder.resolve().name, self.controls, self.takes)
        texts = {TABLE: _table(self.controls, self.takes), SHEET: page}
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:  # renamed in the end, the last one first
            for name, text in texts.items():
                temporary = files.enter_context(atomic_write(folder / name))
                temporary.write_text(text, encoding="utf-8", newline="")
            if not _holds(folder / CONTROLS, self.controls):
                write_controls(files.enter_context(atomic_write(folder / CONTROLS)), self.controls)


def _holds(path: Path, controls: Sequence[Control]) -> bool:
    try:
        return read_controls(path) == tuple(controls)
    except UserError:
        return False


def _columns(controls: Sequence[Control]) -> list[str]:
    names = [control.name for control in controls]
    columns = ["take", "id", "stimulus", *names, *(f"{name}{_NORMALISED}" for name in names)]
    for name in names:
        if columns.count(name) > 1 or name in FIELDS:  # the recordings' table comes hours later
            raise UserError(
                f"the tables of takes and recordings have another column '{name}'; rename the "
                f"control '{name}' in {CONTROLS}, such as to {name}_knob."
            )
    return columns


def _table(controls: Sequence[Control], takes: Sequence[Take]) -> str:
    rows: list[list[object]] = [[*_columns(controls)]]
    for take in takes:
        settings = [exact(take.settings[control.name]) for control in controls]
        places = [f"{place:.6f}" for place in normalised_vector(controls, take.settings)]
        rows.append([take.number, take.id, take.stimulus, *settings, *places])
    return csv_text(rows)


def _takes(path: Path, controls: Sequence[Control]) -> tuple[Take, ...]:
    header, rows = read_rows(path)
    _check_header(path, header, controls)
    takes: dict[str, Take] = {}
    for number, (where, cells) in enumerate(rows, 1):
        take = _take(where, cells, controls, number)
        if takes.setdefault(take.id, take) is not take:
            raise UserError(f"{where}: id {take.id!r} stands twice; rename one.")
    if not takes:
        raise UserError(f"{path} lists no takes; plan anew.")
    return tuple(takes.values())


def _check_header(path: Path, header: Sequence[str], controls: Sequence[Control]) -> None:
    columns = _columns(controls)
    extra = [f"{control.name}{_NORMALISED}" for control in controls]
    for name in header:
        if name not in columns:
            raise UserError(
                f"{path} has the column '{name}', and {CONTROLS} no such control: "
                f"{advice(name, columns)}"
            )
    for name in columns:
        if name not in header and name not in extra:
            raise UserError(f"{path} has no column '{name}'; add it, or plan anew.")


def _take(
    where: str, row: dict[str, str], controls: Sequence[Control], expected: int
) -> Take:
    number, seed = (_whole(where, name, row[name]) for name in ("take", "stimulus"))
    if number != expected:
        raise UserError(f"{where}: take is {number}, and {expected} comes here; renumber.")
    if not re.fullmatch(r"\w[\w.+=-]*", row["id"]):  # ids become file names
        raise UserError(f"{where}: id {row['id']!r} is no plain name; use letters, digits and - _.")
    try:
        settings = {c.name: c.setting(c.read(row[c.name])) for c in controls}
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    for control in controls:
        _check_normalised(where, control, settings[control.name], row)
    return Take(number, row["id"], seed, settings)


def _check_normalised(where: str, control: Control, value: Setting, row: dict[str, str]) -> None:
    name = f"{control.name}{_NORMALISED}"
    right = control.normalise(value)
    given = number_or_text(row.get(name, ""))
    if given != "" and (isinstance(given, str) or not abs(given - right) <= _TOLERANCE):
        raise UserError(
            f"{where}: {name} is {row[name]}, and {control.name} {row[control.name]} makes "
            f"{right:.6f}; correct one of them, or leave {name} empty."
        )


def _whole(where: str, name: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise UserError(f"{where}: {name} is {text!r}, which is no whole number; correct it.")
    return int(text)
