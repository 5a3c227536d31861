"""What the doctor makes of what it was told: every fault by its sentence, with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sptmod_dist.slurm.checks import Cluster, Finding, Told, of_cluster, of_nodes
from sptmod_dist.slurm.doctor import said
from sptmod_dist.slurm.site import Site

PARTITION = {"Default": "YES", "State": "UP", "MaxTime": "2-00:00:00", "PreemptMode": "REQUEUE"}
Lines = list[dict[str, Any]]


def cluster(version: str = "23.02.6", settings: Any = None, **changes: str) -> Cluster:
    partitions = {"gpu": {**PARTITION, **changes}}
    return Cluster(version, {"KillWait": "30 sec", **(settings or {})}, partitions, ["23.02.6"])


def healthy(gpus: int = 0) -> Lines:
    """What two nodes say where all is well."""
    lines: Lines = [{"kind": "warned"}, {"kind": "requeued"}]
    for rank, node in enumerate(("n1", "n2")):
        same = {"node": node, "rank": rank}
        versions = {"sptmod_dist": "0.1.0", "torch": "2.13.0", "python": "3.11.7"}
        cuda = {"cuda": "12.6", "gpus": gpus, "gpus_given": gpus, "names": ["H100"] * gpus}
        lines.append({"kind": "versions", **same, "time": 1000.0 + rank, **versions, **cuda})
        speed = {"seconds": 0.001, "megabytes": 4, "backend": "gloo"}
        lines.append({"kind": "network", **same, "sum": 3.0, "expected": 3.0, **speed})
        folder = {"folder": "/runs", "seen": True, "locked": True}
        lines.append({"kind": "folder", **same, **folder})
        lines.append({"kind": "signal", **same, "heard": True})
    return lines


def bad(findings: Any) -> list[str]:
    return [finding.sentence for finding in findings if not finding.ok]


@pytest.mark.parametrize("gpus", [0, 4])
def test_where_all_is_well_nothing_is_to_mend(gpus: int) -> None:
    site = Site(partition="gpu", time="24:00:00")
    findings: list[Finding] = [
        *of_cluster(cluster(), site, site.time),
        *of_nodes(Told(healthy(gpus), 2, gpus, {"torch": "2.13.0"})),
    ]
    assert bad(findings) == []
    assert len(findings) == 14


CLUSTERS: dict[str, tuple[Cluster, Site, str]] = {
    "old": (cluster("19.05.5"), Site(), "need 20.11 or newer"),
    "no such": (cluster(), Site(partition="gp"), "there is no partition gp: set partition"),
    "no default": (cluster(Default="NO"), Site(), "no partition is the default: set partition"),
    "drained": (cluster(State="DRAIN"), Site(), "the partition gpu is DRAIN"),
    "too long": (cluster(), Site(time="3-0"), "time is 3-0, but the partition gpu allows 2-00"),
    "too short": (cluster(DefaultTime="00:03:00"), Site(), "set time in the site file"),
    "in a hurry": (cluster(settings={"KillWait": "5 sec"}), Site(), "has 5 s for its checkpoint"),
    "cancelled": (cluster(PreemptMode="CANCEL"), Site(), "a job that is preempted is cancelled"),
}


@pytest.mark.parametrize("case", CLUSTERS)
def test_a_cluster_that_will_not_do_is_told_what_to_do(case: str) -> None:
    about, site, sentence = CLUSTERS[case]
    found = bad(of_cluster(about, site, site.time))
    assert len(found) == 1 and sentence in found[0]


def on(kind: str, rank: int, **changes: Any) -> Callable[[Lines], Lines]:
    """One line is another; a fault takes the place of what would have been found."""

    def change(lines: Lines) -> Lines:
        for line in lines:
            if line["kind"] == kind and line.get("rank", 0) == rank:
                if "fault" in changes:
                    for key in set(line) - {"kind", "node", "rank", "time", "gpus_given", "folder"}:
                        del line[key]
                line.update(changes)
        return lines

    return change


def without(kind: str, rank: int = 0) -> Callable[[Lines], Lines]:
    return lambda lines: [x for x in lines if (x["kind"], x.get("rank", 0)) != (kind, rank)]


FAULTS: dict[str, tuple[Callable[[Lines], Lines], int, str]] = {
    "python": (without("versions", 1), 0, "python ran on 1 of 2 nodes: python in the site file"),
    "import": (on("versions", 1, fault="No module"), 0, "n2 cannot import torch and sptmod-dist"),
    "version": (on("versions", 1, torch="2.11"), 0, "torch is not the same everywhere (n1: 2.13.0"),
    "no gpus": (on("versions", 0, gpus_given=0, gpus=0), 4, "n1: 4 GPUs were asked for and SLURM"),
    "cpu build": (on("versions", 0, cuda=None, gpus=0), 4, "n1: SLURM gave 4 GPUs, but this torch"),
    "driver": (on("versions", 0, gpus=0), 4, "n1: SLURM gave 4 GPUs, but torch sees 0"),
    "others'": (on("versions", 0, gpus=8), 4, "add --exclusive to sbatch in the site file"),
    "clock": (on("versions", 1, time=1500.0), 0, "the nodes' clocks are 500 s apart"),
    "wall": (on("network", 1, fault="timeout"), 0, "n2 does not reach the others (timeout): name"),
    "sum": (on("network", 1, sum=2.0), 0, "n2 got a wrong sum over gloo"),
    "slow": (on("network", 1, seconds=4.0), 0, "all-reduce over 2 nodes by gloo: 1 MB/s, which is"),
    "lost": (without("network", 1), 0, "only 1 of 2 nodes met in an all-reduce"),
    "not shared": (on("folder", 1, seen=False), 0, "n2 does not see in /runs what another node"),
    "no locks": (on("folder", 1, locked=False), 0, "locks in /runs do not reach from node to node"),
    "read-only": (on("folder", 0, fault="OSError"), 0, "n1 cannot write to /runs (OSError)"),
    "deaf": (on("signal", 1, heard=False), 0, "reached 1 of 2 nodes: a container must hand"),
    "no warning": (without("warned"), 0, "did not reach the job's script"),
    "no requeue": (without("requeued"), 0, "could not put itself back into the queue"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_every_fault_of_the_nodes_has_one_sentence_with_its_remedy(case: str) -> None:
    change, gpus, sentence = FAULTS[case]
    found = bad(of_nodes(Told(change(healthy(gpus)), 2, gpus)))
    assert len(found) == 1 and sentence in found[0]


def test_of_a_log_only_the_probes_whole_lines_count() -> None:
    text = 'noise\nPROBE {"kind": "warned"}\nPROBE {"kind": "sig\nPROBE {"kind": "end"}\n'
    assert said(text) == [{"kind": "warned"}, {"kind": "end"}]
