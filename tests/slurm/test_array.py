"""A study as a job array of a real SLURM: its workers share it, and one of them is requeued."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import environment
from slurm.cluster import Cluster
from slurm.jobs import Jobs
from study.made_results import study_of
from toy import write_recordings

from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.study_file import read_study

pytestmark = [pytest.mark.system, pytest.mark.timeout(280)]
SMALL = {"splits": {"count": 2, "ratios": "3/3/1"}, "grid": {"N": [1, 2], "B": [2, 4], "L": [64]}}


def call(action: str, study: Path, *options: str) -> str:
    command = [sys.executable, "-m", "sptmod_dist", "study", action, str(study), *options]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def standing(study: Path) -> list[dict[str, Any]]:
    return list(json.loads(call("status", study, "--json")))


def test_the_workers_of_an_array_train_a_study_to_its_report(
    cluster: Cluster, tmp_path: Path
) -> None:
    write_recordings(tmp_path / "recordings")
    study = study_of(tmp_path, **SMALL)
    jobs = Jobs(cluster, tmp_path)
    job = jobs.submit("study", "--workers", "3", str(study))
    tasks = [f"{job}_{number}" for number in (1, 2, 3)]
    folder = StudyFolder(read_study(study))
    jobs.wait(tasks[0], lambda: any(folder.runs.glob("*/metrics.jsonl")), 120, "study")
    cluster.call("scancel", "--batch", "--signal=USR1", tasks[0])
    jobs.wait(tasks[0], lambda: "start 2" in jobs.log(tasks[0], "study"), 120, "study")
    for task in tasks:
        assert jobs.ended(task, 200) == "COMPLETED", jobs.log(task, "study")
    assert "goes back into the queue" in jobs.log(tasks[0], "study")
    found = standing(study)
    assert len(found) == 8 and {entry["state"] for entry in found} == {"finished"}
    call("report", study)
    assert (folder.report / "report.md").exists()
