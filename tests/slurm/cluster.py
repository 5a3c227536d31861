"""A real SLURM of two nodes on this machine, each with an address, a name and a file system view of
its own (namespaces). Needs root, Debian's slurmctld, slurmd, slurm-client, munge, and iproute2.

    python tests/slurm/cluster.py start FOLDER    # prints the line that lets sbatch find it
    python tests/slurm/cluster.py stop FOLDER

Several may run beside each other; nothing is left after `stop`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "nsenter", "unshare", "setpriv")
NODES = ("nodea", "nodeb")
CONFIG = """
ClusterName=sptmodtest
SlurmctldHost={host}({net}.1)
SlurmctldPort={port}
SlurmdPort={port_d}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={base}/munge/socket,cred_expire=5
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.%n.pid
SlurmdSpoolDir={base}/spool/%n
StateSaveLocation={base}/state
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=5
KillWait=20
MinJobAge=300
MessageTimeout=20
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=60 State=UP PriorityTier=9
"""


def missing() -> str:
    """Why no cluster can be brought up here; nothing where one can."""
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0:
        return "SLURM in namespaces needs root"
    if lacking:
        return f"SLURM is not installed ({', '.join(lacking)}): apt-get install slurm-wlm munge"
    probe = subprocess.run(["unshare", "--net", "--uts", "--mount", "true"], capture_output=True)
    return "" if probe.returncode == 0 else "this machine allows no network namespaces"


class Cluster:
    """Two nodes and their controller.

    Args:
        base: an empty folder with a short name (sockets have at most 108 letters), which anyone
            may enter.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.tag = f"sp{abs(hash(str(base))) % 10**6:06d}" if not self._tag.exists() else ""
        self.tag = self.tag or self._tag.read_text()
        seed = int(self.tag[2:])
        self.net = f"10.{100 + seed % 100}.{seed // 100 % 250}"
        self.spaces = {name: f"{self.tag}-{name}" for name in NODES}

    @property
    def _tag(self) -> Path:
        return self.base / "tag"

    @property
    def variables(self) -> dict[str, str]:
        """By which SLURM's programs find it."""
        return {"SLURM_CONF": str(self.base / "slurm.conf")}

    def call(self, *words: str, limit: float = 60) -> str:
        """One of SLURM's programs, and what it says."""
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=limit,
            env={**os.environ, **self.variables},
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    # Up ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring it up, and see both nodes idle."""
        self.base.mkdir(parents=True, exist_ok=True)
        self.base.chmod(0o755)
        self._tag.write_text(self.tag)
        for name in ("munge", "spool", "state"):
            (self.base / name).mkdir()
        self._cables()
        self._munge()
        self._configure()
        self._run("slurmctld", "-c", "-f", str(self.base / "slurm.conf"))
        for name in NODES:
            self.start_node(name)
        deadline = time.monotonic() + 60
        while self.states() != ["idle", "idle"]:
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.3)

    def states(self) -> list[str]:
        try:
            return self.call("sinfo", "-h", "-p", "main", "-N", "-o", "%t").split()
        except AssertionError:
            return []

    def _cables(self) -> None:
        ip = ["ip"]
        self._run(*ip, "link", "add", self.tag, "type", "bridge")
        self._run(*ip, "addr", "add", f"{self.net}.1/24", "dev", self.tag)
        self._run(*ip, "link", "set", self.tag, "up")
        for number, space in enumerate(self.spaces.values()):
            outer = f"{self.tag}{number}"
            self._run(*ip, "netns", "add", space)
            peer = ["peer", "name", "eth0", "netns", space]
            self._run(*ip, "link", "add", outer, "type", "veth", *peer)
            self._run(*ip, "link", "set", outer, "master", self.tag, "up")
            address = f"{self.net}.{11 + number}/24"
            self._run(*ip, "-n", space, "addr", "add", address, "dev", "eth0")
            for link in ("lo", "eth0"):
                self._run(*ip, "-n", space, "link", "set", link, "up")
        hosts = ["127.0.0.1 localhost", f"{self.net}.1 {socket.gethostname()}"]
        hosts += [f"{self.net}.{11 + number} {name}" for number, name in enumerate(NODES)]
        (self.base / "hosts").write_text("\n".join(hosts) + "\n")

    def _munge(self) -> None:
        folder = self.base / "munge"
        (folder / "key").write_bytes(os.urandom(1024))
        for path in (folder, folder / "key"):
            shutil.chown(path, "munge", "munge")
        (folder / "key").chmod(0o400)
        folder.chmod(0o755)
        options = [f"--{name}-file={folder / name}" for name in ("key", "pid", "log", "seed")]
        user = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
        self._run(*user, "munged", "--force", f"--socket={folder / 'socket'}", *options)

    def _configure(self) -> None:
        nodes = "\n".join(
            f"NodeName={name} NodeAddr={self.net}.{11 + number} CPUs=2 RealMemory=4000"
            for number, name in enumerate(NODES)
        )
        facts = {"host": socket.gethostname().partition(".")[0], "net": self.net, "nodes": nodes}
        ports = {"port": _free_port(), "port_d": 17_101}
        text = CONFIG.format(base=self.base, **facts, **ports)
        (self.base / "slurm.conf").write_text(text)
        (self.base / "cgroup.conf").write_text("")

    def start_node(self, name: str, before: str = ":") -> None:
        """One slurmd, in a world of its own.

        Args:
            before: what a shell does there first, such as mounting something else.
        """
        (self.base / "spool" / name).mkdir(exist_ok=True)
        world = f'mount --bind "$1" /etc/hosts; hostname "$2"; {before}; exec slurmd -c -f "$3"'
        words = ["bash", "-c", world, "sh", str(self.base / "hosts"), name]
        inside = ["nsenter", f"--net=/run/netns/{self.spaces[name]}", "unshare", "--uts", "--mount"]
        # Not `ip netns exec`, which hides /sys/fs/cgroup.
        self._run(*inside, *words, str(self.base / "slurm.conf"))

    # Down --------------------------------------------------------------------------------------

    def kill_node(self, name: str) -> None:
        """All processes of a node at once, as when its power fails."""
        space = Path(f"/run/netns/{self.spaces[name]}").stat().st_ino
        # Stopped first, what was started meanwhile too: else who is left tells of who is gone.
        for number in (signal.SIGSTOP, signal.SIGSTOP, signal.SIGKILL):
            for pid in _in_network(space):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def stop(self) -> None:
        """Leave nothing behind."""
        with suppress(Exception):
            self.call("scancel", "-u", "root", limit=10)
        for pid in ("slurmctld.pid", "munge/pid"):
            with suppress(OSError, ValueError):
                os.kill(int((self.base / pid).read_text()), signal.SIGKILL)
        for number, (name, space) in enumerate(self.spaces.items()):
            with suppress(OSError):
                self.kill_node(name)
            for words in (["link", "delete", f"{self.tag}{number}"], ["netns", "delete", space]):
                subprocess.run(["ip", *words], capture_output=True)
        subprocess.run(["ip", "link", "delete", self.tag], capture_output=True)

    def _run(self, *words: str) -> None:
        # To a file: a daemon would hold a pipe open.
        with open(self.base / "start.log", "a+") as log:
            done = subprocess.run(words, stdout=log, stderr=log, timeout=60, env=_plain())
            log.seek(0)
            assert done.returncode == 0, f"{words}: {log.read()[-2000:]}"


def _plain() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SPTMOD"))}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _in_network(space: int) -> list[int]:
    """Processes of a network namespace."""
    found = []
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with suppress(OSError):
            if path.stat().st_ino == space:
                found.append(int(path.parent.parent.name))
    return found


if __name__ == "__main__":
    cluster = Cluster(Path(sys.argv[2]))
    getattr(cluster, sys.argv[1])()
    if sys.argv[1] == "start":
        print(f"export SLURM_CONF={cluster.variables['SLURM_CONF']}")
