"""When a run's checkpoints are written, how many stay, and what the run says of itself meanwhile.

Rank 0's clock decides; the trainer carries its word to the others. What a full disk does not take
is held and tried again; training goes on. It must not know what is in a checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.config import CheckpointConfig
from sptmod_dist.train.run_folder import RunError, RunFolder

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
        self._held: dict[str, Checkpoint] = {}  # by their names, those that are on no disk yet
        self._fault = ""

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
        kind that have had their time.

        Raises:
            RunError: another training has begun in the run's folder, which somebody had removed.
        """
        if _STAYS.get(kind, 1) is not None:  # only the latest counts
            self._held = {name: held for name, held in self._held.items() if _kind(name) != kind}
        self._held[f"{kind}-{iteration:08d}"] = saved
        self._write_held()
        normal = 60 * self._config.minutes
        self._wait = min(RETRY, normal) if self._held else normal
        if self._held:
            self._say(
                f"not written: {', '.join(self._held)} ({self._fault}); the checkpoints before "
                f"stay, training goes on and tries again in {self._wait:.0f} s"
            )

    def settle(self) -> None:
        """Write what is held, for the last time: the training is finished.

        Raises:
            RunError: the disk does not take it.
        """
        self._write_held()
        if self._held:
            raise RunError(
                f"the training is done, but {' and '.join(self._held)} could not be written "
                f"({self._fault}): mend that, and train the end once more"
            )

    def _write_held(self) -> None:
        begun = time.monotonic()
        for name, saved in list(self._held.items()):
            try:
                if self._run.restore():
                    self._say(f"{self._run.path} had been removed or renamed: it is made anew")
                checkpoint.save(self._run.checkpoints, name, saved)
                del self._held[name]
            except OSError as error:
                self._fault = str(error)
                continue
            self._prune(_kind(name))
        self._saved, self._groups = time.monotonic(), 0
        self._cost = self._saved - begun

    def _prune(self, kind: str) -> None:
        keep = _STAYS.get(kind, self._config.keep)
        try:
            if keep is not None:
                checkpoint.prune(self._run.checkpoints, kind, keep)
        except OSError as error:
            self._say(f"a checkpoint that has had its time cannot be removed ({error})")

    def status(self, state: str, progress: dict[str, Any], why: str = "") -> None:
        """Say in the run's folder how the training stands; a full disk is no reason to stop."""
        keys = ("iteration", "epoch", "best_iteration")
        if self._held:
            why = " and ".join(filter(None, [why, f"{' and '.join(self._held)} not written"]))
        try:
            if self._run.lock.is_lost:  # what is there by now may be another training's
                return
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


def _kind(name: str) -> str:
    return name.partition("-")[0]
