"""One process of a benchmark: waits for orders, runs groups as a training does, answers with times.

    python -m benchmarks.rank        # or under accelerate launch; benchmarks/jobs.py starts it

Engine, networks, loss and schedule are the real ones, and a group has all steps of `Trainer`'s;
the audio is noise and the learning rate 0, so that every group costs the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks.work import JOB, SOCKET, Order, Work
from sptmod_dist.losses import Loss
from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.model.effects import EffectState
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train.config import DistributedConfig
from sptmod_dist.train.engine import Engine


class Training:
    """One training on this rank, without data and without an end.

    Args:
        order: which work, and how gradients travel.
    """

    def __init__(self, order: Order) -> None:
        self.engine = engine = Engine()
        config = order.work.settings(engine.world_size, order.shards)
        config = engine.settle(config)
        self.exchanged = {"gradients": 0, "small": 0}
        self._in_group = False
        if order.count:
            self._count_gathers()
        torch.manual_seed(0)
        engine.wrap(SPTMod(config.model), StatePredictionNetwork(config.model), config.optimizer)
        if order.count:
            self._count_reductions()
        self.schedule, self.loss = Schedule(config.model, config.lengths), Loss(config.loss)
        self._make_rows(order.work)

    def _make_rows(self, work: Work) -> None:
        torch.manual_seed(1 + self.engine.rank)
        shape = (work.model.signal_channels, self.schedule.sequence_length)
        x, controls = torch.randn(work.rows, *shape) / 5, torch.rand(work.rows, work.n_params)
        self.rows = (x, x[:, : work.model.input_channels] / 2, controls)

    def run(self, groups: int, apart: bool) -> float:
        """Seconds an iteration.

        Args:
            groups: how many are run, one after the other.
            apart: without any exchange between the ranks.
        """
        with self._alone() if apart else contextlib.nullcontext():
            begin = time.perf_counter()
            for index in range(groups):
                self._group(index, apart)
            seconds = time.perf_counter() - begin
        return seconds / (groups * len(self.schedule.lengths))

    def _group(self, index: int, apart: bool) -> None:
        engine = self.engine
        if not apart:
            engine.agree(f"epoch 0, group {index}")
        engine.remember()
        terms, norms = self._learn()
        told = torch.cat([terms.new_zeros(2).double(), terms.flatten(), norms.flatten()])
        if not apart:
            engine.share(told)

    def _learn(self) -> tuple[Tensor, Tensor]:
        """As `Trainer._learn`."""
        engine = self.engine
        rows = len(self.rows[0]) // engine.n_slices
        slices = list(zip(*(tensor.split(rows) for tensor in self.rows), strict=True))
        states: list[EffectState | None] = [None] * len(slices)
        figures, norms = [], []
        for subs in zip(*(self.schedule.split(*parts) for parts in slices), strict=True):
            for k, sub in enumerate(subs):
                with engine.slice(k):
                    step = forward(engine.effect, engine.spn, sub, states[k])
                    terms = self.loss(step.prediction, sub.target)
                    self._in_group = True
                    engine.backward(terms.total, step.seam)
                states[k] = step.state.detach()
                figures.append(torch.stack(terms).detach())
            norms.append(engine.step(learning_rate=0.0))
            self._in_group = False
        return torch.stack(figures), torch.stack(norms)

    def _alone(self) -> contextlib.AbstractContextManager[Any]:
        """DDP leaves gradients as they are inside; anything else has no such thing."""
        stack = contextlib.ExitStack()
        for module in (self.engine.effect, self.engine.spn):
            if isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        return stack

    # Counting ----------------------------------------------------------------------------------

    def _count_gathers(self) -> None:
        """Between backward pass and step gradients are gathered, elsewhere a few numbers."""
        stack = self.engine.stack

        def counting(rows: Tensor) -> Tensor:
            kind = "gradients" if self._in_group else "small"
            self.exchanged[kind] += rows.nbytes
            return stack(rows)

        self.engine.stack = counting  # type: ignore[method-assign]

    def _count_reductions(self) -> None:
        for module in (self.engine.effect, self.engine.spn):
            if isinstance(module, DistributedDataParallel):
                # Bare: DDP compares annotations, and finds words where they are not evaluated.
                module.register_comm_hook(None, lambda _, bucket: self._reduce(bucket))

    def _reduce(self, bucket: Any) -> Any:
        self.exchanged["gradients"] += bucket.buffer().nbytes
        return allreduce_hook(None, bucket)  # type: ignore[arg-type]

    def count(self) -> dict[str, int]:
        """Bytes that this rank gives to exchanges in one group, of gradients and at its ends."""
        self.exchanged.update(gradients=0, small=0)
        self._group(0, apart=False)
        return self.exchanged


@contextlib.contextmanager
def _bound() -> Iterator[None]:
    """Every thread of this process on one core, another one than its neighbour's."""
    cores = os.sched_getaffinity(0)
    own = sorted(cores)[int(os.environ.get("LOCAL_RANK", "0")) % len(cores)]
    _set_cores({own})
    try:
        yield
    finally:
        _set_cores(cores)


def _set_cores(cores: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(int(thread), cores)


def main() -> None:
    """Answer orders until the one who gives them is gone."""
    rank = int(os.environ.get("RANK", "0"))
    trainings: dict[tuple[Work, int | None, bool], Training] = {}
    # All ranks have met before one of them says that it is there.
    engine = Engine(DistributedConfig(timeout=120))
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(os.environ[SOCKET])
        channel.sendall(json.dumps([os.environ[JOB], rank]).encode() + b"\n")
        for line in channel.makefile("rb"):
            order = Order.from_line(line)
            key = (order.work, order.shards, order.count)
            if key not in trainings:
                trainings[key] = Training(order)
            training = trainings[key]
            with _bound() if order.bound else contextlib.nullcontext():
                answer = (
                    training.count() if order.count else training.run(order.groups, order.apart)
                )
            channel.sendall(json.dumps(answer).encode() + b"\n")
    engine.close()


if __name__ == "__main__":
    main()
