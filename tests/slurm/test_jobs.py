"""Trainings as jobs of a real SLURM: over two nodes, preempted, warned, with a node that dies."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from faults.runs_apart import differences
from processes import ROOT, torchrun
from slurm.cluster import Cluster
from slurm.jobs import Jobs
from toy import make_toy, toy_config, write_config
from variants import EXACT

from sptmod_dist.train.main import train
from sptmod_dist.train.run_folder import RunFolder

pytestmark = [pytest.mark.system, pytest.mark.timeout(280)]
HOSTILE = "-it's $HOME `q` \"q\"\nnew %j;&|*\\.yaml"
LONG = {
    "stopping": {"max_iterations": 240},
    "validation": {"every": 120},
    "checkpoint": {"groups": 5},
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    make_toy(folder)
    return folder


@pytest.fixture(scope="module")
def through(toy: Path) -> Path:
    """A training of two processes that nothing disturbed."""
    config = str(write_config(toy, name="through", **LONG))
    done = torchrun(2, str(ROOT / "launch" / "train.py"), "--config", config)
    assert done.returncode == 0, done.stderr
    return toy / "runs" / "through"


def test_two_nodes_train_as_one_process_does(cluster: Cluster, toy: Path) -> None:
    """Their settings stand in a file with the worst of names."""
    config = write_config(toy, **EXACT).rename(toy / HOSTILE)
    jobs = Jobs(cluster, toy)
    job = jobs.submit("train", "--nodes", "2", "--", f"--config={config}", "--name=nodes")
    train(toy_config(toy, **EXACT, name="alone"))
    assert jobs.ended(job) == "COMPLETED", jobs.log(job)
    assert "2 processes on cpu" in jobs.log(job)
    assert (toy / "logs" / f"sptmod-train-{job}-rank1.log").exists()
    one, two = (RunFolder(toy / "runs" / n).last_checkpoint()[1] for n in ("alone", "nodes"))
    for a, b in ((one.weights, two.weights), (one.moments, two.moments)):
        assert set(a) == set(b)
        assert max((a[key] - b[key]).abs().max().item() for key in a) <= 1e-12


def test_preempted_and_warned_it_goes_on_as_if_nothing_had_been(
    cluster: Cluster, toy: Path, through: Path
) -> None:
    """A job of a better partition takes both nodes; later the warning comes, as before the end."""
    config = str(write_config(toy, name="stopped", **LONG))
    jobs, run = Jobs(cluster, toy), RunFolder(toy / "runs" / "stopped")
    job = jobs.submit("train", "--nodes", "2", "--", "--config", config)
    jobs.further(job, run)
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive"]
    cluster.call(*urgent, "--output=/dev/null", "--wrap=true")
    jobs.wait(job, lambda: "start 2" in jobs.log(job), 90)
    jobs.further(job, run)
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    assert jobs.ended(job) == "COMPLETED", jobs.log(job)
    log = jobs.log(job)
    assert "start 3" in log and "SLURM's warning" in log
    assert all(
        f"continuing from {run.checkpoints}/step-{int(at):08d}" in log
        for at in re.findall(r"stopped at iteration (\d+)", log)
    )
    assert log.count("stopped at iteration") == 2
    assert not differences(through, run.path)


def test_the_end_of_its_time_requeues_it_and_scancel_ends_it(cluster: Cluster, toy: Path) -> None:
    config = str(write_config(toy, name="endless", **LONG))
    jobs, run = Jobs(cluster, toy, warning=59), RunFolder(toy / "runs" / "endless")
    options = ["--time", "2", "--", "--config", config, "--stopping.max_iterations=1000000"]
    job = jobs.submit("train", *options)
    jobs.wait(job, lambda: "continuing from" in jobs.log(job), 150)
    log = jobs.log(job)
    at = log.partition("stopped at iteration ")[2].split(";")[0]
    assert f"continuing from {run.checkpoints}/step-{int(at):08d}" in log
    cluster.call("scancel", job)
    assert jobs.ended(job) == "CANCELLED"
    time.sleep(3)
    assert jobs.state(job) == "CANCELLED" and "start 3" not in jobs.log(job)
    assert (run.status() or {})["state"] == "preempted"


def test_a_job_that_cannot_get_further_is_not_started_again(cluster: Cluster, toy: Path) -> None:
    config = str(write_config(toy, name="broken", **LONG))
    jobs = Jobs(cluster, toy)
    job = jobs.submit("train", "--nodes=2", "--", "--config", config, "--data.train=/missing")
    assert jobs.ended(job) == "FAILED"
    assert "/missing" in jobs.log(job) and "mend what the log says" in jobs.log(job)


def test_nodes_that_die_are_waited_for(cluster: Cluster, toy: Path, through: Path) -> None:
    """The second one, then the first, on which the job's script runs."""
    config = str(write_config(toy, name="dead", **LONG))
    jobs, run = Jobs(cluster, toy), RunFolder(toy / "runs" / "dead")
    job = jobs.submit("train", "--nodes", "2", "--", "--config", config)
    for start, dead in enumerate(("nodeb", "nodea"), 2):
        jobs.further(job, run)
        cluster.kill_node(dead)
        jobs.wait(job, lambda: jobs.state(job) == "PENDING", 120)
        cluster.start_node(dead)
        jobs.wait(job, lambda start=start: f"start {start}" in jobs.log(job), 90)  # type: ignore[misc]
    assert jobs.ended(job) == "COMPLETED", jobs.log(job)
    assert jobs.log(job).count("continuing from") >= 2  # a node that comes back late breaks a step
    assert not {"weights", "moments"} & set(differences(through, run.path))
