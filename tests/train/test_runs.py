"""`runs`: every run gets a line with its state, whatever has happened to it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import make_toy

from sptmod_dist.cli import main
from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.main import train
from sptmod_dist.train.progress import Progress
from sptmod_dist.train.run_account import RunAccount, account_of, runs_in
from sptmod_dist.train.run_folder import HEADER, RunFolder

STATUS: dict[str, Any] = {
    "state": "preempted",
    "why": "",
    "iteration": 20,
    "epoch": 2,
    "best_st": 0.5,
    "best_iteration": 10,
    "seconds": 5400.0,
    "processes": 4,
    "updated": "2024-01-02T03:04:05+00:00",
}


def make_run(folder: Path, state: str = "preempted", **status: Any) -> RunFolder:
    """A run with two checkpoints that says how it stands."""
    run = RunFolder(folder)
    run.path.mkdir(parents=True)
    (folder / "config.yaml").write_text(HEADER)
    (folder / ".lock").touch()
    run.write_status({**STATUS, "state": state, **status})
    for iteration in (10, 20):
        progress = Progress(epoch=1, iteration=iteration, best=0.75).to_dict()
        told = {"progress": progress, "config": {}, "data": {}, "seconds": 1800.0}
        saved = Checkpoint({"effect.a": torch.ones(3)}, {}, told)
        checkpoint.save(run.checkpoints, f"step-{iteration:08d}", saved)
    return run


def test_a_run_that_was_preempted_has_all_its_figures(tmp_path: Path) -> None:
    assert account_of(make_run(tmp_path / "a")) == RunAccount(
        name="a",
        folder=str(tmp_path / "a"),
        state="preempted",
        why="",
        epoch=2,
        iteration=20,
        best_st=0.5,
        hours=1.5,
        processes=4,
        updated=STATUS["updated"],
        checkpoint="step-00000020",
        resumable=True,
        note="",
    )


@pytest.mark.parametrize(("said", "state", "resumable", "note"), [
    ("preempted", "preempted", True, ""),
    ("failed", "failed", True, ""),
    ("running", "killed", True, ""),
    ("finished", "finished", False, "it is finished"),
    ("diverged", "diverged", False, "it diverged"),
])
def test_what_a_run_says_decides_whether_it_goes_on(
    tmp_path: Path, said: str, state: str, resumable: bool, note: str
) -> None:
    account = account_of(make_run(tmp_path / "a", said, why="" if said == "running" else "so"))
    assert (account.state, account.resumable, account.note) == (state, resumable, note)
    assert account.why == ("so" if said != "running" else f"it ended without a word after "
                           f"{STATUS['updated']}")


@pytest.mark.parametrize("said", ["running", "preempted"])
def test_a_run_whose_lock_is_held_is_running_whatever_it_said(tmp_path: Path, said: str) -> None:
    run = make_run(tmp_path / "a", said)
    with open(run.path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        account = account_of(run)
    assert (account.state, account.resumable, account.note) == ("running", False, "it is at work")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def truncate_states(run: RunFolder) -> None:
    for path in run.checkpoints.glob("*/state.json"):
        truncate(path)


def leave_the_summary_alone(run: RunFolder) -> None:
    (run.path / "status.json").unlink()
    run.write_summary({"iterations": 3})


def without_checkpoints(run: RunFolder) -> None:
    for path in run.checkpoints.glob("*/*"):
        path.unlink()
    for path in run.checkpoints.iterdir():
        path.rmdir()


STEP = "checkpoints/step-00000020"
LOST = "its status.json is missing or damaged"
DAMAGES: dict[str, tuple[Callable[[RunFolder], object], dict[str, Any]]] = {
    "newest checkpoint truncated": (
        lambda run: truncate(run.path / STEP / "weights.safetensors"),
        {"resumable": True, "note": "from step-00000010, what is newer is damaged",
         "checkpoint": "step-00000020"},
    ),
    "every checkpoint truncated": (
        truncate_states,
        {"state": "preempted", "resumable": False, "note": "no checkpoint is whole"},
    ),
    "no checkpoint": (
        without_checkpoints,
        {"checkpoint": None, "resumable": False, "note": "no checkpoint yet: it begins anew"},
    ),
    "status truncated": (
        lambda run: truncate(run.path / "status.json"),
        {"state": "unknown", "why": LOST, "resumable": True, "epoch": 1, "iteration": 20,
         "best_st": 0.75, "hours": 0.5, "processes": None},
    ),
    "status of another format": (
        lambda run: (run.path / "status.json").write_text(json.dumps({**STATUS, "format": "x"})),
        {"state": "unknown", "why": LOST},
    ),
    "status removed, summary there": (
        leave_the_summary_alone,
        {"state": "finished", "resumable": False, "iteration": 20},
    ),
    "status with numbers without end": (
        lambda run: run.write_status({**STATUS, "seconds": 10**400}),
        {"state": "unknown", "resumable": True},
    ),
    "killed between summary and status": (
        lambda run: (run.write_summary({}), run.write_status({**STATUS, "state": "running"})),
        {"state": "finished", "resumable": False},
    ),
    "a pipe for a config": (
        lambda run: ((run.path / "config.yaml").unlink(), os.mkfifo(run.path / "config.yaml")),
        {"state": "preempted", "resumable": False},
    ),
    "status nested without end": (
        lambda run: (run.path / "status.json").write_text("[" * 100_000),
        {"state": "unknown", "resumable": True, "why": "its status.json is missing or damaged"},
    ),
    "config truncated": (
        lambda run: os.truncate(run.path / "config.yaml", 3),
        {"state": "preempted", "resumable": False, "iteration": 20,
         "note": "its config.yaml is missing or damaged"},
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_give_words(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "a")
    put_in, expected = DAMAGES[damage]
    put_in(run)
    (account,) = runs_in(tmp_path)
    assert {key: getattr(account, key) for key in expected} == expected
    assert main(["runs", str(tmp_path)]) == 0
    assert expected.get("note", "") in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [
    {"iteration": "20"}, {"iteration": -1}, {"iteration": True}, {"epoch": 1.5}, {"epoch": None},
    {"best_st": "x"}, {"best_st": float("nan")}, {"seconds": float("inf")}, {"state": "asleep"},
    {"state": ["running"]}, {"why": None}, {"updated": 3}, {"processes": {}},
])
def test_a_status_with_a_wrong_value_counts_as_damaged(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    account = account_of(make_run(tmp_path / "a", **wrong))
    assert (account.state, account.why, account.epoch) == ("unknown", LOST, 1)


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_the_table_has_a_line_a_run_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "zeta", "diverged", why="the loss is not finite")
    make_run(tmp_path / "alpha", best_st=None)
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    (tmp_path / "file").touch()
    before = everything(tmp_path)
    assert main(["runs", str(tmp_path)]) == 0
    assert everything(tmp_path) == before
    assert capsys.readouterr().out.splitlines() == [
        "run    state      epoch  iteration  best ST  hours  processes  checkpoint     resumable",
        "alpha  preempted      2         20        -   1.50          4  step-00000020  yes",
        "zeta   diverged       2         20   0.5000   1.50          4  step-00000020  no: it "
        "diverged",
        "",
        "zeta: the loss is not finite",
    ]


def test_json_has_all_that_is_known_and_names_cannot_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "a\x1b[2J\nb", "failed", why="first\nsecond \x1b[31m")
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "a?[2J?b  failed" in out and "\x1b" not in out and out.count("\n") == 4
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (account,) = json.loads(capsys.readouterr().out)
    assert account["name"] == "a\x1b[2J\nb" and account["resumable"] is True


def test_one_runs_own_folder_is_a_table_of_one(tmp_path: Path) -> None:
    assert runs_in(make_run(tmp_path / "a").path)[0].name == "a"


def test_without_a_folder_or_runs_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs"]) == 2
    assert "runs is no folder: give the one that holds the runs" in capsys.readouterr().err
    assert main(["runs", "."]) == 0
    assert capsys.readouterr().out == "there is no run in .\n"


def test_a_real_training_is_told_as_it_is(tmp_path: Path) -> None:
    config = make_toy(tmp_path, stopping={"max_iterations": 6})
    train(config)
    (account,) = runs_in(tmp_path / "runs")
    assert (account.name, account.state, account.iteration) == ("toy", "finished", 6)
    assert account.processes == 1 and account.hours is not None and account.best_st is not None
    assert account.checkpoint == "step-00000006"
