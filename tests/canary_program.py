"""Two sub-modules in one DeepSpeed engine, one of which takes part in the first of N iterations.

    torchrun … canary_program.py FILE

For every ZeRO stage FILE gets the weights after some groups, and the length of one step of plain
gradient descent where nothing is said of clipping. It uses nothing of this package: it is about
DeepSpeed alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

N, GROUPS, STAGES = 3, 2, (1, 2, 3)


class TwoRhythms(nn.Module):
    """`always` takes part in each iteration, `first` in the first of each N."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.always, self.first = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, is_first: bool) -> Tensor:
        x = x + self.first(x) if is_first else x
        return self.always(x).square().mean()


def batches() -> Iterator[tuple[int, Tensor]]:
    """Each iteration's place in its group, and its input."""
    generator = torch.Generator().manual_seed(2)
    for iteration in range(N * GROUPS):
        yield iteration % N, torch.randn(8, 4, generator=generator)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def simulated(between: Callable[[nn.Module], None]) -> dict[str, Tensor]:
    """The weights that plain torch comes to, where `between` is what becomes of the gradients.

    Args:
        between: is called with `first` before each iteration.
    """
    model = TwoRhythms()
    optimizer = adam(model)
    for index, x in batches():
        model.always.zero_grad()
        if index == 0:
            model.first.zero_grad()
        else:
            between(model.first)
        model(x, index == 0).backward()
        optimizer.step()
    return {name: weight.detach() for name, weight in model.named_parameters()}


def initialize(model: nn.Module, optimizer: Any, stage: int, **settings: Any) -> Any:
    import deepspeed

    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        **settings,
    }
    return deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]


def in_one_engine(stage: int) -> dict[str, Tensor]:
    """The weights that DeepSpeed comes to."""
    from deepspeed.utils import safe_get_full_fp32_param

    model = TwoRhythms()
    engine = initialize(model, adam(model), stage, gradient_clipping=0.0)
    for index, x in batches():
        engine.backward(engine(x, index == 0))
        engine.step()
    weights = {name: safe_get_full_fp32_param(p) for name, p in model.named_parameters()}
    engine.destroy()
    return {name: weight.reshape(-1).clone() for name, weight in weights.items()}


def default_step(stage: int) -> Tensor:
    """The length of a step of plain gradient descent, whose gradient has the norm 100."""
    from deepspeed.utils import safe_get_full_fp32_param

    model = nn.Linear(1, 1, bias=False)
    before = model.weight.detach().clone()
    engine = initialize(model, torch.optim.SGD(model.parameters(), lr=1.0), stage)
    engine.backward(100 * engine(torch.ones(1, 1)).sum())
    engine.step()
    after = safe_get_full_fp32_param(model.weight).reshape(before.shape)
    engine.destroy()
    return (after - before).norm()


def main(path: str) -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    deepspeed.init_distributed("gloo")
    found = {f"step{stage}": default_step(stage) for stage in STAGES}
    for stage in STAGES:
        found |= {f"{stage}.{name}": w for name, w in in_one_engine(stage).items()}
    save_file(found, path)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
