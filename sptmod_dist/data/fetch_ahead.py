"""Fetching in the order of need, some steps ahead of whoever needs it, in threads of its own.

It knows numbers and a function that fetches one; what goes wrong there is silent here, since the
reader meets it when it gets so far.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress


class FetchAhead:
    """Runs along an order until all is fetched, or until it is closed.

    Args:
        order: what will be needed, in this order; a number may come often.
        fetch: gets one, from several threads at once.
        room: how many may wait to be used, at most.
        enough: after so many different ones all are there and nothing is left to do; None where
            what was fetched may have to leave again.
        threads: how many are fetched at a time.
    """

    def __init__(
        self,
        order: Iterable[int],
        fetch: Callable[[int], None],
        room: int,
        enough: int | None,
        threads: int,
    ) -> None:
        self._order, self._fetch = enumerate(order), fetch
        self._room, self._enough = room, enough
        self._waiting: set[int] = set()
        self._fetched: set[int] = set()
        self._reached = 0
        self._closed = False
        self._changed = threading.Condition()
        for _ in range(threads):  # the end of the process must not wait for a silent server
            threading.Thread(target=self._run, name="sptmod-fetcher", daemon=True).start()

    def used(self, number: int) -> None:
        """Say that the next one of the order was needed just now."""
        with self._changed:
            self._reached += 1
            self._waiting.discard(number)
            self._changed.notify_all()

    def close(self) -> None:
        """Begin no more; what is being fetched is finished."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (number := self._next()) is not None:
            with suppress(Exception):
                self._fetch(number)

    def _next(self) -> int | None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._is_over or len(self._waiting) < self._room)
                if self._is_over:
                    return None
                place, number = next(self._order, (0, None))
                if number is None:
                    return None
                if number in self._waiting or number in self._fetched:
                    continue
                if self._enough is not None:
                    self._fetched.add(number)
                    self._changed.notify_all()
                if place >= self._reached:  # else whoever needed it was faster
                    self._waiting.add(number)
                    return number

    @property
    def _is_over(self) -> bool:
        return self._closed or len(self._fetched) == self._enough
