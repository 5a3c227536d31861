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


def steer(x: Tensor, frames: Tensor, size: int) -> Tensor:
    """`a * x + b` with `a` and `b` on straight lines between frames.

    Args:
        frames: factors in the first half of the channels, summands in the second, one more than
            there are stretches of `size` samples; rounded to bfloat16 they are not.

    Shape: x [B, c, K * size], frames [B, 2c, K + 1] -> [B, c, K * size].
    """
    result: Tensor = _Steer.apply(x, frames, size)
    return result


def _line(frames: Tensor, position: Tensor) -> Tensor:
    """[c, K + 1] to [c, K, size]."""
    return torch.lerp(frames[:, :-1, None], frames[:, 1:, None], position)


class _Steer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, frames: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(x, frames)
        ctx.size = size
        position = torch.arange(size, dtype=x.dtype) / size
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        for row, its_frames, out in zip(x, frames, y, strict=True):
            scale, shift = (_line(half, position) for half in its_frames.chunk(2))
            torch.addcmul(shift, row.unflatten(-1, (-1, size)), scale, out=out.view(shift.shape))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, frames = ctx.saved_tensors
        position = torch.arange(ctx.size, dtype=x.dtype) / ctx.size
        shares = torch.stack([1 - position, position], dim=1)  # of a sample, for both its frames
        of_frames = torch.zeros_like(frames)
        of_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        for number, (row, its_frames, its_gradient) in enumerate(
            zip(x, frames, gradient, strict=True)
        ):
            g = its_gradient.unflatten(-1, (-1, ctx.size))
            sums = torch.cat([(g * row.unflatten(-1, (-1, ctx.size))) @ shares, g @ shares])
            of_frames[number, :, :-1] = sums[..., 0]
            of_frames[number, :, 1:] += sums[..., 1]
            if of_x is not None:
                scale = _line(its_frames.chunk(2)[0], position)
                torch.mul(g, scale, out=of_x[number].view(scale.shape))
        return of_x, of_frames, None
