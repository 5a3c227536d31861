"""Threads that do one thing after the other, and for which the end of the program does not wait.

`ThreadPoolExecutor` joins its threads at the end, and a silent server would keep them for minutes.
But Python kills daemons where they stand, which may be in C++ and then aborts the process: so the
end of the program waits for moments.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

PATIENCE = 2.0
"""Seconds that the end of the program waits for threads at work."""

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
            thread = threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
            _at_work[thread] = self._jobs
            thread.start()
            weakref.finalize(self, self._jobs.put, None).atexit = False

    def submit(self, action: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have something done; its result or error will be in the future."""
        future: Future[Any] = Future()
        self._jobs.put((future, action, args))
        return future


_at_work: weakref.WeakKeyDictionary[threading.Thread, SimpleQueue[_Job | None]]
_at_work = weakref.WeakKeyDictionary()
_ending = threading.Event()


@atexit.register
def _end_all() -> None:
    """Let every thread finish what it is at, and begin nothing else."""
    _ending.set()
    threads = list(_at_work.items())
    for _, jobs in threads:
        jobs.put(None)
    until = time.monotonic() + PATIENCE
    for thread, _ in threads:
        thread.join(max(0.0, until - time.monotonic()))


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        future, action, args = job
        if future.set_running_or_notify_cancel() and not _ending.is_set():
            try:
                future.set_result(action(*args))
            except BaseException as error:
                future.set_exception(error)
        del job, future, action, args  # or the last batch would stay until the next one comes
