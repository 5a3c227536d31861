"""Real studies on toy recordings: killed at any moment, a training that fails, many workers.

What a study is killed in must not change what it learns: it is compared with one that ran through.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from processes import environment
from study.made_results import study_of
from toy import write_recordings

from sptmod_dist.study.claims import attempts
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.study_file import read_study

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

GRID = {"N": [1, 2], "B": [2, 4], "L": [64]}
Entries = dict[str, dict[str, Any]]


def start(study: Path, *options: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sptmod_dist", "study", "run", str(study), *options]
    out = open(log or study.parent / "out.log", "ab")
    return subprocess.Popen(command, env=environment(), stdout=out, stderr=out)


def call(action: str, study: Path, *options: str) -> str:
    command = [sys.executable, "-m", "sptmod_dist", "study", action, str(study), *options]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def status(study: Path) -> Entries:
    return {entry["id"]: entry for entry in json.loads(call("status", study, "--json"))}


def learned(study: Path) -> dict[str, str]:
    """Every training's validations, to the last digit."""
    runs = StudyFolder(read_study(study)).runs
    return {path.parent.name: path.read_text() for path in runs.glob("*/metrics.jsonl")}


def kill_all(process: subprocess.Popen[bytes]) -> int:
    """The worker and its trainings, without a warning."""
    tree = [psutil.Process(process.pid)]
    tree += tree[0].children(recursive=True)
    for each in tree:
        each.kill()
    process.wait()
    return len(tree) - 1


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A study that ran through, with one training that has to fail: B of 400."""
    folder = tmp_path_factory.mktemp("through")
    write_recordings(folder / "recordings")
    grid = [GRID, {"N": [1], "B": [400], "L": [64]}]
    study = study_of(folder, grid=grid, splits={"count": 2, "ratios": "3/3/1"})
    assert start(study).wait(240) == 1, (folder / "out.log").read_text()
    yield study, learned(study)


def test_one_training_that_fails_does_not_stop_the_others(through: tuple[Path, Any]) -> None:
    study, _ = through
    found = status(study)
    failed = [entry for entry in found.values() if entry["state"] == "failed"]
    assert [f["id"] for f in failed] == [f"toy-N1-B400-L64-fold{fold}-seed0" for fold in (0, 1)]
    assert all("sequences" in f["why"] and "400" in f["why"] for f in failed)
    assert sum(entry["state"] == "finished" for entry in found.values()) == 8
    assert "8 of 10 trainings" in (study.parent / "study" / "report" / "report.md").read_text()
    text = call("status", study)
    assert "10 trainings: 8 finished, 2 failed" in text and "study retry" in text


def test_retry_clears_failures_and_nothing_finished_is_repeated(through: tuple[Path, Any]) -> None:
    study, before = through
    folder = StudyFolder(read_study(study))
    assert call("retry", study).startswith("2 trainings will be tried again")
    assert {e["state"] for e in status(study).values()} == {"finished", "waiting"}
    dates = {p: p.stat().st_mtime_ns for p in folder.path.glob("state/*/result.json")}
    assert start(study).wait(120) == 1
    assert all(path.stat().st_mtime_ns == date for path, date in dates.items())
    assert learned(study) == before
    assert len(attempts(folder.state("toy-N1-B400-L64-fold0-seed0"))) == 2
    assert len(attempts(folder.state("toy-N1-B2-L64-fold0-seed0"))) == 1


def test_every_training_is_an_ordinary_run(through: tuple[Path, Any]) -> None:
    study, _ = through
    folder = StudyFolder(read_study(study))
    command = [sys.executable, "-m", "sptmod_dist", "runs", str(folder.runs)]
    shown = subprocess.run(command, env=environment(), capture_output=True, text=True).stdout
    assert shown.count("finished") >= 8 and "toy-N1-B2-L64-fold0-seed0" in shown
    run = folder.run("toy-N2-B4-L64-fold1-seed0")
    assert json.loads((run.path / "evaluation" / "evaluation.json").read_text())["loss"] > 0
    assert any(path.name.endswith(".hparams") for path in run.tensorboard.iterdir())
    sets = sorted(path.name for path in folder.shards.iterdir() if path.is_dir())
    assert sets == ["toy-fold0", "toy-fold1"]


def test_a_study_that_is_killed_at_random_moments_learns_the_same(
    tmp_path: Path, through: tuple[Path, dict[str, str]]
) -> None:
    write_recordings(tmp_path / "recordings")
    study = study_of(tmp_path, grid=GRID, splits={"count": 2, "ratios": "3/3/1"})
    draw, killed = random.Random(), 0
    call("plan", study)  # so that kills come while it trains
    for number in range(4):
        process = start(study)
        time.sleep(draw.uniform(7, 12))
        if process.poll() is not None:
            break
        if number % 2:
            process.kill()  # alone: its trainings are asked to stop by the system
            process.wait()
        else:
            kill_all(process)
        killed += 1
    assert start(study).wait(240) == 0, (tmp_path / "out.log").read_text()
    assert killed and learned(study) == {
        name: lines for name, lines in through[1].items() if "B400" not in name
    }
    assert {entry["state"] for entry in status(study).values()} == {"finished"}


def test_many_workers_share_a_study(tmp_path: Path, through: tuple[Path, dict[str, str]]) -> None:
    write_recordings(tmp_path / "recordings")
    study = study_of(tmp_path, grid=GRID, splits={"count": 2, "ratios": "3/3/1"})
    workers = [start(study, "--worker", log=tmp_path / f"worker{k}.log") for k in range(3)]
    codes = [worker.wait(240) for worker in workers]
    said = [(tmp_path / f"worker{k}.log").read_text() for k in range(3)]
    assert codes == [0, 0, 0], said
    folder = StudyFolder(read_study(study))
    for name, lines in learned(study).items():
        assert lines == through[1][name]
        assert [a["how"] for a in attempts(folder.state(name))] == ["finished"], name
    assert len(learned(study)) == 8
    assert not folder.report.exists()
    call("report", study)
    assert (folder.report / "report.md").exists()


def test_a_signal_stops_after_checkpoints_and_says_so(tmp_path: Path) -> None:
    write_recordings(tmp_path / "recordings")
    study = study_of(tmp_path, grid={"B": [2, 4], "L": [64]}, splits="given")
    about = yaml.safe_load(study.read_text())
    about["settings"]["stopping"] = {"max_iterations": 100_000}
    study.write_text(yaml.safe_dump(about, sort_keys=False))
    process = start(study, "--worker", "--jobs", "2")
    runs = StudyFolder(read_study(study)).runs
    deadline = time.monotonic() + 90
    while len(list(runs.glob("*/metrics.jsonl"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGUSR2)  # SIGUSR1, which SLURM sends, comes in tests/slurm
    assert process.wait(60) == 85
    found = status(study)
    assert {entry["state"] for entry in found.values()} == {"begun"}
    assert all(entry["iteration"] > 0 for entry in found.values())
    assert all((run / "requeue").exists() for run in runs.iterdir())
    assert (tmp_path / "out.log").read_text().count(": stopped\n") == 2
