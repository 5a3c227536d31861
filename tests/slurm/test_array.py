"""The smoke study as a job array of a real SLURM: its workers share it, one is warned, and a node
dies with those that it has."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import ROOT, environment
from slurm.cluster import Cluster
from slurm.jobs import Jobs

from sptmod_dist.study.claims import attempts
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.study_file import read_study

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
TASKS = 4  # as many as fill both nodes, so that what a dead node had comes back to it


def call(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def smoke_study(place: Path) -> Path:
    """`study_smoke.yaml` with everything in one place, and its recordings."""
    about = yaml.safe_load((ROOT / "launch" / "configs" / "study_smoke.yaml").read_text())
    about["folder"] = str(place / "study")
    about["datasets"]["toy"]["manifest"] = str(place / "recordings" / "manifest.yaml")
    path = place / "study.yaml"
    path.write_text(yaml.safe_dump(about))
    call(str(ROOT / "launch" / "study_smoke.py"), "--study", str(path), "--recordings")
    return path


def study(action: str, path: Path, *options: str) -> str:
    return call("-m", "sptmod_dist", "study", action, str(path), *options)


def test_an_array_trains_the_smoke_study_to_its_report_through_a_warning_and_a_dead_node(
    cluster: Cluster, tmp_path: Path
) -> None:
    path = smoke_study(tmp_path)
    jobs, folder = Jobs(cluster, tmp_path), StudyFolder(read_study(path))
    job = jobs.submit("study", "--workers", str(TASKS), str(path))
    tasks = [f"{job}_{number}" for number in range(1, TASKS + 1)]
    jobs.wait(tasks[0], lambda: any(folder.runs.glob("*/metrics.jsonl")), 120, "study")
    time.sleep(random.uniform(0, 4))
    cluster.call("scancel", "--batch", "--signal=USR1", tasks[0])
    jobs.wait(tasks[0], lambda: "goes back" in jobs.log(tasks[0], "study"), 60, "study")
    time.sleep(random.uniform(0, 4))
    cluster.kill_node("nodeb")
    jobs.wait(tasks[0], lambda: any("down" in state for state in cluster.states()), 60, "study")
    cluster.start_node("nodeb")
    for task in tasks:
        assert jobs.ended(task, 300) == "COMPLETED", jobs.log(task, "study")
    starts = [jobs.log(task, "study").count(", start ") for task in tasks]
    assert sum(starts) > TASKS + 1, starts  # the one that was warned, and at least one of the dead
    found: list[dict[str, Any]] = json.loads(study("status", path, "--json"))
    assert len(found) == 24 and {entry["state"] for entry in found} == {"finished"}
    for entry in found:
        ends = [attempt.get("how") for attempt in attempts(folder.state(entry["id"]))]
        assert ends.count("finished") == 1 and ends[-1] == "finished", (entry["id"], ends)
    study("report", path)
    assert "24 of 24" in (folder.report / "report.md").read_text()
