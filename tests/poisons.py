"""Ways in which distributed trainings go wrong in silence, each to be put in and to be noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from pytest import MonkeyPatch

from sptmod_dist import losses
from sptmod_dist.data import loader
from sptmod_dist.model.spn import StatePredictionNetwork
from sptmod_dist.settings import merge
from sptmod_dist.train import trainer
from sptmod_dist.train.engine import Engine

Patch = MonkeyPatch


def buffers_from_rank_0(patch: Patch) -> None:
    """What DDP does to caches that are buffers: rank 0's, before each forward pass."""
    forward = trainer.forward

    def broadcasting(effect, spn, sub, state, keep=None):
        for tensor in () if state is None else (state.rnn, *state.tails):
            dist.broadcast(tensor, 0)
        return forward(effect, spn, sub, state, keep)

    patch.setattr(trainer, "forward", broadcasting)


def spn_on_zero_gradients(patch: Patch) -> None:
    """What ZeRO-1 and 2 do to an SPN in the effect's engine: moments decay, weights drift."""
    step = Engine.step

    def stepping(self, learning_rate):
        norms = step(self, learning_rate)
        if not self._spn_learns:
            learner = self._learners["spn"]
            for parameter in learner.parameters:
                parameter.grad = torch.zeros_like(parameter)
            learner.step(learning_rate)
        return norms

    patch.setattr(Engine, "step", stepping)


def state_not_reset_on_rank_1(patch: Patch) -> None:
    """A group that starts from where the last one ended."""
    forward, predict, left = trainer.forward, StatePredictionNetwork.forward, []

    def keeping(*args):
        step = forward(*args)
        left[:] = [step.state.rnn.detach()]
        return step

    def predicting(self, *args, **kwargs):
        states = predict(self, *args, **kwargs)
        late = self.training and dist.get_rank() == 1 and left
        late = late and left[0].shape == states.shape and torch.is_grad_enabled()
        return states + (left[0] - states).detach() if late else states

    patch.setattr(trainer, "forward", keeping)
    patch.setattr(StatePredictionNetwork, "forward", predicting)


def ratio_of_batch_sums(patch: Patch) -> None:
    """An ESR over all of a process's rows at once."""

    def esr(prediction, target):
        error, energy = (prediction - target).square().sum(), target.square().sum()
        return (error / energy).expand(len(target))

    patch.setattr(losses, "esr", esr)


def rank_1_reads_rank_0s_rows(patch: Patch) -> None:
    rows = loader.rank_rows
    patch.setattr(loader, "rank_rows", lambda batch_size, rank, n: rows(batch_size, 0, n))


def rate_stepped_for_every_process(patch: Patch) -> None:
    """What Accelerate does to a schedule that it is given."""
    rate = trainer.learning_rate

    def hurrying(config, iteration, reductions):
        return rate(config, iteration * dist.get_world_size(), reductions)

    patch.setattr(trainer, "learning_rate", hurrying)


def deepspeeds_own_clipping(patch: Patch) -> None:
    with_settings(patch, {"gradient_clipping": 1.0})


def everything_in_parts(patch: Patch) -> None:
    """ZeRO-3 leaves small weights whole by default: here none."""
    with_settings(patch, {"zero_optimization": {"stage3_param_persistence_threshold": 0}})


def moments_on_the_cpu(patch: Patch) -> None:
    with_settings(patch, {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}})


def with_settings(patch: Patch, changes: dict[str, Any]) -> None:
    """DeepSpeed as another launcher's file would have it."""
    ours = Engine.zero_settings
    patch.setattr(Engine, "zero_settings", lambda self, clip: merge(ours(self, clip), changes))


def not_finite_on_the_last_rank(patch: Patch) -> None:
    """One sample of the second group is infinite, in the last row of the batch."""
    learn = trainer.Trainer._learn

    def learning(self, group):
        if (group.epoch, group.index) == (0, 1) and group.rows.stop == self.config.batch_size:
            group.input[-1, :, -1] = float("inf")
        return learn(self, group)

    patch.setattr(trainer.Trainer, "_learn", learning)


POISONS: dict[str, tuple[str, Callable[[Patch], None]]] = {
    "buffers": ("lstm", buffers_from_rank_0),
    "zeros": ("lstm", spn_on_zero_gradients),
    "reset": ("lstm", state_not_reset_on_rank_1),
    "ratio": ("lstm", ratio_of_batch_sums),
    "rows": ("lstm", rank_1_reads_rank_0s_rows),
    "rate": ("scheduled", rate_stepped_for_every_process),
}
"""Under DDP, by the variant that they are put into."""

ZERO_POISONS = {"clipping": ("average32", deepspeeds_own_clipping)}

HARMLESS: dict[str, tuple[str, Callable[[Patch], None]]] = {
    "parts": ("everything32", everything_in_parts),
    "offloaded": ("everything32", moments_on_the_cpu),
    "skipped": ("skipping32", not_finite_on_the_last_rank),
}
"""What must not change a training."""


@contextmanager
def poisoned(poison: Callable[[Patch], None]) -> Iterator[None]:
    """With a fault in the program."""
    with MonkeyPatch.context() as patch:
        poison(patch)
        yield
