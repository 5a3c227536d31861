"""What the doctor makes of what it was told: each finding one sentence, and where something is to
mend, how. Nothing is asked or run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sptmod_dist.slurm.site import Site, seconds_of

OLDEST = (20, 11)
"""SLURM from then on has `srun --overlap`."""
_SLOW = 10.0  # megabytes a second; a step exchanges half a megabyte
_CLOCKS = 60.0  # seconds by which nodes may differ: studies tell the dead by their dates
_KILL_WAIT = 20  # seconds that a checkpoint should have

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    ok: bool
    sentence: str


@dataclass(frozen=True)
class Cluster:
    """What its controller says."""

    version: str
    settings: Mapping[str, str]
    partitions: Mapping[str, Mapping[str, str]]
    node_versions: Sequence[str] = ()


@dataclass(frozen=True)
class Told:
    """What the job on the nodes said."""

    lines: Sequence[Line]
    nodes: int
    gpus: int = 0
    """Asked for, on each node."""
    here: Mapping[str, str] = field(default_factory=dict)
    """Versions where the doctor runs."""

    def of(self, kind: str) -> list[Line]:
        """The lines of one kind, by rank."""
        return sorted((x for x in self.lines if x["kind"] == kind), key=lambda x: x.get("rank", 0))


def good(sentence: str) -> Finding:
    """Nothing to mend."""
    return Finding(True, sentence)


def bad(sentence: str) -> Finding:
    """Something to mend, and how."""
    return Finding(False, sentence)


# The cluster ---------------------------------------------------------------------------------


def of_cluster(cluster: Cluster, site: Site, time: str) -> Iterator[Finding]:
    """Version, partition, times, requeue and preemption, as configured."""
    yield _version(cluster)
    name = site.partition or next(
        (n for n, p in cluster.partitions.items() if p.get("Default") == "YES"), ""
    )
    partition = cluster.partitions.get(name)
    if partition is None:
        known = ", ".join(cluster.partitions)
        what = f"there is no partition {name}" if name else "no partition is the default"
        yield bad(f"{what}: set partition in the site file to one of {known}")
        return
    yield from _of_partition(name, partition, site, time)
    yield _kill_wait(cluster.settings)
    mode = partition.get("PreemptMode") or cluster.settings.get("PreemptMode", "OFF")
    if "CANCEL" in mode.upper():
        yield bad(
            f"in the partition {name} a job that is preempted is cancelled (PreemptMode={mode}): "
            "choose a partition that requeues, or submit the same again, it goes on"
        )
    else:
        yield good(f"preemption in the partition {name}: {mode}")


def _version(cluster: Cluster) -> Finding:
    found = re.search(r"(\d+)\.(\d+)", cluster.version)
    nodes = ", ".join(sorted(cluster.node_versions))
    if found and (int(found[1]), int(found[2])) < OLDEST:
        return bad(
            f"SLURM is {cluster.version}, but the scripts need 20.11 or newer: ask the "
            "administrators, or launch by hand as in launch/accelerate/ddp_multinode.yaml"
        )
    return good(f"SLURM {cluster.version}" + (f", on the nodes {nodes}" if nodes else ""))


def _of_partition(
    name: str, partition: Mapping[str, str], site: Site, time: str
) -> Iterator[Finding]:
    state = partition.get("State", "UP")
    if state != "UP":
        yield bad(f"the partition {name} is {state}: choose another in the site file")
    longest, default = partition.get("MaxTime", ""), partition.get("DefaultTime", "NONE")
    asked = time or (longest if default == "NONE" else default)
    most, wanted = seconds_of(longest), seconds_of(asked)
    if most is not None and wanted is not None and wanted > most:
        yield bad(
            f"time is {asked}, but the partition {name} allows {longest}: take less in the site "
            "file, a training goes on in the next job"
        )
    elif wanted is not None and wanted <= site.warning + 60:
        yield bad(
            f"without a time a job has {asked} in the partition {name}, which leaves nothing "
            f"before the warning of {site.warning} s: set time in the site file"
        )
    else:
        yield good(f"partition {name}: {longest} at most, a job gets {asked}")


def _kill_wait(settings: Mapping[str, str]) -> Finding:
    found = re.match(r"\d+", settings.get("KillWait", ""))
    seconds = int(found[0]) if found else 30
    if seconds < _KILL_WAIT:
        return bad(
            f"a preempted training has {seconds} s for its checkpoint (KillWait): set "
            "checkpoint.minutes to what may be lost"
        )
    return good(f"a preempted training has {seconds} s for its checkpoint (KillWait)")


# The nodes -----------------------------------------------------------------------------------


def of_nodes(told: Told) -> Iterator[Finding]:
    """Versions, GPUs, clocks, network, folder and signals, as tried on the nodes."""
    versions = told.of("versions")
    if len(versions) < told.nodes:
        yield bad(
            f"python ran on {len(versions)} of {told.nodes} nodes: python in the site file must "
            "be an interpreter with sptmod-dist that every node sees (or set modules, setup or "
            "container); the doctor's log says what went wrong"
        )
        return
    yield from _of_versions(told, versions)
    for line in versions:
        yield _gpus(line, told.gpus)
    yield _clocks(versions)
    yield from _of_network(told)
    yield from _of_folder(told)
    yield _signal(told)
    yield _requeue(told)


def _of_versions(told: Told, versions: Sequence[Line]) -> Iterator[Finding]:
    for line in versions:
        if "fault" in line:
            yield bad(
                f"{line['node']} cannot import torch and sptmod-dist ({line['fault']}): install "
                "them where python of the site file is, or name the right one"
            )
    for name in ("sptmod_dist", "torch", "python"):
        found = {line["node"]: line[name] for line in versions if name in line}
        found |= {"here": told.here[name]} if name in told.here else {}
        if len(set(found.values())) > 1:
            all_of_them = ", ".join(f"{node}: {version}" for node, version in found.items())
            yield bad(
                f"{name} is not the same everywhere ({all_of_them}): install one version, on a "
                "disk that all nodes share"
            )
        elif found:
            yield good(f"{name} {next(iter(found.values()))} on every node")


def _gpus(line: Line, asked: int) -> Finding:
    node, given, seen = line["node"], line["gpus_given"], line.get("gpus", 0)
    names = ", ".join(sorted(set(line.get("names", ()))))
    if asked and not given:
        return bad(
            f"{node}: {asked} GPUs were asked for and SLURM says nothing of them: set gpu_type, "
            "partition or sbatch (such as --gres=gpu:4) in the site file as the cluster wants it"
        )
    if given and line.get("cuda") is None:
        return bad(
            f"{node}: SLURM gave {given} GPUs, but this torch is built without CUDA: install a "
            "build with CUDA"
        )
    if given and seen < given:
        return bad(
            f"{node}: SLURM gave {given} GPUs, but torch sees {seen}: is the driver older than "
            f"CUDA {line.get('cuda')}, or is --nv missing in container?"
        )
    if given and seen > given:
        return bad(
            f"{node}: SLURM gave {given} GPUs, but torch sees {seen}, also those of other jobs: "
            "add --exclusive to sbatch in the site file"
        )
    if not seen:
        return good(f"{node}: no GPU")
    return good(f"{node}: {seen} GPUs ({names}), CUDA {line['cuda']}")


def _clocks(versions: Sequence[Line]) -> Finding:
    times = [float(line["time"]) for line in versions]
    apart = max(times) - min(times)
    if apart > _CLOCKS:
        return bad(
            f"the nodes' clocks are {apart:.0f} s apart: ask the administrators for NTP; a study's "
            "workers tell by dates who is dead"
        )
    return good("the nodes' clocks agree")


def _of_network(told: Told) -> Iterator[Finding]:
    lines = told.of("network")
    advice = (
        "name the network that joins the nodes in setup, such as `export NCCL_SOCKET_IFNAME=ib0 "
        "GLOO_SOCKET_IFNAME=ib0` (`ip addr` lists them), and see that no firewall stands between"
    )
    faults = [line for line in lines if "fault" in line]
    for line in faults:
        yield bad(f"{line['node']} does not reach the others ({line['fault']}): {advice}")
    wrong = [line for line in lines if "sum" in line and line["sum"] != line["expected"]]
    for line in wrong:
        yield bad(f"{line['node']} got a wrong sum over {line['backend']}: {advice}")
    if len(lines) < told.nodes:
        yield bad(f"only {len(lines)} of {told.nodes} nodes met in an all-reduce: {advice}")
    elif not (faults or wrong):
        rate = min(line["megabytes"] / max(line["seconds"], 1e-9) for line in lines)
        words = f"all-reduce over {len(lines)} nodes by {lines[0]['backend']}: {rate:.0f} MB/s"
        yield good(words) if rate >= _SLOW else bad(f"{words}, which is slow: {advice}")


def _of_folder(told: Told) -> Iterator[Finding]:
    lines = told.of("folder")
    for line in lines:
        if "fault" in line:
            yield bad(
                f"{line['node']} cannot write to {line.get('folder', 'the folder')} "
                f"({line['fault']}): choose one on a disk that all nodes share and may write"
            )
        elif not line["seen"]:
            yield bad(
                f"{line['node']} does not see in {line['folder']} what another node wrote: put "
                "runs, shards and logs on a disk that all nodes share"
            )
        elif not line["locked"]:
            yield bad(
                f"locks in {line['folder']} do not reach from node to node, so two jobs can write "
                "one run: ask for a file system with flock (NFS 4, Lustre mounted with flock), and "
                "never submit a run twice"
            )
    if lines and all(line.get("seen") and line.get("locked") for line in lines):
        yield good(f"{lines[0]['folder']} is shared by the nodes, with locks")


def _signal(told: Told) -> Finding:
    heard = [line["node"] for line in told.of("signal") if line["heard"]]
    if not told.of("warned"):
        return bad(
            "the warning before the end of the time (--signal=B:USR1) did not reach the job's "
            "script: ask the administrators; until then set checkpoint.minutes to what may be lost"
        )
    if len(heard) < told.nodes:
        return bad(
            f"the warning before the end of the time reached {len(heard)} of {told.nodes} nodes: a "
            "container must hand signals on (apptainer exec does, docker run needs --init)"
        )
    return good("the warning before the end of the time reaches every node")


def _requeue(told: Told) -> Finding:
    if told.of("requeued"):
        return good("a job can put itself back into the queue, and starts again")
    return bad(
        "a job could not put itself back into the queue (scontrol requeue): ask the administrators "
        "to allow it; until then submit the same command again, it goes on where it stopped"
    )
