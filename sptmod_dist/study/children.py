"""Processes of their own for trainings, forked from one that has torch loaded but not begun to use.

So a training starts in no time, cannot harm the others, and gives all its memory back. A child
whose parent dies, however that happens, is asked to stop and leaves a checkpoint behind.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError

_PARENT_DIES = 1  # prctl's PR_SET_PDEATHSIG
_CRASHED = 70


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int
    """Its exit code; negative: the signal that killed it."""
    memory: float
    """Bytes at most."""
    computing: float
    """Seconds of a core, over all its threads."""


def start(function: Callable[[], int], log: Path | None, before: Callable[[], None]) -> int:
    """Fork a child that runs a function and leaves with the code that it returns.

    Args:
        function: what the child does.
        log: takes what it prints; None: nothing does.
        before: called first in the child, such as to close what is not its own.

    Returns:
        The child's process id.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = _CRASHED
    try:
        _begin(parent, log)
        before()
        code = function()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else _CRASHED
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # nothing of the parent's is cleaned up twice


def ended(pid: int, wait: bool = False) -> Ended | None:
    """How a child ended; None while it has not."""
    found, status, usage = os.wait4(pid, 0 if wait else os.WNOHANG)
    if not found:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    computing = usage.ru_utime + usage.ru_stime
    return Ended(os.waitstatus_to_exitcode(status), float(usage.ru_maxrss * unit), computing)


def ask(function: Callable[[], dict[str, Any]], log: Path | None = None) -> dict[str, Any]:
    """What a function gives in a child, and `memory`, the bytes that the child had at most.

    Raises:
        UserError: the function's own, or that the child was killed or failed.
    """
    reading, writing = os.pipe()

    def answer() -> int:
        try:
            found: dict[str, Any] = {"found": function()}
        except UserError as error:
            found = {"why": str(error)}
        with os.fdopen(writing, "w") as pipe:
            json.dump(found, pipe)
        return 0

    pid = start(answer, log, lambda: os.close(reading))
    os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            text = pipe.read()
    finally:
        if sys.exc_info()[0] is not None:
            os.kill(pid, signal.SIGKILL)
        end = ended(pid, wait=True)
    assert end is not None
    said: dict[str, Any] = json.loads(text) if text else {}
    if "found" in said:
        return {**said["found"], "memory": end.memory}
    raise UserError(said.get("why") or _how(end, log))


def in_words(code: int) -> str:
    """An exit code that no program gave by itself."""
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        likely = ": was it out of memory?" if -code == signal.SIGKILL else ""
        return f"it was killed by {name}{likely}"
    return f"it ended with code {code}"


def _how(end: Ended, log: Path | None) -> str:
    where = f"; see {log}" if log else ""
    return f"a process of the study did not answer, {in_words(end.code)}{where}"


def _begin(parent: int, log: Path | None) -> None:
    """Make the child a process of its own."""
    with suppress(OSError):
        os.setpgid(0, 0)  # a terminal's Ctrl-C is the parent's to pass on
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(-1)
    _end_with(parent)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    out = null
    if log is not None:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(out, 1)
    os.dup2(out, 2)
    gc.freeze()
    assert threading.active_count() == 1


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DIES, signal.SIGTERM)
        if os.getppid() != parent:  # it died before
            os._exit(_CRASHED)
