"""The doctor in a real SLURM that is well, and in one whose folder is not shared; TensorBoard."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from processes import environment
from slurm.cluster import Cluster
from slurm.jobs import Jobs

pytestmark = [pytest.mark.system, pytest.mark.timeout(280)]


def doctor(cluster: Cluster, folder: Path, runs: Path) -> subprocess.CompletedProcess[str]:
    Jobs(cluster, folder)
    command = [sys.executable, "-m", "sptmod_dist", "slurm", "doctor", "--folder", str(runs)]
    return subprocess.run(
        [*command, "--site", str(folder / "site.yaml")],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(**cluster.variables, CUDA_VISIBLE_DEVICES=""),
    )


def test_a_cluster_that_is_well_has_nothing_to_mend(cluster: Cluster, tmp_path: Path) -> None:
    done = doctor(cluster, tmp_path, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MEND" not in done.stdout
    for words in ("all-reduce over 2 nodes by gloo", "shared by the nodes, with locks", "requeue"):
        assert words in done.stdout.lower()
    assert "a job can put itself back into the queue, and starts again" in done.stdout


def test_a_folder_that_each_node_has_for_itself_is_found_out(
    cluster: Cluster, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    cluster.kill_node("nodeb")
    cluster.start_node("nodeb", before=f"mount -t tmpfs none {alone}")
    try:
        done = doctor(cluster, tmp_path, alone)
    finally:
        cluster.kill_node("nodeb")
        cluster.start_node("nodeb")
    assert done.returncode == 1
    (found,) = [line for line in done.stdout.splitlines() if line.startswith("MEND")]
    assert found == (
        f"MEND  nodeb does not see in {alone} what another node wrote: put runs, shards and logs "
        "on a disk that all nodes share"
    )


def test_tensorboard_answers_where_its_ssh_line_points(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "my runs").mkdir()
    jobs = Jobs(cluster, tmp_path, login="me@login")
    said = jobs.slurm("tensorboard", str(tmp_path / "my runs"), limit=150)
    line = next(line.strip() for line in said.splitlines() if "ssh -N" in line)
    _, _, _, forward, login = line.split()
    _, node, port = forward.split(":")
    job = said.partition("scancel ")[2].split("`")[0]
    assert (login, node) == ("me@login", "nodea")
    address = dict(reversed(x.split()) for x in (cluster.base / "hosts").read_text().splitlines())

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{address[node]}:{port}", timeout=5) as page:
                return page.status == 200
        except OSError:
            return False

    jobs.wait(job, answers, 90, "tensorboard")
    cluster.call("scancel", job)
    assert jobs.ended(job) == "CANCELLED"
