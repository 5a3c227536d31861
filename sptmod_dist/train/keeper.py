"""When a run's checkpoints are written, how many stay, and what the run says of itself meanwhile.

Rank 0's clock decides; the trainer carries its word to the others. A disk that is full costs the
checkpoint that it does not take and nothing else. It must not know what is in a checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.config import CheckpointConfig
from sptmod_dist.train.run_folder import RunFolder

RETRY = 60.0
"""Seconds after which a disk that was full is tried again."""
_SHARE = 0.01  # of the time, for checkpoints at the ends of epochs
_STAYS = {"best": 1, "epoch": None}  # what `checkpoint.keep` does not count


class Keeper:
    """Writes the checkpoints of one training on rank 0.

    Args:
        run: where.
        config: how often and how many.
        seconds: of training before this start, for the status.
        processes: of this training, for the status.
        say: takes a line for the user.
    """

    def __init__(
        self,
        run: RunFolder,
        config: CheckpointConfig,
        seconds: float,
        processes: int,
        say: Callable[[str], None],
    ) -> None:
        self._run, self._config, self._say = run, config, say
        self._before, self._processes = seconds, processes
        self._started = self._saved = time.monotonic()
        self._wait, self._cost, self._groups = 60 * config.minutes, 0.0, 0

    @property
    def seconds(self) -> float:
        """Wall time of the training, earlier starts included."""
        return self._before + time.monotonic() - self._started

    def is_due(self, at_epoch_end: bool) -> bool:
        """Whether a checkpoint shall be written now, a group having ended."""
        self._groups += 1
        since = time.monotonic() - self._saved
        by_groups = self._config.groups is not None and self._groups >= self._config.groups
        by_epoch = at_epoch_end and self._cost < _SHARE * since
        return since > self._wait or by_groups or by_epoch

    def stays(self, epoch: int) -> bool:
        """Whether the checkpoint at the end of this epoch, from 0, is kept for good."""
        every = self._config.keep_epochs
        return every is not None and (epoch + 1) % every == 0

    def write(self, kind: str, iteration: int, saved: Checkpoint) -> None:
        """Write `KIND-ITERATION`, `KIND` being `step`, `best` or `epoch`, and remove those of its
        kind that have had their time."""
        begun = time.monotonic()
        try:
            checkpoint.save(self._run.checkpoints, f"{kind}-{iteration:08d}", saved)
            keep = _STAYS.get(kind, self._config.keep)
            if keep is not None:
                checkpoint.prune(self._run.checkpoints, kind, keep)
            self._wait = 60 * self._config.minutes
        except OSError as error:
            self._wait = min(RETRY, 60 * self._config.minutes)
            self._say(
                f"no checkpoint was written ({error}); the one before it stays, training goes on "
                f"and tries again in {self._wait:.0f} s"
            )
        self._saved, self._groups = time.monotonic(), 0
        self._cost = self._saved - begun

    def status(self, state: str, progress: dict[str, Any], why: str = "") -> None:
        """Say in the run's folder how the training stands; a full disk is no reason to stop."""
        keys = ("iteration", "epoch", "best_iteration")
        try:
            self._run.write_status({
                "state": state,
                "why": why,
                **{key: progress[key] for key in keys},
                "best_st": progress["best"],
                "seconds": round(self.seconds, 1),
                "processes": self._processes,
                "updated": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            })
        except OSError as error:
            self._say(f"the run's status was not written ({error})")
