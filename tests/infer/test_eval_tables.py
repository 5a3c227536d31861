"""Tables of an evaluation: by control, the worst first, in words that are no markup."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from sptmod_dist.data.controls import Control, Setting
from sptmod_dist.infer.eval_bins import bins
from sptmod_dist.infer.eval_names import FIGURES, WAYS, written
from sptmod_dist.infer.eval_report import write_report
from sptmod_dist.infer.eval_tables import write_csv
from sptmod_dist.infer.evaluation import (
    Aliasing,
    Errors,
    Evaluation,
    ItemResult,
    Windows,
    means,
    pooled_esrs,
    windows_means,
)
from sptmod_dist.losses import LossTerms
from sptmod_dist.metrics import Spurs

RATIO = Control("ratio", 2, 16, "log", ":1")
MODE = Control("mode|x", positions=("fast", "slow", "off"), scale="list")


def item(number: int, setting: Setting, control: Control = RATIO, **more: object) -> ItemResult:
    """Everything about an item is its number, but for its error of a hundredth of its energy."""
    errors = Errors(4.0 * number, 0.2 * number, 0.01 * number, float(number))
    figures = {way: dict.fromkeys(FIGURES, float(number)) for way in WAYS}
    terms = dict.fromkeys(LossTerms._fields, float(number))
    windows = Windows(terms, {name: 1.5 * value for name, value in terms.items()})
    name = str(more.get("name", f"item{number}"))
    return ItemResult(
        name, {control.name: setting}, 100, 0.5, {"total": float(number)}, errors,
        {"esr_a_weighted": errors}, figures, windows, -60.0 - number,
    )  # fmt: skip


def evaluation(items: list[ItemResult], control: Control = RATIO) -> Evaluation:
    spurs = {997: Spurs(-80.0, -70.04), 4999: None}
    aliasing = (Aliasing(items[0].settings, spurs),)
    return Evaluation(
        Path("out"), "best-10", tuple(items), "the test set", "f", 100, (control,), aliasing
    )


def test_a_range_is_divided_into_thirds_as_the_model_sees_it() -> None:
    items = [item(n, setting) for n, setting in enumerate((2, 3.9, 4.1, 8.1, 16), start=1)]
    found = bins(RATIO, items)
    assert [part.label for part in found] == ["2 to 4:1", "4 to 8:1", "8 to 16:1"]
    assert [[i.id[-1] for i in part.items] for part in found] == [["1", "2"], ["3"], ["4", "5"]]


@pytest.mark.parametrize("boundary", [4, 8])
def test_a_boundary_belongs_to_the_upper_third(boundary: float) -> None:
    (found,) = bins(RATIO, [item(1, boundary)])
    assert found.label.startswith(f"{boundary} to")


def test_a_switch_is_divided_by_its_positions_that_were_used() -> None:
    found = bins(MODE, [item(n, where, MODE) for n, where in enumerate(("off", "fast", "off"))])
    assert [(part.label, len(part.items)) for part in found] == [("fast", 1), ("off", 2)]


def test_means_are_over_items_and_ratios_over_sums() -> None:
    items = [item(1, 2), item(3, 4)]
    assert means(items)["model"]["loss"] == 2
    assert pooled_esrs(items)["esr"] == pytest.approx(
        {"unprocessed": 4, "static_gain": 0.2, "model": 0.01}
    )
    windows = windows_means(items)
    assert windows is not None and (windows.wt["total"], windows.gap) == (2, 1)
    without = ItemResult("x", {}, 1, 1.0, {}, Errors(1, 1, 1, 1))
    assert windows_means([without]) is None
    assert means([without])["model"]["loss"] is None


def test_the_csv_has_a_row_an_item_and_every_figure(tmp_path: Path) -> None:
    write_csv(tmp_path / "items.csv", evaluation([item(1, 2.5), item(2, 4)]))
    first, second = csv.DictReader((tmp_path / "items.csv").open())
    assert first["id"] == "item1" and first["control.ratio"] == "2.5"
    assert float(first["seconds"]) == 1 and first["model.aliasing_db"] == "-61.0"
    for way in WAYS:
        for name in FIGURES:
            assert float(second[f"{way}.{name}"]) == 2
    assert float(second["wt.total"]) == 2 and float(second["st_minus_wt"]) == 1
    assert not (set(first) & {"", None})


def test_the_report_names_the_worst_items_first(tmp_path: Path) -> None:
    items = [item(n, 4) for n in range(1, 13)]
    write_report(tmp_path / "report.md", evaluation(items), {"a b.png": "A picture"})
    text = (tmp_path / "report.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| item")]
    assert [cells[0] for cells in rows if cells[0] != "| item"] == [
        f"| item{n}" for n in range(12, 2, -1)
    ]
    assert "## The 10 worst items" in text and "![A picture](a%20b.png)" in text
    assert "| loss | 6.5000 | 6.5000 | 6.5000 |" in text
    assert "| ratio 4 | -70.0, -80.0 | - |" in text
    assert "12 items, 12 s at 100 Hz" in text


def test_names_from_anywhere_are_no_markup(tmp_path: Path) -> None:
    items = [item(1, "off", MODE, name="<b>|`x`\n# title")]
    write_report(tmp_path / "report.md", evaluation(items, MODE), {"x.png": "a ]( b"})
    text = (tmp_path / "report.md").read_text()
    assert r"\<b\>\|\`x\` \# title" in text and r"## By mode\|x" in text
    assert r"![a \]( b](x.png)" in text
    rows = [line.replace(r"\|", "") for line in text.splitlines() if "Errors" not in line]
    tables = [row.count("|") for row in rows if row.startswith("| ") and "title" in row]
    assert tables and len(set(tables)) == 1


@pytest.mark.parametrize(
    "value, text",
    [(None, "-"), (float("nan"), "-"), (float("inf"), "-"), (-0.001, "0.00"), (-1.236, "-1.24")],
)
def test_a_figure_is_written_for_people(value: float | None, text: str) -> None:
    assert written(value, 2) == text


def test_items_are_ranked_by_one_figure() -> None:
    """A loss and an ESR of different items say nothing of each other."""
    best, middle, short = item(1, 4), item(2, 4), item(3, 4)
    energies = (0.5, 0.1, 0.9)  # of the model, over a target of 1
    items = [
        replace(each, errors=replace(each.errors, model=energy, target=1.0))
        for each, energy in zip((best, middle, replace(short, loss={})), energies, strict=True)
    ]
    assert [each.id for each in evaluation(items).worst_first] == ["item3", "item1", "item2"]
    assert [each.id for each in evaluation(items[:2]).worst_first] == ["item2", "item1"]
