"""A training of which one rank is asked to stop, and whose checkpoints take long to write.

    torchrun … stopped_rank.py RANK NOTES [OPTIONS OF TRAIN]

Rank 0 appends `written` to NOTES when the run's state is on the disk, the others `left` when they
leave.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from sptmod_dist.cli import main
from sptmod_dist.train import checkpoint
from sptmod_dist.train.engine import Engine
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.trainer import Trainer

RANK = os.environ["RANK"]
save, learn, leave, write_status = (
    checkpoint.save, Trainer._learn, Engine.leave, RunFolder.write_status
)


def note(what: str) -> None:
    with open(sys.argv[2], "a") as file:
        file.write(f"{what}\n")


def saving(*arguments):
    time.sleep(1)
    return save(*arguments)


def learning(self, group):
    if self.progress.iteration == 9 and sys.argv[1] == RANK:
        os.kill(os.getpid(), signal.SIGTERM)
    return learn(self, group)


def writing(self, status):
    time.sleep(0.5)
    write_status(self, status)
    if status["state"] == "preempted":
        note("written")


def leaving(self, code):
    if RANK != "0":
        note("left")
    leave(self, code)


if __name__ == "__main__":
    checkpoint.save, Trainer._learn, Engine.leave = saving, learning, leaving
    RunFolder.write_status = writing
    sys.exit(main(["train", *sys.argv[3:]]))
