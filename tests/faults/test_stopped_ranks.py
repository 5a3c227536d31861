"""One rank is asked to stop: all do, and none leaves before everything is written.

A launcher ends the other processes as soon as one has left.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import ROOT, torchrun
from toy import make_toy, write_config

from sptmod_dist.train.run_folder import RunFolder

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.mark.parametrize("rank", [0, 1])
def test_all_stop_and_wait_for_the_one_that_writes(tmp_path: Path, rank: int) -> None:
    make_toy(tmp_path)
    config, notes = write_config(tmp_path, name="stopped"), tmp_path / "notes"
    program = str(ROOT / "tests" / "faults" / "stopped_rank.py")
    done = torchrun(2, program, str(rank), str(notes), "--config", str(config), limit=90)
    assert done.returncode != 0
    run = RunFolder(tmp_path / "runs" / "stopped")
    assert run.newest_checkpoint().name == "step-00000012", done.stderr  # type: ignore[union-attr]
    assert notes.read_text().split() == ["written", "left"]
    assert (run.path / "requeue").exists()
