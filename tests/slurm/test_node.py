"""A node's part of a job: the launcher's command line from SLURM's variables, a rank's arguments
and log, and the verdict on a training that ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import environment
from slurm.test_scripts import HOSTILE
from toy import write_config

from sptmod_dist.errors import UserError
from sptmod_dist.slurm.node import RANK_LOGS, check_head, read_work, torchrun, variables
from sptmod_dist.slurm.rank import going_on
from sptmod_dist.slurm.verdict import FAILED, FINISHED, REQUEUE, note_run, verdict

SECOND = {"SLURM_JOB_ID": "31234", "SLURM_NODEID": "1", "SLURM_STEP_NUM_NODES": "2"}
WORDS = ["--head", "n1", "--logs", "/lo gs", "--processes", "4", "--", *HOSTILE]


def test_the_launchers_line_comes_from_slurms_variables() -> None:
    line = torchrun(read_work(WORDS, {}), SECOND)
    assert line[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert line[3:9] == [
        "--nnodes=2",
        "--node_rank=1",
        "--nproc_per_node=4",
        "--master_addr=n1",
        "--master_port=21234",
        "--max_restarts=0",
    ]
    assert line[9:] == ["-m", "sptmod_dist.slurm.rank", *HOSTILE]


@pytest.mark.parametrize(("given", "processes"), [({}, 1), ({"SLURM_GPUS_ON_NODE": "8"}, 8)])
def test_by_hand_there_is_a_process_a_gpu_or_one(given: dict[str, str], processes: int) -> None:
    words = ["--head", "n1", "--logs", ".", "--processes", "", "--", "--config", "a"]
    assert read_work(words, given).processes == processes


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ({"SLURM_CPUS_PER_TASK": "8"}, "2"),
        ({"SLURM_CPUS_ON_NODE": "2"}, "1"),
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_GPUS_ON_NODE": "4"}, "1"),
        ({"SLURM_CPUS_PER_TASK": "8", "OMP_NUM_THREADS": "3"}, "3"),
    ],
)
def test_processes_divide_the_cores(given: dict[str, str], threads: str) -> None:
    found = variables(read_work(WORDS, {}), {**SECOND, "SLURM_JOB_NAME": "x", **given})
    assert found["OMP_NUM_THREADS"] == threads
    assert found[RANK_LOGS] == "/lo gs/x-31234"


def test_a_first_node_that_nobody_knows_is_a_sentence() -> None:
    with pytest.raises(UserError, match="does not know the first node no.such.node.invalid"):
        check_head("no.such.node.invalid")


def test_a_training_always_goes_on_where_its_run_stands(tmp_path: Path) -> None:
    config = ["--config", str(write_config(tmp_path))]
    run = tmp_path / "runs" / "toy"
    assert going_on(config) == ([*config, "--resume=auto"], run)
    named = [*config, "--resume", "/elsewhere/step-00000012"]
    assert going_on(named) == (named, run)
    (run / "checkpoints" / "step-00000003").mkdir(parents=True)
    assert going_on(named) == ([*named, "--resume=auto"], run)
    with pytest.raises(UserError, match="at every start of its job"):
        going_on([*config, "--overwrite"])


def rank(number: int, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sptmod_dist.slurm.rank", *words],
        env=environment(RANK=str(number), **{RANK_LOGS: str(folder / "x-1")}),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_rank_speaks_into_its_own_log_and_repeats_its_last_words(tmp_path: Path) -> None:
    config = str(write_config(tmp_path))
    program = f"""
import sys, sptmod_dist.slurm.rank as rank
rank.command_line = lambda argv: print("oh no", file=sys.stderr) or 1
sys.exit(rank.main(["--config", {config!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(RANK="3", **{RANK_LOGS: str(tmp_path / "x-1")}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert (tmp_path / "x-1-rank3.log").read_text() == "oh no\n" == done.stderr
    assert not (tmp_path / "x-1.run").exists()


def test_wrong_settings_are_said_once(tmp_path: Path) -> None:
    first, second = (rank(number, tmp_path, "--config", "missing.yaml") for number in (0, 1))
    assert first.returncode == second.returncode == 2
    assert "missing.yaml: cannot be read" in first.stderr
    assert second.stderr == ""


# The verdict --------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that a job has noted, of before its start."""
    run = tmp_path / "runs" / "it's $HOME"
    (run / "checkpoints" / "step-00000012").mkdir(parents=True)
    (run / "requeue").touch()
    for path in (run / "requeue", run / "checkpoints" / "step-00000012"):
        os.utime(path, (1000, 1000))
    note_run(str(tmp_path / "x-1"), run)
    return run


def judge(run: Path) -> tuple[int, str]:
    return verdict(str(run.parents[1] / "x-1"), since=2000)


def status(run: Path, **facts: Any) -> None:
    (run / "status.json").write_text(json.dumps(facts))


def test_a_run_that_got_no_further_is_not_started_again(run: Path) -> None:
    status(run, state="failed")
    code, why = judge(run)
    assert code == FAILED and "broke off before it got any further" in why


def test_a_finished_run_is_finished_whatever_its_launcher_says(run: Path) -> None:
    (run / "summary.json").touch()
    assert judge(run)[0] == FINISHED


def test_a_run_that_was_asked_to_stop_is_started_again(run: Path) -> None:
    (run / "requeue").touch()
    assert judge(run)[0] == REQUEUE


def test_a_run_that_broke_off_is_started_again_where_it_got_further(run: Path) -> None:
    status(run, state="running")
    (run / "checkpoints" / "step-00000015").mkdir()
    code, why = judge(run)
    assert code == REQUEUE and "got as far as step-00000015" in why


@pytest.mark.parametrize("name", ["damaged-step-00000015", ".step-00000018.partial"])
def test_what_is_damaged_or_half_written_does_not_count(run: Path, name: str) -> None:
    (run / "checkpoints" / name).mkdir()
    assert judge(run)[0] == FAILED


def test_a_run_that_diverged_is_left_to_its_user(run: Path) -> None:
    (run / "checkpoints" / "step-00000015").mkdir()
    status(run, state="diverged")
    assert judge(run)[0] == FAILED


def test_a_training_that_did_not_begin_is_not_started_again(tmp_path: Path) -> None:
    assert verdict(str(tmp_path / "x-1"), since=time.time())[0] == FAILED


def test_the_verdict_comes_at_once() -> None:
    """The job's time is almost over: no torch."""
    code = "import sys, sptmod_dist.slurm.verdict, sptmod_dist.slurm.node as n; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0
