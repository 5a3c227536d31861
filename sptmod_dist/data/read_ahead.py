"""An iterator that works in a thread of its own, some items ahead of whoever takes them.

It knows nothing of what it hands over. An error of the iterator comes out where its next item would
have been taken.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Generator
from typing import Generic, TypeVar

from sptmod_dist.data import threads

T = TypeVar("T")


class Stopped(Exception):
    """Nobody wants any more of what was asked for."""


class ReadAhead(Generic[T]):
    """Runs a generator in a thread.

    Args:
        source: taken from by this thread alone, and closed by it.
        depth: items that wait to be taken, at most; one more is being made.
        name: of the thread.
    """

    def __init__(self, source: Generator[T, None, None], depth: int, name: str) -> None:
        self._source, self._depth = source, depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None
        self._thread = threads.begin(self._run, name, self.stop)

    def take(self) -> T:
        """The next item, waited for.

        Raises:
            Stopped: `stop` was called, or the generator has ended.
            Exception: whatever the generator raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended or self._stopped)
            if self._stopped:
                raise Stopped
            if self._items:
                self._changed.notify_all()
                return self._items.popleft()
            if self._error is not None:
                raise self._error
            raise Stopped

    def stop(self) -> None:
        """Wake all who wait, here or in `take`; nothing more is made or taken."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the thread has ended; call `stop` before.

        One that waits for a silent server is not waited for: it ends when that read does.
        """
        # Not where Python ends, since no thread runs then; and not where the garbage collector
        # comes upon an abandoned loader in this very thread.
        if not sys.is_finalizing() and threading.current_thread() is not self._thread:
            self._thread.join(threads.PATIENCE)

    def _run(self) -> None:
        try:
            while self._put(next(self._source)):
                pass
        except StopIteration:
            pass
        except BaseException as error:
            self._error = error
        try:
            self._source.close()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        """Hand over an item as soon as there is room; whether more are wanted."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._depth or self._stopped)
            if not self._stopped:
                self._items.append(item)
                self._changed.notify_all()
            return not self._stopped
