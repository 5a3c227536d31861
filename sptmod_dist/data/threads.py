"""Threads that do one thing after the other, and for which the end of the program does not wait.

`ThreadPoolExecutor` joins its threads at the end, and a silent server would keep them for minutes.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """So many threads, which end when nobody holds this object any more.

    Args:
        count: how many.
        name: of each.
    """

    def __init__(self, count: int, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        for _ in range(count):
            threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True).start()
            weakref.finalize(self, self._jobs.put, None).atexit = False

    def submit(self, action: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have something done; its result or error will be in the future."""
        future: Future[Any] = Future()
        self._jobs.put((future, action, args))
        return future


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, action, args = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(action(*args))
        except BaseException as error:
            future.set_exception(error)
        del job, future, action, args  # or the last batch would stay until the next one comes
