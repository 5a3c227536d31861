"""Ends a training that stands still, and says where each of its processes stands.

Two threads of each process: one looks whether the training has reported anything, the other tells
the other ranks, through a connection of its own to the launcher's store, so that the position of a
process that is stopped is known too, and so that a store which does not answer delays nobody.
Whatever may hang when a machine is ill (store, disk, terminal) is given a few seconds and no more.
It must not know what a training does.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sptmod_dist.train.positions import Board, Position, table, waited_for
from sptmod_dist.train.ranks import Ranks
from sptmod_dist.train.run_folder import RunFolder

HANGING = 86
"""Exit code: nothing moved for too long."""

T = TypeVar("T")
_LIMIT = 5.0  # seconds for whatever may hang when all else does


class Watchdog:
    """Watches over one rank of a training.

    Args:
        seconds: without a sign of progress of any rank, after which the training is given up; 0:
            never. Take more than the longest step that gives none, such as a checkpoint.
        ranks: this process among the others.
        log: this rank's, `RUN/logs/rankN.log`; it gets the stacks of all threads.
    """

    def __init__(self, seconds: float, ranks: Ranks, log: Path) -> None:
        self._seconds, self._ranks, self._log = seconds, ranks, log
        self._interval = min(1.0, seconds / 10)
        self._last = Position("the start", 0, time.monotonic())
        self._armed, self._closed = False, threading.Event()
        self._board = Board(ranks, self._interval)
        tasks = [self._watch, self._tell] if ranks.world_size > 1 else [self._watch]
        self._threads = [threading.Thread(target=t, daemon=True) for t in tasks if seconds > 0]
        for thread in self._threads:
            thread.start()

    def at(self, position: str) -> None:
        """Report where this rank is; every report counts as progress."""
        last = self._last
        moves = last.moves + 1
        self._last = Position(position, last.count + 1, time.monotonic(), moves=moves)

    def alive(self) -> None:
        """Say that a long step goes on, of which other ranks may have another number of parts."""
        last = self._last
        moves = last.moves + 1
        self._last = Position(last.what, last.count, time.monotonic(), moves=moves)

    def arm(self) -> None:
        """Begin to count: the first steps, which compile and connect, are over."""
        self._armed = True

    def close(self) -> None:
        """Watch no longer."""
        self._closed.set()
        for thread in self._threads:
            thread.join(_LIMIT)

    def _tell(self) -> None:
        while not self._closed.is_set():
            with suppress(Exception):  # a store that is gone: the training will notice by itself
                self._board.exchange(self._last)
            self._closed.wait(self._interval)

    def _watch(self) -> None:
        silence = Silence(self._interval)
        while not self._closed.wait(self._interval):
            seen = (self._last.moves, self._board.moves) if self._armed else None
            silent = silence.after(seen, time.monotonic())
            alarmed = self._armed and self._board.alarmed
            if (silent >= self._seconds or alarmed) and not self._closed.is_set():
                self._end()

    def _end(self) -> None:
        """Write down what there is to say, and end this process whatever the others do."""
        reached = within(_LIMIT, self._board.alarm) is not None
        places = self._board.positions(self._last)
        rows = table(places, self._ranks.world_size, self._board.silence)
        account = f"no progress for {self._seconds:g} s\n{rows}\n{_stacks()}"
        is_kept = within(_LIMIT, lambda: _append(self._log, account)) is not None
        if reached:
            within(_LIMIT, self._board.done)
        if self._speaks(reached):
            why = f"no progress for {self._seconds:g} s (distributed.watchdog): "
            self._speak(rows if is_kept else account, why + waited_for(places), is_kept)
        if reached:
            running = sum(place.runs for place in places.values())
            within(_LIMIT, lambda: self._board.wait_for(running))
        os._exit(HANGING)

    def _speaks(self, reached: bool) -> bool:
        """Whether this rank is the one that tells the user."""
        alone = self._ranks.world_size == 1
        first = within(_LIMIT, self._ranks.speaks) if reached or alone else None
        # A store that does not answer is probably rank 0's: who is next tells what it can.
        return self._ranks.rank == 1 if first is None else first

    def _speak(self, account: str, why: str, is_kept: bool) -> None:
        run = RunFolder(self._log.parent.parent)
        stacks = f"; the stacks are in {self._log.with_name('rank*.log')}" if is_kept else ""
        go_on = within(_LIMIT, run.go_on) or ""
        said = f"\n{account}\nsptmod-dist: error: {why}{stacks}{go_on}\n"
        within(_LIMIT, lambda: os.write(sys.stderr.fileno(), said.encode()))
        within(_LIMIT, lambda: _note(run, why))


class Silence:
    """For how long nothing has moved, while this process's own threads ran.

    A laptop that slept, or a process that was stopped for a while, has not hung: the clock went on
    and the thread that looks at it did not. The count begins anew then.

    Args:
        interval: seconds between two looks, unless something delays them.
    """

    def __init__(self, interval: float) -> None:
        self._longest = 10 * interval
        self._seconds = 0.0
        self._seen: object = None
        self._looked: float | None = None

    def after(self, seen: object, now: float) -> float:
        """The seconds without progress.

        Args:
            seen: what changes with progress; None while nothing is expected.
            now: a clock that never goes back, in seconds.
        """
        elapsed = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        if seen is None or seen != self._seen or elapsed > self._longest:
            self._seen, self._seconds = seen, 0.0
        else:
            self._seconds += elapsed
        return self._seconds


def within(limit: float, action: Callable[[], T]) -> T | None:
    """What an action gives; None where it fails, or takes longer than `limit` seconds."""
    results: list[T] = []

    def act() -> None:
        with suppress(Exception):  # who reports that all hangs has nobody to complain to
            results.append(action())

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(limit)
    return results[0] if results else None


def _stacks() -> str:
    """Of all threads of this process; by a file in memory or nearby, since what writes them lets
    nothing else run meanwhile."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read().decode(errors="replace")


def _append(log: Path, text: str) -> int:
    with open(log, "a") as file:
        return file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def _note(run: RunFolder, why: str) -> None:
    """In the run's folder, where nobody else will."""
    status = run.status()
    if status is not None:
        run.write_status({**status, "state": "failed", "why": why})
