"""Threads for which the end of the program waits for moments and no longer.

`ThreadPoolExecutor` joins its threads at the end, and a silent server would keep them for minutes.
Daemons are killed where they stand, which may be in C++ and then aborts the process. What is begun
here is asked to stop, and waited for a little.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any

PATIENCE = 2.0
"""Seconds that the end of the program waits for threads, all together."""

_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]

_running: dict[threading.Thread, Callable[[], object]] = {}
_ending = threading.Event()


def begin(action: Callable[[], object], name: str, stop: Callable[[], object]) -> threading.Thread:
    """Start a thread.

    Args:
        action: what it does.
        name: of the thread.
        stop: called when the program ends; the action should then come to its end soon.
    """

    def run() -> None:
        try:
            action()
        finally:
            _running.pop(thread, None)

    thread = threading.Thread(target=run, name=name, daemon=True)
    _running[thread] = stop
    thread.start()
    return thread


@atexit.register
def _end_all() -> None:
    _ending.set()
    running = list(_running.items())
    for _, stop in running:
        stop()
    deadline = time.monotonic() + PATIENCE
    for thread, _ in running:
        thread.join(max(0.0, deadline - time.monotonic()))


os.register_at_fork(after_in_child=_running.clear)  # a child has none of its parent's threads


class Threads:
    """So many threads that do one thing after the other, and end when nobody holds this object.

    Args:
        count: how many.
        name: of each.
    """

    def __init__(self, count: int, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        for _ in range(count):
            begin(partial(_work, self._jobs), name, partial(self._jobs.put, None))
            weakref.finalize(self, self._jobs.put, None).atexit = False

    def submit(self, action: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have something done; its result or error will be in the future."""
        future: Future[Any] = Future()
        self._jobs.put((future, action, args))
        return future


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, action, args = job
        if _ending.is_set():
            future.cancel()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(action(*args))
            except BaseException as error:
                future.set_exception(error)
        del job, future, action, args  # or the last batch would stay until the next one comes
