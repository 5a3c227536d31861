"""The report's statistics, cell by cell, from results made of known numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from study.made_results import finish, study_of
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import plugin_data_pb2

from sptmod_dist.errors import UserError
from sptmod_dist.study import figures, hyperparameters, published
from sptmod_dist.study.folder import Result, StudyFolder
from sptmod_dist.study.grid import Training, trainings_of
from sptmod_dist.study.report import make_report
from sptmod_dist.study.study_file import StudyFile, read_study

# Of folds 0, 1 and 2 by (N, B, L): the best ST, chosen so that the medians can be seen.
BEST = {
    (1, 2, 64): (0.50, 0.30, 0.90),
    (1, 2, 128): (0.11, 0.12, 0.16),
    (1, 4, 64): (2.00, 1.00, 4.00),
    (2, 2, 64): (0.25, 0.25, 0.75),
}
MEDIAN = {(1, 2, 64): 5.0, (1, 2, 128): 1.2, (1, 4, 64): 20.0, (2, 2, 64): 2.5}
DEVIATION = {(1, 2, 64): 2.0, (1, 2, 128): 0.1, (1, 4, 64): 10.0, (2, 2, 64): 0.0}
NEAR = (100, 300, 200)
"""The iteration at which folds 0, 1 and 2 are first within 5 %."""
SECONDS = {(1, 2, 64): 36.0, (1, 2, 128): 72.0, (1, 4, 64): 18.0, (2, 2, 64): 7.2}
"""An iteration."""
HOURS = {cell: 200 * seconds / 3600 for cell, seconds in SECONDS.items()}
GAP = {1: 0.04, 2: 0.01}
"""ST less WT at the best validation, by N."""


def cell_of(training: Training) -> tuple[int, int, int]:
    return tuple(training.values[key] for key in "NBL")  # type: ignore[return-value]


def made(folder: Path, **changes: object) -> tuple[StudyFile, list[Training]]:
    """A study of which four of eight configurations are finished."""
    study = read_study(study_of(folder, **changes))
    trainings, place = trainings_of(study), StudyFolder(study)
    place.prepare(trainings)
    for training in trainings:
        cell, fold = cell_of(training), training.fold
        if cell in BEST:
            best, near = BEST[cell][fold], NEAR[fold]
            checks = [
                (50, 3 * best, 2 * best),
                (near, 1.049 * best, best),
                (350, 1.2 * best, best),
                (400, best, best - GAP[training.values["N"]]),
                (500, 1.01 * best, 0.5 * best),
            ]
            finish(place, training, checks, 500 * SECONDS[cell], best + fold)
    return study, trainings


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Leaves the figures out, which take seconds; the box plots' values."""
    drawn: dict[str, Any] = {}
    for name in ("heat_map", "gap", "curves"):
        monkeypatch.setattr(figures, name, lambda *_: None)
    monkeypatch.setattr(figures, "box_plots", lambda path, title, label, boxes: drawn.update(boxes))
    return drawn


def table(path: Path) -> dict[tuple[int, int, int], list[str]]:
    with open(path, newline="") as file:
        head, *rows = csv.reader(file)
    assert head[:4] == ["N", "B", "L", "value"]
    return {(int(r[0]), int(r[1]), int(r[2])): r[3:] for r in rows}


@pytest.mark.parametrize(
    "name, expected",
    [
        ("median_loss_x10", MEDIAN),
        ("mad_loss_x10", DEVIATION),
        ("median_hours", HOURS),
        ("median_gap_x10", {cell: 10 * GAP[cell[0]] for cell in BEST}),
    ],
)
def test_every_cell_of_every_table_is_the_known_number(
    whole: Path, name: str, expected: dict[tuple[int, int, int], float]
) -> None:
    cells = table(whole / f"{name}-toy.csv")
    assert cells.keys() == expected.keys()
    for cell, value in expected.items():
        assert float(cells[cell][0]) == pytest.approx(value, rel=1e-9, abs=1e-12), cell


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study, trainings = made(tmp_path_factory.mktemp("report"))
    return make_report(study, trainings).parent


def test_the_text_has_the_same_cells_and_names_every_figure(whole: Path) -> None:
    text = (whole / "report.md").read_text()
    assert "12 of 24 trainings are finished" in text
    assert "| 2 | 1 | 5.00 | 1.20 |" in text and "| 4 | 1 | 20.00 |  |" in text
    assert "| 2 | 1 | 2.00 | 2.00 |" not in text
    named = [part.split(")")[0] for part in text.split("](")[1:]]
    assert len(named) == 4 + 1 + 1 + 1
    for name in named:
        assert (whole / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert b"<svg" in (whole / name).with_suffix(".svg").read_bytes()[:600]
    assert {p.suffix for p in whole.rglob("*") if p.is_file()} == {".md", ".csv", ".png", ".svg"}


def test_every_training_is_listed_with_what_it_came_to(whole: Path) -> None:
    with open(whole / "trainings.csv", newline="") as file:
        rows = {row["training"]: row for row in csv.DictReader(file)}
    assert len(rows) == 12
    row = rows["toy-N1-B4-L64-fold1-seed0"]
    assert float(row["best_st"]) == 1.0 and float(row["wt_there"]) == pytest.approx(0.96)
    assert (row["best_iteration"], row["iterations_to_5_percent"]) == ("400", "300")
    assert float(row["seconds_per_iteration"]) == 18.0
    assert float(row["hours_to_5_percent"]) == 1.5 and float(row["test_loss"]) == 2.0


def test_published_numbers_stand_beside_ours(tmp_path: Path, boxes: dict[str, Any]) -> None:
    grid, seeds = {"N": [2], "B": [32], "L": [32768]}, [0]
    settings = {"model": {"preset": "sptmod25"}}
    data = {"snap": {"manifest": "m.yaml", "published": "snapshot"}}
    study = read_study(
        study_of(tmp_path, grid=grid, seeds=seeds, settings=settings, datasets=data)
    )
    trainings = trainings_of(study)
    for training in trainings:
        finish(StudyFolder(study), training, [(10, 0.2, 0.1)], 3600.0, None)
    report = make_report(study, trainings)
    cells = table(report.parent / "median_loss_x10-snap.csv")
    assert len(cells) == 57 and cells[2, 32, 32768] == ["2.0", "1.07"]
    assert cells[1, 8, 4096] == ["", "3.7"]
    assert "| 32 | 2 | (2.51) | (2.10) | (1.46) | 2.00 (1.07) |" in report.read_text()
    assert "CC BY 4.0" in report.read_text()


def test_the_published_tables_are_whole() -> None:
    for dataset in ("snapshot", "threshold_ratio"):
        for quantity in ("median_loss_x10", "mad_loss_x10", "median_hours"):
            assert len(published.cells(dataset, quantity)) == 57
    assert published.hours() == pytest.approx(2110.3)
    assert published.cells("threshold_ratio", "median_loss_x10")[3, 64, 32768] == 1.38
    assert published.cells(None, "median_loss_x10") == {}


def test_other_keys_of_the_grid_have_tables_and_boxes_of_their_own(
    tmp_path: Path, boxes: dict[str, Any]
) -> None:
    grid = {"model.hidden_size": [4, 5], "L": [64]}
    study = read_study(study_of(tmp_path, grid=grid))
    trainings = trainings_of(study)
    for training in trainings:
        best = 1.0 * training.values["model.hidden_size"] + training.fold
        finish(StudyFolder(study), training, [(10, best, 0.1)], 10.0, 0.5)
    report = make_report(study, trainings)
    for size in (4, 5):
        path = report.parent / f"median_loss_x10-toy_model.hidden_size_{size}.csv"
        assert table(path) == {(1, 16, 64): [str(10.0 * (size + 1))]}
    assert boxes == {f"{size}, N 1, B 16, L 64": [0.5, 0.5, 0.5] for size in (4, 5)}


def test_the_scale_of_colours_has_numbers_like_the_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "_save", lambda figure, path: drawn.append(figure))
    figures.heat_map(Path("x"), "x", {"x": {(1, 2, 64): 176.4, (1, 2, 128): 177.28}}, 2)
    labels = [label.get_text() for label in drawn[0].axes[-1].get_yticklabels()]
    assert labels == ["176.40", "176.62", "176.84", "177.06", "177.28"]


def test_failed_and_damaged_trainings_are_left_out(tmp_path: Path, boxes: dict[str, Any]) -> None:
    study, trainings = made(tmp_path)
    folder = StudyFolder(study)
    folder.write_result(trainings[0].id, Result("failed", "it had to"))
    folder.run(trainings[1].id).metrics.write_text('{"iteration": 1}\n{"half')
    with open(folder.run(trainings[2].id).metrics, "a") as file:
        file.write('{"iteration": 600, "st": {"total": NaN}, "wt": {"total": 1}}\n{"cut off')
    report = make_report(study, trainings)
    assert "10 of 24 trainings" in report.read_text()
    assert table(report.parent / "median_loss_x10-toy.csv")[1, 2, 64] == ["9.0"]


def test_a_report_on_nothing_says_so(tmp_path: Path) -> None:
    study = read_study(study_of(tmp_path))
    with pytest.raises(UserError, match="no finished training.*sptmod-dist study run"):
        make_report(study, trainings_of(study))


def test_the_hparams_plugin_gets_values_and_results_once(tmp_path: Path) -> None:
    study, trainings = made(tmp_path)
    run = StudyFolder(study).run(trainings[0].id)
    run.tensorboard.mkdir()
    for _ in range(2):  # a worker that was killed in between does it again
        hyperparameters.write(run, trainings[0].values, 0.75)
    (path,) = run.tensorboard.iterdir()
    values = [v for event in EventFileLoader(str(path)).Load() for v in event.summary.value]
    scalars = {v.tag: v.tensor.float_val[0] for v in values if v.tag in hyperparameters.TAGS}
    assert scalars["result/best_st"] == pytest.approx(0.5)
    assert scalars["result/test_loss"] == pytest.approx(0.75)
    start = next(v for v in values if v.tag == "_hparams_/session_start_info")
    content = start.metadata.plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert told["dataset"].string_value == "toy" and told["L"].number_value == 64
    assert set(told) == {"dataset", "N", "B", "L", "fold", "seed"}


def test_json_of_a_result_is_read_back_and_damage_is_no_result(tmp_path: Path) -> None:
    study, trainings = made(tmp_path)
    folder, name = StudyFolder(study), trainings[0].id
    assert folder.result(name) == Result("finished", test_loss=0.5)
    path = folder.state(name) / "result.json"
    whole = json.loads(path.read_text())
    odd = [json.dumps(whole | {"state": "odd"}), json.dumps({"format": 1})]
    for damaged in ("", "[]", "{}", *odd):
        path.write_text(damaged)
        assert folder.result(name) is None
