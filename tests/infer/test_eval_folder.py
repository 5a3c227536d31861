"""An evaluation's folder is whole or as it was; what others put there stays."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from sptmod_dist.errors import UserError
from sptmod_dist.infer.eval_folder import evaluation_folder


def write(out: Path, names: list[str], text: str = "new") -> None:
    with evaluation_folder(out, ["evaluation.json", "report.md"]) as folder:
        for name in names:
            (folder / name).write_text(text)
        files = [*names, "evaluation.json"]
        report = {"format": "sptmod-evaluation-2", "files": files, "text": text}
        (folder / "evaluation.json").write_text(json.dumps(report))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_earlier_results_are_replaced_and_foreign_files_stay(tmp_path: Path) -> None:
    out = tmp_path / "run" / "evaluation"
    write(out, ["report.md", "gain-worst.png", "old-input.wav"], "old")
    (out / "notes.md").write_text("mine")
    (out / "takes").mkdir()
    write(out, ["report.md", "gain-worst.png"])
    assert names(out) == ["evaluation.json", "gain-worst.png", "notes.md", "report.md", "takes"]
    assert (out / "report.md").read_text() == "new" and (out / "notes.md").read_text() == "mine"
    assert names(out.parent) == ["evaluation"]
    beside = tmp_path / "beside"
    beside.mkdir()
    assert out.stat().st_mode == beside.stat().st_mode  # not private


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    with pytest.raises(ZeroDivisionError), evaluation_folder(out, []) as folder:
        (folder / "report.md").write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == []
    write(out, ["report.md"], "old")
    with pytest.raises(ZeroDivisionError), evaluation_folder(out, []) as folder:
        (folder / "report.md").write_text("half")
        raise ZeroDivisionError
    assert (out / "report.md").read_text() == "old" and names(tmp_path) == ["evaluation"]


def test_a_foreign_file_of_the_same_name_is_met_before_the_work(tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    out.mkdir()
    (out / "report.md").write_text("mine")
    with pytest.raises(UserError, match="report.md is no result of an earlier evaluation"):
        with evaluation_folder(out, ["report.md"]):
            pytest.fail("the work has begun")
    assert (out / "report.md").read_text() == "mine"


def test_a_foreign_file_met_at_the_end_stops_all_of_it(tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    write(out, ["report.md"], "old")
    (out / "gain-worst.png").symlink_to("nowhere")
    with pytest.raises(UserError, match="gain-worst.png is no result"):
        write(out, ["report.md", "gain-worst.png"])
    assert (out / "report.md").read_text() == "old" and (out / "gain-worst.png").is_symlink()


def test_the_results_of_the_first_format_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    out.mkdir()
    old = ["level_curve.png", *(f"a-{what}.wav" for what in ("input", "target", "prediction"))]
    for name in [*old, "b-input.wav"]:
        (out / name).write_text("old")
    report = {"format": "sptmod-evaluation-1", "listening_items": ["a", "b"]}
    (out / "evaluation.json").write_text(json.dumps(report))
    write(out, ["report.md", "level_curve.png"])
    assert names(out) == ["b-input.wav", "evaluation.json", "level_curve.png", "report.md"]


@pytest.mark.parametrize(
    "report",
    [
        "not json", "[]", "{}", '{"format": "other", "files": ["mine.png"]}',
        '{"format": "sptmod-evaluation-2", "files": 3}',
        '{"format": "sptmod-evaluation-2", "files": [3, "../mine.png", "sub/x.png", "mine.yaml", '
        '"evaluation.json"]}',
    ],
)
def test_a_report_of_anybody_removes_nothing(tmp_path: Path, report: str) -> None:
    out = tmp_path / "evaluation"
    (out / "sub").mkdir(parents=True)
    foreign = [tmp_path / "mine.png", out / "mine.png", out / "mine.yaml", out / "sub" / "x.png"]
    for path in foreign:
        path.write_text("mine")
    (out / "evaluation.json").write_text(report)
    try:
        write(out, ["report.md"])
    except UserError as error:
        assert "evaluation.json is no result" in str(error)
    assert all(path.read_text() == "mine" for path in foreign)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="is a file: give a folder with --out"):
        write(tmp_path / "out", [])
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("moves", [1, 2, 3])
def test_a_kill_between_the_moves_locks_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int, earlier: bool
) -> None:
    out, replace = tmp_path / "evaluation", os.replace
    if earlier:
        write(out, ["report.md", "old-input.wav"], "old")
    left = [moves]

    def dying(source: str, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise GeneratorExit  # as a kill: nobody catches it
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(GeneratorExit):
        patch.setattr(os, "replace", dying)
        write(out, ["report.md", "a-input.wav", "b.png"])
    write(out, ["report.md", "c.png"])
    assert names(out) == ["c.png", "evaluation.json", "report.md"]


def test_results_go_where_a_link_leads_on_another_disk_too(tmp_path: Path) -> None:
    elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        (tmp_path / "out").symlink_to(elsewhere)
        write(tmp_path / "out", ["report.md"])
        assert names(elsewhere) == ["evaluation.json", "report.md"]
    finally:
        shutil.rmtree(elsewhere)
