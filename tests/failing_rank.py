"""A training in which a rank, mostly 1, fails at the third group, in one of several ways.

    torchrun … failing_rank.py HOW CONFIG
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from sptmod_dist.cli import main
from sptmod_dist.data.loader import Group
from sptmod_dist.train.trainer import Trainer


def run_out_of_memory(group: Group) -> None:
    raise RuntimeError("CUDA out of memory: a long story\nof several lines")


WAYS: dict[str, Callable[[Group], object]] = {
    "raises": run_out_of_memory,
    "hangs": lambda group: time.sleep(1000),
    "is-killed": lambda group: os.kill(os.getpid(), signal.SIGKILL),
    "is-not-finite": lambda group: group.output.fill_(float("nan")),
    "main-is-killed": lambda group: os.kill(os.getpid(), signal.SIGKILL),
    "exits": lambda group: os._exit(3),
}


def fail(how: str) -> None:
    rank = 0 if how == "main-is-killed" else 1
    learn = Trainer._learn

    def learning(self, group):
        if self.progress.iteration == 6 and self.engine.rank == rank:
            WAYS[how](group)
        return learn(self, group)

    Trainer._learn = learning


if __name__ == "__main__":
    fail(sys.argv[1])
    sys.exit(main(["train", "--config", sys.argv[2]]))
