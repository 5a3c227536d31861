"""The report of a study: tables (CSV, Markdown), heat maps, box plots, gap, curves; in `report/`.

All of what is finished goes in, whatever is still to come. What it says is the matter of
`tables.py`, what it looks like of `figures.py`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.study import figures, published
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.grid import Training
from sptmod_dist.study.results import Outcome, outcomes_of
from sptmod_dist.study.study_file import StudyFile
from sptmod_dist.study.tables import COUNT, GAP, TABLES, Cell, Group, Quantity, groups_of


def make_report(study: StudyFile, trainings: Sequence[Training]) -> Path:
    """Write the report of what is finished.

    Returns:
        Its `report.md`.

    Raises:
        UserError: nothing is finished yet.
    """
    folder = StudyFolder(study)
    outcomes = outcomes_of(folder, trainings)
    if not outcomes:
        raise UserError(
            f"{study.folder} has no finished training to report on: start it with "
            f"`sptmod-dist study run {study.path}`"
        )
    whose = {dataset.name: dataset.published for dataset in study.datasets}
    report = Report(folder.report, whose)
    (folder.report / "curves").mkdir(parents=True, exist_ok=True)
    report.write_outcomes(outcomes)
    text = [f"# Study {study.name}", _account(outcomes, trainings)]
    for group in groups_of(outcomes):
        text += report.group(group)
    text += report.tests(outcomes)
    path = folder.report / "report.md"
    with atomic_write(path) as temporary:
        temporary.write_text("\n\n".join(text) + "\n")
    return path


class Report:
    """Writes the parts of one report.

    Args:
        folder: for its files.
        whose: for each dataset, whose published tables stand beside it.
    """

    def __init__(self, folder: Path, whose: Mapping[str, str | None]) -> None:
        self._folder, self._whose = folder, whose

    def write_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """A line a training: all that the tables are made of."""
        head = ["training", "dataset", "others", "N", "B", "L", "fold", "seed", "best_st"]
        head += ["wt_there", "best_iteration", "iterations_to_5_percent", "seconds_per_iteration"]
        head += ["hours_to_5_percent", "test_loss"]
        rows = [
            [o.id, o.dataset, "; ".join(map(" ".join, o.others)), o.n, o.b, o.length]
            + [o.fold, o.seed, o.best.st, o.best.wt, o.best.iteration, o.iterations_to_near]
            + [o.seconds_per_iteration, o.hours, "" if o.test_loss is None else o.test_loss]
            for o in outcomes
        ]
        _write_csv(self._folder / "trainings.csv", [head, *rows])

    def group(self, group: Group) -> list[str]:
        """Everything on one dataset (and other keys of the grid), as parts of the text."""
        text = [f"## {group.name}"]
        for quantity in (*TABLES, GAP):
            text += self._table(group, quantity)
        text += [_markdown(COUNT, group.cells(COUNT), {})]
        return text + self._gap(group) + list(self._curves(group))

    def tests(self, outcomes: Sequence[Outcome]) -> list[str]:
        """Box plots of the test losses, a box a configuration."""
        text = []
        for dataset in dict.fromkeys(outcome.dataset for outcome in outcomes):
            boxes: dict[str, list[float]] = {}
            for outcome in outcomes:
                if outcome.dataset == dataset and outcome.test_loss is not None:
                    boxes.setdefault(_in_words(outcome), []).append(outcome.test_loss)
            text += [f"## Test losses, {dataset}"] if boxes else []
            for number, page in enumerate(_pages(boxes, figures.BOXES), 1):
                name = f"test_losses-{_plain(dataset)}-{number}"
                title = f"Test losses of the folds, {dataset}"
                label = "streamed loss over whole test items, at the best checkpoint"
                figures.box_plots(self._folder / name, title, label, page)
                text += [f"![{title}]({name}.png)"]
        return text

    def _table(self, group: Group, quantity: Quantity) -> list[str]:
        name = f"{quantity.name}-{_plain(group.name)}"
        ours = group.cells(quantity)
        theirs = published.cells(self._whose.get(group.dataset), quantity.name)
        _write_csv(self._folder / f"{name}.csv", list(_rows(ours, theirs)))
        panels = {"this study": ours} | ({"published": theirs} if theirs else {})
        title = f"{quantity.title[0].upper()}{quantity.title[1:]}, {group.name}"
        figures.heat_map(self._folder / name, title, panels, quantity.digits)
        note = [f"In brackets: {published.source()}"] if theirs else []
        return [_markdown(quantity, ours, theirs), *note, f"![{title}]({name}.png)"]

    def _gap(self, group: Group) -> list[str]:
        name = f"gap-{_plain(group.name)}"
        title = f"Exposure bias of the SPN over N, {group.name}"
        figures.gap(self._folder / name, title, group.cells(GAP))
        return [f"![{title}]({name}.png)"]

    def _curves(self, group: Group) -> Iterator[str]:
        panels: dict[str, list[list[tuple[int, float, float]]]] = {}
        for outcome in group.outcomes:
            name = f"N {outcome.n}, B {outcome.b}, L {outcome.length}"
            points = [(check.iteration, check.st, check.wt) for check in outcome.checks]
            panels.setdefault(name, []).append(points)
        for number, page in enumerate(_pages(panels, figures.PAGE), 1):
            name = f"curves/{_plain(group.name)}-{number}"
            title = f"{group.name}, {number} of {-(-len(panels) // figures.PAGE)}"
            figures.curves(self._folder / name, title, page)
            yield f"![Curves: {title}]({name}.png)"


def _pages(whole: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    pages = iter(whole.items())
    while page := dict(islice(pages, size)):
        yield page


def _account(outcomes: Sequence[Outcome], trainings: Sequence[Training]) -> str:
    return (
        f"{len(outcomes)} of {len(trainings)} trainings are finished. A cell is the median over "
        "the folds and seeds of its configuration. Hours are iterations until the streamed "
        "validation loss (ST) was within 5 % of its least, times measured seconds an iteration "
        "(validation included; trainings that share a GPU or cores slow each other). "
        "`trainings.csv` has every training."
    )


def _rows(ours: Mapping[Cell, float], theirs: Mapping[Cell, float]) -> Iterator[list[object]]:
    yield ["N", "B", "L", "value", *(["published"] if theirs else [])]
    for cell in sorted({*ours, *theirs}, key=lambda cell: (cell[1], cell[0], cell[2])):
        beside = [theirs.get(cell, "")] if theirs else []
        yield [*cell, ours.get(cell, ""), *beside]


def _markdown(
    quantity: Quantity, ours: Mapping[Cell, float], theirs: Mapping[Cell, float]
) -> str:
    """A table as the paper's: a row a B and N, a column an L; published values in brackets."""
    cells = {*ours, *theirs}
    columns = sorted({length for _, _, length in cells})
    lines = [f"### {quantity.title[0].upper()}{quantity.title[1:]}", ""]
    lines.append("| B | N | " + " | ".join(f"L = {length}" for length in columns) + " |")
    lines.append("|---:|---:|" + "---:|" * len(columns))
    for b, n in sorted({(b, n) for n, b, _ in cells}):
        shown = [_shown(quantity, (n, b, length), ours, theirs) for length in columns]
        lines.append(f"| {b} | {n} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _shown(
    quantity: Quantity, cell: Cell, ours: Mapping[Cell, float], theirs: Mapping[Cell, float]
) -> str:
    value, beside = ours.get(cell), theirs.get(cell)
    text = "" if value is None else figures.number(value, quantity.digits)
    return text if beside is None else f"{text} ({beside:.{quantity.digits}f})".strip()


def _in_words(outcome: Outcome) -> str:
    others = [value for _, value in outcome.others]
    return ", ".join([*others, f"N {outcome.n}, B {outcome.b}, L {outcome.length}"])


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._+=-]+", "_", name)


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with atomic_write(path) as temporary, open(temporary, "w", newline="") as file:
        csv.writer(file).writerows(rows)
