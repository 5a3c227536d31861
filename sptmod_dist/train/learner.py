"""One network and its optimizer on one rank: backward, exchange of gradients, clipping, AdamW.

A learner is told of slices: parts of this rank's rows that pass through the networks one after the
other, for memory (micro-batches) or for bit-identical sums (virtual shards); their gradients make
one step. It knows torch alone: what Accelerate or DeepSpeed wraps comes from `engine.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sptmod_dist.train.checkpoint import MOMENT_NAMES, Tensors
from sptmod_dist.train.config import OptimizerConfig


def adamw(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.AdamW:
    """Adam with decoupled weight decay; without decay it is the paper's Adam, bit for bit."""
    return torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)


def begin_moments(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
    """Moments of zero after zero steps, there from the start so that they can be kept and loaded.

    AdamW makes the same ones at its first step.
    """
    for parameter in parameters:
        step = torch.zeros((), dtype=torch.float32)
        moments = (torch.zeros_like(parameter) for _ in MOMENT_NAMES[1:])
        optimizer.state[parameter] = dict(zip(MOMENT_NAMES, (step, *moments), strict=True))


class Autocast(nn.Module):
    """Call a network under bfloat16 autocast; its weights stay what they are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *args: object, **kwargs: object) -> object:
        device = next(self.network.parameters()).device.type
        with torch.autocast(device, torch.bfloat16):
            return self.network(*args, **kwargs)


class Learner:
    """A network that steps by the mean gradient of all ranks.

    Args:
        network: the plain module; its parameters have a device.
        module: what training calls: the network, or DistributedDataParallel around it.
        config: of the optimizer.
    """

    def __init__(self, network: nn.Module, module: nn.Module, config: OptimizerConfig) -> None:
        self.network, self.module, self.config = network, module, config
        self.parameters: list[Any] = list(network.parameters())
        self._make_optimizer()
        self.averages = [w.clone() for w in self._weights()] if config.average else None

    def _make_optimizer(self) -> None:
        self.optimizer: torch.optim.Optimizer = adamw(self.parameters, self.config)
        begin_moments(self.optimizer, self.parameters)

    def exchange(self, last: bool) -> AbstractContextManager[None]:
        """Around a slice's forward and backward pass: ranks exchange gradients in the last one."""
        if last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()

    def backward(self, loss: Tensor) -> None:
        """Add a slice's gradient to this rank's."""
        loss.backward()

    def step(self, learning_rate: float) -> Tensor:
        """Clip and step once all slices are in; give the gradient's norm before clipping, []."""
        self._bring_together()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.config.clip_norm, norm)
        self._set_rate(learning_rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._average()
        return norm

    def _bring_together(self) -> None:
        """What is left to do before every rank has the same gradient; here DDP has done it."""

    def _set_rate(self, learning_rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def _average(self) -> None:
        if self.averages is not None:
            get_ema_multi_avg_fn(self.config.average)(self.averages, self._weights(), 0)

    def _weights(self) -> list[Tensor]:
        """This rank's part of the weights, in the parameters' order."""
        return [p.detach() for p in self.parameters]

    # State -------------------------------------------------------------------------------------

    def state(self) -> list[Tensor]:
        """Every tensor of this rank that a step changes, to be copied and put back."""
        entries = (e for state in self.optimizer.state.values() for e in state.values())
        return [*self._weights(), *entries, *(self.averages or [])]

    def renew(self) -> None:
        """After `state` was put back: make what follows from it follow again."""

    def export(self) -> Iterator[tuple[str, Tensor, Tensors, Tensor | None]]:
        """Each parameter's name, weight, moments and average, whole, on the CPU."""
        for i, (name, p) in enumerate(self.network.named_parameters()):
            moments = {key: on_cpu(self.optimizer.state[p][key]) for key in MOMENT_NAMES}
            average = None if self.averages is None else on_cpu(self.averages[i])
            yield name, on_cpu(p), moments, average

    @torch.no_grad()
    def load(self, name: str, weight: Tensor, moments: Tensors, average: Tensor | None) -> None:
        """Take one parameter whole; without moments it begins again, without average at weight."""
        index = [key for key, _ in self.network.named_parameters()].index(name)
        parameter = self.parameters[index]
        parameter.copy_(weight)
        for key, entry in self.optimizer.state[parameter].items():
            entry.copy_(moments[key]) if key in moments else entry.zero_()
        if self.averages is not None:
            self.averages[index].copy_(weight if average is None else average)


class OrderedLearner(Learner):
    """A network whose gradients are summed slice by slice, in the slices' order, on every rank.

    The global batch has a fixed number of slices. Whoever computes them, the same numbers are
    added in the same order: any number of processes gives the same bytes.

    Args:
        stack: every rank's rows of a tensor on every rank, `Ranks.stack`.
    """

    def __init__(
        self,
        network: nn.Module,
        module: nn.Module,
        config: OptimizerConfig,
        stack: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(network, module, config)
        self._stack, self._slices = stack, list[Tensor]()

    def backward(self, loss: Tensor) -> None:
        """Keep a slice's gradient for itself."""
        loss.backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        self._slices.append(torch.cat([gradient.flatten() for gradient in gradients]))
        self.optimizer.zero_grad(set_to_none=True)

    def _bring_together(self) -> None:
        rows = self._stack(torch.stack(self._slices))
        self._slices.clear()
        total = rows[0].clone()
        for row in rows[1:]:
            total += row
        sizes = [p.numel() for p in self.parameters]
        for p, gradient in zip(self.parameters, (total / len(rows)).split(sizes), strict=True):
            p.grad = gradient.view_as(p)


def on_cpu(tensor: Tensor) -> Tensor:
    """A copy of its own, as a file can hold it."""
    return tensor.detach().to("cpu", copy=True).contiguous()
