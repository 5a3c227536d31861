"""PReLU, and the pooling of its frames, in one pass for the CPU.

The same numbers as `prelu` and `pool` in turn. Masks are floats and places are sums: comparisons
that give bool, and choices among indices, take five to thirty times as long on a CPU, for they are
not vectorised. Some channels at a time are worked at while they are in the cache. It knows nothing
of blocks or networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import prelu

CACHED = 1 << 17
"""Values that are worked at together: 256 KB as float32, a few times."""


def activate_and_pool(x: Tensor, slope: Tensor, size: int, kind: str) -> tuple[Tensor, Tensor]:
    """`y = prelu(x, slope)` and `pool(y, size, kind)`.

    Shape: x [B, c, K * size], slope [c] -> y as x, pooled [B, c, K].
    """
    y, pooled = _ActivateAndPool.apply(x, slope, size, kind)
    return y, pooled


class _ActivateAndPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, slope: Tensor, size: int, kind: str
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        x = x.contiguous()
        y = prelu(x, slope)
        pooled = y.new_empty(*y.shape[:2], y.shape[2] // size)
        places = pooled.new_empty(pooled.shape, dtype=torch.int64) if kind == "max" else None
        for rows, values in in_cache(y):
            frames, its_pooled = values.unflatten(1, (-1, size)), pooled.flatten(0, 1)[rows]
            if places is None:
                torch.mean(frames, 2, out=its_pooled)
            else:
                torch.amax(frames, 2, out=its_pooled)
                if any(ctx.needs_input_grad):
                    places.flatten(0, 1)[rows] = _first_equal(frames, its_pooled)
        ctx.save_for_backward(x, slope, places)
        ctx.size = size
        return y, pooled

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_y: Tensor | None, of_pooled: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, slope, places = ctx.saved_tensors
        of_slope = torch.zeros_like(slope)
        if of_pooled is not None and places is None:
            spread = (of_pooled / ctx.size).repeat_interleave(ctx.size, dim=2)
            of_y = spread if of_y is None else of_y + spread
        of_x = torch.zeros_like(x) if of_y is None else torch.empty_like(x)
        if of_y is not None:
            every, its_sums = slope.repeat(len(x))[:, None], slope.new_empty(len(x) * len(slope))
            for rows, values in in_cache(x):
                gradient, out = of_y.flatten(0, 1)[rows], of_x.flatten(0, 1)[rows]
                its_sums[rows] = (gradient * values.clamp(max=0)).sum(1)
                positive = gradient * torch.gt(values, 0, out=out)
                torch.addcmul(positive, gradient - positive, every[rows], out=out)
            of_slope += its_sums.unflatten(0, (len(x), -1)).sum(0)
        if of_pooled is not None and places is not None:
            frames, its_frames = (each.unflatten(2, (-1, ctx.size)) for each in (of_x, x))
            chosen = its_frames.gather(3, places.unsqueeze(3)).squeeze(3)
            of_chosen = torch.where(chosen > 0, of_pooled, of_pooled * slope[:, None])
            frames.scatter_add_(3, places.unsqueeze(3), of_chosen.unsqueeze(3))
            of_slope += (of_pooled * chosen.clamp(max=0)).sum((0, 2))
        return of_x, of_slope, None, None


def in_cache(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Channels of all rows of a batch, some at a time, few enough to stay in the cache.

    Shape: x [B, c, T] -> places among B * c, and what is there [n, T].
    """
    count = max(1, CACHED // x.shape[2])
    for rows in (slice(n, n + count) for n in range(0, len(x) * x.shape[1], count)):
        yield rows, x.flatten(0, 1)[rows]


def _first_equal(frames: Tensor, greatest: Tensor) -> Tensor:
    """Where in each frame the greatest value stands first. Shape: [c, K, n], [c, K] -> [c, K]."""
    size = frames.shape[2]
    left = torch.arange(size, 0, -1, dtype=frames.dtype)  # so many are left from here on
    equal = torch.eq(frames, greatest.unsqueeze(2), out=torch.empty_like(frames))
    found = size - equal.mul_(left).amax(2)
    return found.clamp_(max=size - 1).long()  # NaN equals nothing
