"""Real processes under real launchers, all started once, of which one job at a time has work.

A job is one or more ranks; those without an order wait and take no time from the others. So jobs
can be compared in turns of a second within one run. Ranks leave when their socket is closed,
however the benchmark ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.work import JOB, SOCKET, Order
from sptmod_dist.errors import UserError

LAUNCH = Path(__file__).parent.parent
RANK = ["-m", "benchmarks.rank"]
_LAUNCHERS = ("ACCELERATE_", "RANK", "LOCAL_", "WORLD_SIZE", "MASTER_", "TORCHELASTIC_")
_ERROR = re.compile(r"(\[rank\d+\]: )?[\w.]*(Error|Exception)\b")


class BenchmarkError(UserError):
    """Processes that did not start, or left."""

    code = 1


def alone() -> list[str]:
    """The command of one process."""
    return [sys.executable, *RANK]


def launched(file: str, processes: int) -> list[str]:
    """The command of so many processes by `accelerate launch` with one of its files here."""
    path = LAUNCH / "accelerate" / file
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(path)]
    return [*launcher, "--num_processes", str(processes), *RANK]


class Jobs:
    """Processes that wait for orders; leave the context, and they are gone.

    Args:
        commands: of each job by its name, with how many ranks it has.
        limit: seconds in which all must have started, and each order be done.
    """

    def __init__(self, commands: Mapping[str, tuple[Sequence[str], int]], limit: float) -> None:
        self._commands, self._limit = commands, limit

    def __enter__(self) -> Jobs:
        self._stack = contextlib.ExitStack()
        with self._stack as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            self._server = stack.enter_context(socket.socket(socket.AF_UNIX))
            self._server.bind(str(folder / "socket"))
            self._server.listen()
            self._server.settimeout(1)
            self._processes = {name: self._start(name, folder) for name in self._commands}
            self._ranks = {name: dict[int, socket.SocketIO]() for name in self._commands}
            self._meet()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(self, orders: Mapping[str, Order]) -> dict[str, list[Any]]:
        """Give jobs their orders at the same time, and wait for the answers of all their ranks.

        Raises:
            BenchmarkError: a rank that fails, or takes too long.
        """
        for name, order in orders.items():
            for _, channel in sorted(self._ranks[name].items()):
                self._tell(name, channel, order)
        return {
            name: [self._answer(name, channel) for _, channel in sorted(self._ranks[name].items())]
            for name in orders
        }

    def _start(self, name: str, folder: Path) -> subprocess.Popen[bytes]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_LAUNCHERS)}
        paths = [str(LAUNCH), str(LAUNCH.parent), os.environ.get("PYTHONPATH", "")]
        log = self._stack.enter_context(open(folder / f"{name}.log", "w+b"))
        environment = {
            "TORCH_EXTENSIONS_DIR": str(Path(sys.prefix) / "torch-extensions"),
            **kept,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            SOCKET: str(folder / "socket"),
            JOB: name,
        }
        command = self._commands[name][0]
        # A session for each, as launchers give their ranks: Linux shares cores out by session.
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        process.log = log  # type: ignore[attr-defined]
        self._stack.callback(_end, process)
        return process

    def _meet(self) -> None:
        """Wait until every rank has called."""
        deadline = time.monotonic() + self._limit
        while any(len(self._ranks[name]) < n for name, (_, n) in self._commands.items()):
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise self._failure(name, "ended before they began")
            if time.monotonic() > deadline:
                late = [n for n, (_, k) in self._commands.items() if len(self._ranks[n]) < k]
                raise self._failure(late[0], f"did not start in {self._limit:.0f} s")
            with contextlib.suppress(TimeoutError):
                connection, _ = self._server.accept()
                connection.settimeout(self._limit)
                channel = connection.makefile("rwb", buffering=0)
                connection.close()  # the file keeps it open until it is closed itself
                self._stack.callback(channel.close)
                name, rank = json.loads(channel.readline())
                self._ranks[name][rank] = channel

    def _tell(self, name: str, channel: socket.SocketIO, order: Order) -> None:
        try:
            channel.write(order.to_line())
        except OSError:
            raise self._failure(name, "left") from None

    def _answer(self, name: str, channel: socket.SocketIO) -> Any:
        try:
            line = channel.readline()
        except TimeoutError:
            raise self._failure(name, f"did not answer for {self._limit:.0f} s") from None
        except OSError:
            line = b""
        if not line:
            raise self._failure(name, "left")
        return json.loads(line)

    def _failure(self, name: str, what: str) -> BenchmarkError:
        """What happened to a job, with the last that it said."""
        process = self._processes[name]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)  # a launcher speaks after its ranks
        log = process.log  # type: ignore[attr-defined]
        log.seek(0)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
        errors = [line for line in lines if _ERROR.match(line)] or lines[-1:] or ["none"]
        return BenchmarkError(f"the processes of {name!r} {what}; their words: {errors[0]:.300}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ranks leave by themselves, their sockets being closed; a launcher ends those that do not."""
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(timeout=40)  # torchrun gives its ranks 30 s
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
