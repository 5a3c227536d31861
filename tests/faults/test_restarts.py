"""torchrun that starts failed processes anew, or goes on with fewer of them: training goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from faults.runs_apart import differences
from processes import ROOT, end, environment, run, torchrun
from toy import make_toy, write_config

from sptmod_dist.train.run_folder import RunFolder

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
PROGRAM = str(ROOT / "tests" / "faults" / "dying_once.py")
FRESH = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Else processes that were started anew find the addresses of those before them, now and then."""
TRAIN = str(ROOT / "launch" / "train.py")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("restarts")
    make_toy(folder)
    done = torchrun(2, TRAIN, "--config", str(write_config(folder, name="whole")), limit=110)
    assert done.returncode == 0, done.stderr
    return folder


def restarting(config: Path, *asked: str, program: str = PROGRAM) -> CompletedProcess[str]:
    """Two processes that torchrun starts anew, twice at most."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    rendezvous = ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", "--max_restarts=2"]
    command = [*launcher, *rendezvous, program, "--config", str(config), *asked]
    return run(command, limit=150, **FRESH)


@pytest.mark.parametrize("asked", [[], ["--overwrite"], ["--resume", "auto"]], ids=str)
def test_processes_that_are_started_anew_go_on_from_the_last_checkpoint(
    toy: Path, asked: list[str]
) -> None:
    name = f"anew{''.join(asked)}"
    if "--overwrite" in asked:
        shutil.copytree(toy / "runs" / "whole", toy / "runs" / name)
    done = restarting(write_config(toy, name=name, checkpoint={"groups": 1}), *asked)
    assert done.returncode == 0, done.stderr
    assert "continuing from" in done.stderr and "step-00000012" in done.stderr
    found = differences(toy / "runs" / "whole", toy / "runs" / name)
    assert not {"weights", "moments", "TensorBoard"} & set(found)


def test_they_go_on_under_the_name_that_a_checkpoint_was_taken_up_by(toy: Path) -> None:
    start = {"stopping": {"max_iterations": 6}, "validation": {"every": 1000}}
    config = write_config(toy, name="first", **start)
    assert torchrun(2, TRAIN, "--config", str(config), limit=110).returncode == 0
    config = write_config(toy, name="second", checkpoint={"groups": 1})
    path = toy / "runs" / "first" / "checkpoints" / "step-00000006"
    done = restarting(config, "--resume", str(path))
    assert done.returncode == 0, done.stderr
    assert f"continuing from {path}" in done.stderr
    assert f"continuing from {toy / 'runs' / 'second'}" in done.stderr


def test_a_run_that_was_refused_is_not_touched_by_the_next_attempts(toy: Path) -> None:
    name = "refused"
    shutil.copytree(toy / "runs" / "whole", toy / "runs" / name)
    before = (toy / "runs" / name / "metrics.jsonl").read_text()
    config = write_config(toy, name=name, stopping={"max_iterations": 30})
    done = restarting(config, program=TRAIN)
    assert done.returncode != 0 and "continue it with --resume" in done.stderr
    assert (toy / "runs" / name / "metrics.jsonl").read_text() == before
    assert RunFolder(toy / "runs" / name).summary() is not None


def agent(port: int, mark: str, *command: str) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1:2"]
    launcher += ["--nproc_per_node=1", "--max_restarts=3", "--rdzv_id=elastic"]
    launcher += ["--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{port}"]
    launcher += ["--rdzv_conf=join_timeout=60,last_call_timeout=3"]
    return subprocess.Popen(
        [*launcher, *command],
        cwd=ROOT,
        env=environment(SPTMOD_TEST=mark, **FRESH),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_node_that_is_lost_leaves_a_training_that_the_other_ends(toy: Path) -> None:
    """Two nodes of one process each; the second dies with its launcher."""
    changes = {"stopping": {"max_iterations": 3000}, "checkpoint": {"groups": 20}}
    config = write_config(toy, name="elastic", validation={"every": 1500}, **changes)
    mark, port = uuid.uuid4().hex, 29_000 + os.getpid() % 900
    command = [TRAIN, "--config", str(config), "--resume", "auto"]
    run_folder = RunFolder(toy / "runs" / "elastic")
    try:
        first = agent(port, mark, *command)
        time.sleep(1)  # the first holds the meeting place
        second = agent(port, mark, *command)
        deadline = time.monotonic() + 90
        while run_folder.newest_checkpoint() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert run_folder.status()["processes"] == 2  # type: ignore[index]
        for pid in [*_children(second.pid), second.pid]:
            os.kill(pid, signal.SIGKILL)
        _, said = first.communicate(timeout=150)
    finally:
        end(f"SPTMOD_TEST={mark}")
    assert first.returncode == 0, said
    status = run_folder.status()
    assert status["state"] == "finished" and status["processes"] == 1  # type: ignore[index]
    assert "continuing from" in said


def test_a_node_that_joins_a_training_that_overwrites_goes_on_with_it(toy: Path) -> None:
    """All processes are started anew then, as if nothing had failed."""
    shutil.copytree(toy / "runs" / "whole", toy / "runs" / "joined")
    changes = {"stopping": {"max_iterations": 100_000}, "checkpoint": {"groups": 10}}
    config = write_config(toy, name="joined", validation={"every": 100_000}, **changes)
    mark, port = uuid.uuid4().hex, 29_000 + (os.getpid() + 450) % 900
    command, run_folder = [TRAIN, "--config", str(config), "--overwrite"], toy / "runs" / "joined"

    def until(processes: int, iteration: int) -> int:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            status = RunFolder(run_folder).status() or {}
            if status.get("processes") == processes and status["iteration"] > iteration:
                return int(status["iteration"])
            time.sleep(0.1)
        raise AssertionError(f"not {processes} processes past {iteration}")

    try:
        agent(port, mark, *command)
        alone = until(1, 60)
        agent(port, mark, *command)
        assert until(2, alone) > alone
        assert "whole" not in (run_folder / "config.yaml").read_text()
    finally:
        end(f"SPTMOD_TEST={mark}")


def _children(parent: int) -> list[int]:
    """A launcher's processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found
