"""Modulation by lines between frames in one pass, for the CPU: the lines are never written down.

The same numbers as `modulate(x, upsample(frames, size))`, up to the order of sums in the frames'
gradients. There the lines [B, 2c, T] are written to memory, read again, and so are their gradients;
here each row of the batch is worked at while it is in the cache, and a frame's gradient is two sums
over the samples on either side of it. It knows nothing of blocks or networks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sptmod_dist.model.framing import in_cache


def steer(x: Tensor, frames: Tensor, size: int) -> Tensor:
    """`a * x + b` with `a` and `b` on straight lines between frames.

    Args:
        frames: factors in the first half of the channels, summands in the second, one more than
            there are stretches of `size` samples; rounded to bfloat16 they are not.

    Shape: x [B, c, K * size], frames [B, 2c, K + 1] -> [B, c, K * size].
    """
    result: Tensor = _Steer.apply(x, frames, size)
    return result


def _shares(size: int, dtype: torch.dtype) -> Tensor:
    """What a line's samples have of the frame before and of the next: [2, size]."""
    position = torch.arange(size, dtype=dtype) / size
    return torch.stack([1 - position, position])


def _ends(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Of every line both frames, factors and summands: [B, 2c, K + 1] to twice [B * c, K, 2]."""
    ends = torch.stack([frames[..., :-1], frames[..., 1:]], dim=3)
    scale, shift = (half.flatten(0, 1) for half in ends.chunk(2, dim=1))
    return scale, shift


def _lines(ends: Tensor, shares: Tensor) -> Tensor:
    """[n, K, 2] to [n, K * size]. Not by `lerp`, which is not vectorised where two of three are
    broadcast; nor as a product of matrices, whose rounding depends on how many rows there are."""
    start, end = ends.unbind(2)
    return (start.unsqueeze(2) * shares[0]).add_(end.unsqueeze(2) * shares[1]).flatten(1)


class _Steer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frames: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(x, frames)
        ctx.size = size
        shares, (scale, shift) = _shares(size, x.dtype), _ends(frames)
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        for rows, values in in_cache(x):
            factors, summands = _lines(scale[rows], shares), _lines(shift[rows], shares)
            torch.addcmul(summands, values, factors, out=y.flatten(0, 1)[rows])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, frames = ctx.saved_tensors
        shares, (scale, _) = _shares(ctx.size, x.dtype), _ends(frames)
        of_scale, of_shift = torch.empty_like(scale), torch.empty_like(scale)
        of_x = torch.empty_like(x, memory_format=torch.contiguous_format)
        gradient = gradient.flatten(0, 1)
        for rows, values in in_cache(x):
            for each, of_each in ((gradient[rows] * values, of_scale), (gradient[rows], of_shift)):
                parts = each.unflatten(1, (-1, ctx.size))
                torch.sum(parts, 2, out=of_each[rows, :, 0])
                torch.sum(parts * shares[1], 2, out=of_each[rows, :, 1])
            of_scale[rows, :, 0] -= of_scale[rows, :, 1]
            of_shift[rows, :, 0] -= of_shift[rows, :, 1]
            lines = _lines(scale[rows], shares)
            torch.mul(gradient[rows], lines, out=of_x.flatten(0, 1)[rows])
        ends = torch.cat([each.unflatten(0, x.shape[:2]) for each in (of_scale, of_shift)], dim=1)
        of_frames = torch.zeros_like(frames)
        of_frames[..., :-1] = ends[..., 0]
        of_frames[..., 1:] += ends[..., 1]
        return of_x, of_frames, None
