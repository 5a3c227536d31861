"""Where each rank of a training stands, as far as the ranks know it from each other.

They tell it in the launcher's store, which needs nobody to wait for anybody: a rank that is stopped
left its last word there. No clock is ever compared with another machine's. This file starts no
thread and decides nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from sptmod_dist.train.ranks import Ranks

_KEY, _ALARM, _DONE = "position/", "alarm", "alarm/done"
_MISSED = 5  # exchanges in a row without a sign of life: the process does not run


@dataclass(frozen=True)
class Position:
    """The last report of a rank."""

    what: str
    """Epoch, group, and what it was about to do."""
    count: int
    """Reports before it. All ranks do the same, so who has fewer is the one that is waited for."""
    at: float
    """When it was made, in seconds of this process's `time.monotonic`."""
    runs: bool = True
    """Whether its process has given signs of life since."""
    moves: int = 0
    """Signs of progress so far: reports, and what `Watchdog.alive` was told between them."""

    def __str__(self) -> str:
        ago = f"{self.what}, {max(0.0, time.monotonic() - self.at):.0f} s ago"
        return ago if self.runs else f"{ago}; its process is stopped, gone or stuck outside Python"


class Board:
    """What the ranks write down for each other.

    Args:
        ranks: this process among the others.
        interval: seconds between two exchanges.
    """

    def __init__(self, ranks: Ranks, interval: float) -> None:
        self._rank, self._world_size = ranks.rank, ranks.world_size
        self._meeting = ranks.meeting
        self._every = max(1, ranks.world_size // 8)  # the store shall not drown in questions
        self._patience = _MISSED * interval * self._every
        self._store: Any = None
        self._beat, self._listened = 0, time.monotonic()
        self._beats: dict[int, tuple[int, float]] = {}  # of each rank the last one, and when
        self._words: dict[int, tuple[str, int, float]] = {}
        self._moves: dict[int, int] = {}
        self.alarmed = False
        """Whether a rank has given the training up."""

    def exchange(self, mine: Position) -> None:
        """Tell the others where this rank is, and hear now and then where they are.

        Raises:
            Exception: of whatever kind the store has, where it is gone.
        """
        if self._store is None:
            self._store = dist.PrefixStore(f"sptmod-dist/{self._meeting}", _connection())
        self._beat += 1
        entry = [mine.what, mine.count, time.monotonic() - mine.at, self._beat, mine.moves]
        self._store.set(f"{_KEY}{self._rank}", json.dumps(entry))
        self.alarmed = self.alarmed or self._store.check([_ALARM])
        if self._beat % self._every == 0:
            self.listen()

    def listen(self) -> None:
        """Read what every rank told last."""
        for rank in range(self._world_size):
            if self._store.check([f"{_KEY}{rank}"]):
                what, count, age, beat, moves = json.loads(self._store.get(f"{_KEY}{rank}"))
                now = time.monotonic()
                self._moves[rank] = moves
                if beat != self._beats.get(rank, (None,))[0]:
                    self._beats[rank], self._words[rank] = (beat, now), (what, count, now - age)
        self._listened = time.monotonic()

    @property
    def moves(self) -> dict[int, int]:
        """Of each rank, as far as it is known: while one moves, those that wait for it do not
        hang."""
        return dict(self._moves)

    def alarm(self) -> int:
        """Let every rank give the training up, and hear for the last time where they are.

        Returns:
            Of how many of them anything is known.

        Raises:
            Exception: the store is gone, or there is none.
        """
        self._store.set(_ALARM, "1")
        self.listen()
        return len(self._words)

    def done(self) -> None:
        """Tell that this rank has written down where it is."""
        self._store.add(_DONE, 1)

    def wait_for(self, ranks: int) -> None:
        """Until so many are done: a launcher may end the others as soon as one has left."""
        while self._store.add(_DONE, 0) < ranks:
            time.sleep(0.05)

    def positions(self, mine: Position) -> dict[int, Position]:
        """What is known of each rank, by its number; of some it may be nothing."""
        known = {}
        for rank, words in sorted(self._words.items()):
            quiet = self._listened - self._beats[rank][1]
            known[rank] = Position(*words, runs=quiet <= self._patience)
        return {**known, self._rank: mine}

    @property
    def silence(self) -> float | None:
        """For how many seconds the store has not answered; None where it does."""
        since = time.monotonic() - self._listened
        return since if self._world_size > 1 and since > self._patience else None


def _connection() -> Any:
    """One of our own to the launcher's store: the training's may wait in it for minutes."""
    store = dist.distributed_c10d._get_default_store()
    return store.clone() if hasattr(store, "clone") else store


def table(positions: Mapping[int, Position], world_size: int, silence: float | None) -> str:
    """A line a rank; and for how long the store has not answered, where it does not."""
    rows = [f"rank {rank}: {positions.get(rank, 'not known')}" for rank in range(world_size)]
    if silence is not None:
        rows.append(f"(the launcher's store has not answered for {silence:.0f} s)")
    return "\n".join(rows)


def waited_for(positions: Mapping[int, Position]) -> str:
    """Who holds the others up, and where, in words."""
    if len(positions) == 1:
        return f"rank {min(positions)} is at {next(iter(positions.values())).what}"
    rank, position = min(positions.items(), key=lambda each: (each[1].runs, each[1].count))
    if not position.runs:
        return f"rank {rank}, whose process does not run, was at {position.what}"
    if len({each.count for each in positions.values()}) == 1:
        return f"all ranks are at {position.what}"
    return f"rank {rank} is at {position.what}"
