"""A worker: takes trainings that nobody has, the longest first, as many at once as fit, until
nothing is left or it is told to stop.

Any number of workers share a study's folder, on one machine or many. It knows processes and
claims; what a training is, is the matter of `work.py`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from sptmod_dist.study import children, work
from sptmod_dist.study.claims import RENEWED, Claim, age, attempts, claim
from sptmod_dist.study.estimate import Estimate
from sptmod_dist.study.folder import Result, StudyFolder
from sptmod_dist.study.grid import Training
from sptmod_dist.study.machine import Machine
from sptmod_dist.study.study_file import StudyFile
from sptmod_dist.train import checkpoint
from sptmod_dist.train.main import FINISHED, REQUEUE

KILLS = 3
"""Attempts in a row that were killed without getting any further, after which a training fails."""
_PATIENCE = 60.0  # seconds for which a worker watches whether others live
_LOOK = 0.1  # seconds between two looks at the children
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

Say = Callable[[str], None]


@dataclass
class Child:
    """A training at work."""

    training: Training
    claim: Claim
    pid: int
    gpu: str
    begun: float


class Worker:
    """One worker.

    Args:
        study: whose.
        trainings: all of it.
        estimates: of each training by its id; without one it counts as taking no memory.
        machine: what there is.
        jobs: trainings at once, at most.
        to_the_end: stay until every training has ended, whoever has it.
        say: takes a line for the user.
    """

    def __init__(
        self,
        study: StudyFile,
        trainings: Sequence[Training],
        estimates: Mapping[str, Estimate],
        machine: Machine,
        jobs: int,
        to_the_end: bool = False,
        say: Say = print,
    ) -> None:
        self._study, self._folder = study, StudyFolder(study)
        self._estimates, self._machine, self._jobs = estimates, machine, jobs
        self._say, self._all = say, trainings
        self._first = {t.dataset.name: t for t in reversed(trainings)}
        self._left = sorted(trainings, key=lambda t: -self._seconds(t))
        self._children: list[Child] = []
        self._to_the_end = to_the_end
        self._asked, self._hurry, self._told = 0, False, 0.0
        self._waiting: float | None = None
        self._elsewhere: dict[str, float] = {}  # when a training was found to be somebody's

    def run(self) -> int:
        """Work until nothing is left to take, or a signal asks to stop.

        Returns:
            The exit code: 0 where nothing is left to do here, 85 after a signal.
        """
        with self._signals():
            while True:
                self._reap()
                while not self._asked and self._start():
                    pass
                if not (self._children or self._waits()):
                    break
                for child in self._children:
                    child.claim.renew()
                self._pass_on()
                time.sleep(_LOOK)
        return REQUEUE if self._asked else FINISHED

    # Starting ----------------------------------------------------------------------------------

    def _start(self) -> bool:
        """Start one training, if there is room and one is to be had."""
        if len(self._children) >= self._jobs:
            return False
        for training in list(self._left):
            gpu = self._room(training)
            if gpu is None or self._is_elsewhere(training):
                continue
            if self._folder.result(training.id) is not None:
                self._left.remove(training)
                continue
            taken = claim(self._folder.state(training.id))
            if taken is None:
                self._elsewhere[training.id] = time.monotonic()
            elif self._folder.result(training.id) is not None:  # ended in between
                taken.end("nothing to do", 0)
                self._left.remove(training)
            else:
                self._left.remove(training)
                self._fork(training, taken, gpu)
                return True
        return False

    def _is_elsewhere(self, training: Training) -> bool:
        """Whether somebody had it a moment ago; asking takes time, over a network most of all."""
        return time.monotonic() - self._elsewhere.get(training.id, -1e9) < 5.0

    def _waits(self) -> bool:
        """Whether to stay, though all that is left is somebody else's: it may be free soon.

        A worker that need not see the end leaves when it has seen that the others live.
        """
        if self._asked or not self._left:
            return False
        if self._waiting is None:
            self._waiting = time.monotonic()
            self._say(f"waiting for {len(self._left)} that others have")
        if self._to_the_end or time.monotonic() - self._waiting < _PATIENCE:
            return True
        ages = [age(self._folder.state(training.id)) for training in self._left]
        return any(seconds > 2 * RENEWED for seconds in ages)

    def _room(self, training: Training) -> str | None:
        """The GPU with room for it, empty for no GPU; None where there is no room now.

        What no room would ever be for is tried alone: the estimate may be wrong.
        """
        alone = not self._children
        needs = self._estimates.get(training.id)
        taken = sum(self._memory(child) for child in self._children)
        if needs and not alone and taken + needs.memory > self._machine.memory:
            return None
        if not self._machine.gpus:
            return ""
        free = {gpu.id: gpu.memory for gpu in self._machine.gpus}
        count = dict.fromkeys(free, 0)
        for child in self._children:
            other = self._estimates.get(child.training.id)
            free[child.gpu] -= other.gpu_memory if other else 0.0
            count[child.gpu] += 1
        best = min(free, key=lambda gpu: (count[gpu], -free[gpu]))
        fits = needs is None or needs.gpu_memory <= free[best] or not count[best]
        return best if fits else None

    def _memory(self, child: Child) -> float:
        needs = self._estimates.get(child.training.id)
        return needs.memory if needs else 0.0

    def _fork(self, training: Training, taken: Claim, gpu: str) -> None:
        folder, others = self._folder, [child.claim for child in self._children]
        work.forget(folder.state(training.id))
        threads, first = self._machine.threads(self._jobs), self._first[training.dataset.name]

        def close_others() -> None:  # they must not live on in here
            for other in others:
                other.close()

        pid = children.start(
            lambda: work.carry_out(self._study, folder, training, first, gpu, threads),
            folder.log(training.id),
            close_others,
        )
        self._children.append(Child(training, taken, pid, gpu, time.monotonic()))

    # Ending ------------------------------------------------------------------------------------

    def _reap(self) -> None:
        for child in list(self._children):
            end = children.ended(child.pid)
            if end is not None:
                self._children.remove(child)
                self._conclude(child, end)

    def _conclude(self, child: Child, end: children.Ended) -> None:
        """Note how a training ended, before anybody else can take it."""
        name = child.training.id
        words = work.said(self._folder.state(name))
        result = self._result(child, end, words)
        iteration = self._iteration(name)
        how = result.state if result else "stopped" if self._is_stop(end) else "killed"
        if result is not None:
            self._folder.write_result(name, result)
        else:
            self._left.insert(0, child.training)
        child.claim.end(how, iteration)
        self._tell(child, end, result, how)

    def _result(
        self, child: Child, end: children.Ended, words: Mapping[str, Any]
    ) -> Result | None:
        """How it ended for good; None where it is to be taken again."""
        name, state, why = child.training.id, "failed", ""
        finished = end.code == FINISHED and words.get("code") == FINISHED
        if finished and self._folder.run(name).summary() is not None:
            state = "finished"
        elif self._is_stop(end):
            return None
        elif words.get("why"):
            why = str(words["why"])
        else:
            if self._kills(name) < KILLS:
                return None
            why = f"{children.in_words(end.code)}, {KILLS} times in a row: take fewer --jobs, or "
            why += f"look into {self._folder.log(name)}"
        return Result(
            state=state,
            why=why,
            seconds=round(time.monotonic() - child.begun, 2),
            computing=round(end.computing, 2),
            memory=end.memory,
            gpu_memory=words.get("gpu_memory", 0.0),
            host=os.uname().nodename,
            device=words.get("device", ""),
            test_loss=words.get("test_loss"),
            attempts=child.claim.number,
        )

    def _is_stop(self, end: children.Ended) -> bool:
        return end.code == REQUEUE or (bool(self._asked) and end.code != FINISHED)

    def _kills(self, name: str) -> int:
        """How often in a row, this time included, it was killed without getting any further."""
        iteration, count = self._iteration(name), 1
        for attempt in reversed(attempts(self._folder.state(name))[:-1]):
            if attempt.get("how") != "killed" or attempt.get("iteration") != iteration:
                break
            count += 1
        return count

    def _iteration(self, name: str) -> int:
        newest = self._folder.run(name).newest_checkpoint()
        return 0 if newest is None else checkpoint.iteration_of(newest)

    def _tell(
        self, child: Child, end: children.Ended, result: Result | None, how: str
    ) -> None:
        name = child.training.id
        if result is None:
            how = "stopped" if how == "stopped" else f"{children.in_words(end.code)}: again"
            self._say(f"{name}: {how}")
            return
        best = (self._folder.run(name).summary() or {}).get("best_st")
        what = f"best ST {best:.4f}" if isinstance(best, float) else result.why
        at_work, waiting = len(self._children), len(self._left)
        self._say(
            f"{name}: {result.state} after {result.seconds:.0f} s, {what} ({at_work} at work, "
            f"{waiting} to go)"
        )

    def _seconds(self, training: Training) -> float:
        known = self._estimates.get(training.id)
        if known is not None:
            return known.seconds
        config = training.config  # in their order, if in no unit
        samples = config.model.plan(config.lengths[0]).input_length + sum(config.lengths[1:])
        return config.batch_size * samples / len(config.lengths) / 1e9

    # Signals -----------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let a signal ask to stop: trainings write a checkpoint, and the worker leaves after them.

        A second Ctrl-C ends them at once.
        """
        before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        try:
            yield
        finally:
            for child in self._children:  # an error: none may be left behind
                _send(child.pid, signal.SIGTERM)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._hurry = bool(self._asked) and number == signal.SIGINT
        self._asked += 1
        if self._asked == 1 and number == signal.SIGINT:
            os.write(2, b"\nsptmod-dist: stopping after a checkpoint; Ctrl-C again ends it now\n")

    def _pass_on(self) -> None:
        """Tell the trainings to stop: again and again, since one may have been starting."""
        if self._asked and (self._hurry or time.monotonic() - self._told > 1.0):
            self._told = time.monotonic()
            for child in self._children:
                _send(child.pid, signal.SIGKILL if self._hurry else signal.SIGTERM)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
