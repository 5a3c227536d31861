"""Two machines, as two network namespaces of this one: the same training as one process's.

Each has its own address and interface, and reaches the other over that alone. Needs root and `ip`;
the namespaces are gone after the tests, whatever becomes of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import processes
import pytest
from toy import make_toy, toy_config, write_config
from variants import EXACT

from sptmod_dist.train.main import train
from sptmod_dist.train.run_folder import RunFolder

Result = subprocess.CompletedProcess[str]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
FILES = processes.ROOT / "launch" / "accelerate"
DEEPSPEED_PROGRAM = """
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")])
total = accelerator.reduce(torch.tensor([accelerator.process_index + 1.0])).item()
print("reduced", accelerator.distributed_type.value, accelerator.process_index, total)
accelerator.end_training()
"""
# A name and an /etc/hosts that only what is started here sees.
NAMED = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'
HOSTS = "127.0.0.1 localhost\n10.77.0.1 node0\n10.77.0.2 node1\n"
PORT = 29500
pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Node:
    """One of the two machines."""

    rank: int
    namespace: str
    interface: str
    address: str

    def run(self, command: list[str], limit: float = 90, **extra: str) -> Result:
        inside = ["ip", "netns", "exec", self.namespace]
        return processes.run([*inside, *command], limit=limit, CUDA_VISIBLE_DEVICES="", **extra)


def ip(*words: str) -> Result:
    return subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10)


def join(nodes: list[Node]) -> None:
    """A cable between them."""
    a, b = nodes
    peer = ["peer", "name", b.interface, "netns", b.namespace]
    steps = [["link", "add", a.interface, "netns", a.namespace, "type", "veth", *peer]]
    for node in nodes:
        here = ["-n", node.namespace]
        steps.append([*here, "addr", "add", f"{node.address}/24", "dev", node.interface])
        steps += [[*here, "link", "set", name, "up"] for name in ("lo", node.interface)]
    for step in steps:
        done = ip(*step)
        assert done.returncode == 0, f"ip {' '.join(step)}: {done.stderr}"


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare"))):
        pytest.skip("two nodes on one machine need root, ip (iproute2) and unshare (util-linux)")
    name = f"sptmod{uuid.uuid4().hex[:7]}"  # of an interface at most 15 letters
    nodes = [Node(r, f"{name}-{r}", f"{name}-{r}", f"10.77.0.{r + 1}") for r in (0, 1)]
    try:
        for node in nodes:
            made = ip("netns", "add", node.namespace)
            if made.returncode != 0:
                pytest.skip(f"this machine allows no network namespaces: {made.stderr.strip()}")
        join(nodes)
        yield nodes
    finally:
        for node in nodes:
            ip("netns", "delete", node.namespace)
        assert name not in ip("netns", "list").stdout


@pytest.fixture(scope="module")
def folder(nodes: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training's data and settings, on the disk that both nodes share, and what is right."""
    folder = tmp_path_factory.mktemp("toy")
    make_toy(folder)
    write_config(folder, **EXACT)
    train(toy_config(folder, **EXACT, name="alone"))
    return folder


def on_both(nodes: list[Node], run: Callable[[Node], Result]) -> list[Result]:
    with ThreadPoolExecutor() as threads:
        return list(threads.map(run, nodes))


def accelerate(
    node: Node, *work: str, file: str = "ddp_multinode.yaml", port: int = PORT, total: int = 2
) -> list[str]:
    first = ["--main_process_ip", "10.77.0.1", "--main_process_port", str(port)]
    count = ["--machine_rank", str(node.rank), "--num_processes", str(total)]
    return [*ACCELERATE, "--config_file", str(FILES / file), *first, *count, *work]


def training(folder: Path, name: str) -> list[str]:
    script = str(processes.ROOT / "launch" / "train.py")
    return [script, "--config", str(folder / "config.yaml"), "--name", name]


def check(folder: Path, name: str, results: list[Result], count: int) -> None:
    """All ended well, rank 0 alone spoke, and the run is that of one process to 1e-12."""
    assert [result.returncode for result in results] == [0, 0], results
    said = [f"{count} processes on cpu" in result.stderr for result in results]
    assert sorted(said) == [False, True]
    one, other = (RunFolder(folder / "runs" / n).last_checkpoint()[1] for n in ("alone", name))
    assert one.state["progress"]["iteration"] == other.state["progress"]["iteration"] == 12
    for a, b in ((one.weights, other.weights), (one.moments, other.moments)):
        assert set(a) == set(b)
        assert max((a[key] - b[key]).abs().max().item() for key in a) <= 1e-12


def test_two_nodes_of_two_processes_train_as_one_process_does(
    nodes: list[Node], folder: Path
) -> None:
    """Their names tell nothing of the network between them: its interface is given."""
    work = training(folder, "accelerate")
    results = on_both(
        nodes,
        lambda node: node.run(accelerate(node, *work, total=4), GLOO_SOCKET_IFNAME=node.interface),
    )
    check(folder, "accelerate", results, 4)


def test_torchruns_nodes_find_each_other_by_the_same_line(nodes: list[Node], folder: Path) -> None:
    """Each has a name by which the other knows it."""
    meet = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"10.77.0.1:{PORT}"]
    line = [*TORCHRUN, "--nproc_per_node", "1", *meet, *training(folder, "torchrun")]
    hosts = folder / "hosts"
    hosts.write_text(HOSTS)
    named = ["unshare", "--uts", "sh", "-c", NAMED, "sh"]
    results = on_both(
        nodes, lambda node: node.run([*named, f"node{node.rank}", str(hosts), *line])
    )
    check(folder, "torchrun", results, 2)


@pytest.mark.timeout(240)  # without a GPU the first start of DeepSpeed ever compiles for a minute
def test_deepspeeds_files_join_two_nodes(nodes: list[Node], tmp_path: Path) -> None:
    """Accelerate's default for several machines would start each alone, without a word."""
    pytest.importorskip("deepspeed")
    program = tmp_path / "program.py"
    program.write_text(DEEPSPEED_PROGRAM)
    results = on_both(
        nodes,
        lambda node: node.run(
            accelerate(node, str(program), file="deepspeed_zero2.yaml"),
            limit=200,
            GLOO_SOCKET_IFNAME=node.interface,
            DS_ACCELERATOR="cpu",
        ),
    )
    for rank, result in enumerate(results):
        assert f"reduced DEEPSPEED {rank} 3.0" in result.stdout, result.stderr
        assert result.returncode == 0


def test_a_node_without_its_partner_gives_up(nodes: list[Node], tmp_path: Path) -> None:
    """The first waits for a second that never comes, the second for a first."""
    work = ["--rdzv_conf", "timeout=3", *training(tmp_path, "lonely")]
    first, second = on_both(
        nodes, lambda node: node.run(accelerate(node, *work, port=PORT + node.rank))
    )
    assert first.returncode != 0 and "1/2 clients joined" in first.stderr
    assert second.returncode != 0 and "client socket has timed out" in second.stderr
