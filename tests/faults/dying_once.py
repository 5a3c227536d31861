"""A training whose rank 1 is killed at iteration 12, unless it was started anew.

    torchrun … dying_once.py [OPTIONS OF TRAIN]
"""

from __future__ import annotations

import os
import signal
import sys

from sptmod_dist.cli import main
from sptmod_dist.train.trainer import Trainer

learn = Trainer._learn


def learning(self, group):
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if first and self.engine.rank == 1 and self.progress.iteration == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(self, group)


if __name__ == "__main__":
    Trainer._learn = learning
    sys.exit(main(["train", *sys.argv[1:]]))
