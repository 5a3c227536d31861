"""A training to which something happens: one of its processes, or all, are killed at some moment.

    torchrun … faulty_training.py HOW SEED SECONDS CONFIG [OPTIONS OF TRAIN]

HOW is `nothing`, `kill-one`, `kill-all` (SIGKILL at a random moment of so many SECONDS of
training), `kill-writing` (SIGKILL of rank 0 at a random step of writing checkpoints) or `term`
(SIGTERM to one process). Rank 0 appends to NOTES what happened: the iteration after each group,
and at the end how many steps writing took and how many seconds training.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time

from sptmod_dist.cli import main
from sptmod_dist.train.trainer import Trainer

RANK = int(os.environ.get("RANK", "0"))
NOTES = "SPTMOD_NOTES"
STEPS = "SPTMOD_WRITING_STEPS"
WRITING = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"}


def die(seconds: float, number: int) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), number)


def at_a_moment(how: str, seed: int, seconds: float) -> None:
    """In `how`, let this rank be killed or asked to stop after some of the seconds."""
    dice = random.Random(f"{how} {seed}")
    moment, unlucky = dice.uniform(0, seconds), dice.randrange(int(os.environ["WORLD_SIZE"]))
    number = signal.SIGTERM if how == "term" else signal.SIGKILL
    if how == "kill-all" or how in ("kill-one", "term") and unlucky == RANK:
        threading.Thread(target=die, args=(moment, number), daemon=True).start()


class Writing:
    """Counts the steps of writing checkpoints, and dies at one of them."""

    def __init__(self, how: str, seed: int) -> None:
        steps = int(os.environ.get(STEPS, "0"))
        self.last = random.Random(seed).randint(1, steps) if how == "kill-writing" else 0
        self.count = 0
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple) -> None:
        if event in WRITING and "checkpoints" in str(arguments[0]):
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def train(how: str, seed: int, seconds: float, *options: str) -> int:
    notes = open(os.environ[NOTES], "a", buffering=1) if RANK == 0 else open(os.devnull, "w")
    fit, end = Trainer.fit, Trainer._end_of_group

    def fitting(self):
        at_a_moment(how, seed, seconds)
        writing = Writing(how, seed) if RANK == 0 else None
        print("from", self.progress.iteration, file=notes)
        begun = time.monotonic()
        finished = fit(self)
        print("steps", writing.count if writing else 0, file=notes)
        print("seconds", time.monotonic() - begun, file=notes)
        return finished

    def ending(self, *arguments):
        end(self, *arguments)
        print("at", self.progress.iteration, file=notes)

    Trainer.fit, Trainer._end_of_group = fitting, ending
    return main(["train", "--config", *options])


if __name__ == "__main__":
    os._exit(train(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]))
