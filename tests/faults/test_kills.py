"""Processes killed at random moments: a resumed training ends as if nothing had happened.

Every tenth of the faults of `make faults` (SPTMOD_FAULTS=200) is in CI's six.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.faulty_training import NOTES, STEPS
from faults.runs_apart import differences
from processes import ROOT, torchrun
from toy import make_toy, write_config

from sptmod_dist.train.run_folder import RunFolder

pytestmark = pytest.mark.system
PROGRAM = str(ROOT / "tests" / "faults" / "faulty_training.py")
KINDS = ("kill-one", "kill-writing", "kill-all", "term")
COUNT = int(os.environ.get("SPTMOD_FAULTS", "6"))
FAULTS = [(KINDS[number % len(KINDS)], number) for number in range(COUNT)]
SETTINGS = {
    "checkpoint": {"groups": 2, "keep_epochs": 2},
    "validation": {"every": 20},
    "stopping": {"max_iterations": 120},
    "monitor": {"every": 7},
}


class Trainings:
    """The training without a fault, and those with one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seconds, self.steps = folder, 0.0, 0
        self.table: list[tuple[str, int, int, list[str]]] = []
        make_toy(folder)
        assert self.run("whole", "nothing") == 0
        notes = self.notes("whole")
        self.seconds, self.steps = float(notes["seconds"][-1]), int(float(notes["steps"][-1]))
        assert self.steps > 300, "checkpoints are written by steps that are seen"

    def run(self, name: str, how: str, seed: int = 0) -> int:
        config = write_config(self.folder, name=name, **SETTINGS)
        result = torchrun(
            2, PROGRAM, how, str(seed), str(self.seconds), str(config), "--resume", "auto",
            limit=110, **{NOTES: str(self.folder / name), STEPS: str(self.steps)},
        )
        return result.returncode

    def notes(self, name: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in (self.folder / name).read_text().splitlines():
            key, value = line.split()
            found.setdefault(key, []).append(value)
        return found

    def lost(self, name: str) -> int:
        """Groups that were trained twice."""
        at = [int(value) for value in self.notes(name).get("at", [])]
        return len(at) - len(set(at))


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    trainings = Trainings(tmp_path_factory.mktemp("faults"))
    yield trainings
    print("\n\n| what happened | faults | groups trained again | at most | differing runs |")
    print("|---|---:|---:|---:|---:|")
    for kind in KINDS:
        rows = [row for row in trainings.table if row[0] == kind]
        lost = [row[2] for row in rows]
        different = sum(bool(row[3]) for row in rows)
        print(f"| {kind} | {len(rows)} | {sum(lost)} | {max(lost, default=0)} | {different} |")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("how", "seed"), FAULTS)
def test_after_a_fault_the_training_ends_as_if_nothing_had_happened(
    trainings: Trainings, how: str, seed: int
) -> None:
    name = f"{how}-{seed}"
    code, run = trainings.run(name, how, seed), RunFolder(trainings.folder / "runs" / name)
    if how == "term" and code != 0:  # it may have come after the end
        assert (run.path / "requeue").exists() and run.status()["state"] == "preempted"  # type: ignore[index]
    if code != 0:
        assert run.summary() is None
        assert trainings.run(name, "nothing") == 0
    different = differences(trainings.folder / "runs" / "whole", run.path)
    lost = trainings.lost(name)
    trainings.table.append((how, seed, lost, different))
    assert different == []
    assert lost <= (0 if how == "term" else 2)
