"""Convolution, PReLU, FiLM and pooling of an SPN's block in one pass over time, for the CPU.

The same numbers as the four layers in turn, up to the order of sums. Two things make it fast. A
convolution of stride `s` is one of stride `S s` with `S` times the channels, one shifted kernel for
each of `S` neighbouring outputs: the same multiplications, in a shape whose backward pass runs
several times faster. And time is cut into chunks that stay in the cache from the convolution to the
pooling, so that what is written to memory, and kept for the backward pass, is pooled already.
It knows nothing of blocks or networks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv1d, pad, prelu

from sptmod_dist.model.wide_conv import narrow, widen

SHARE = 8
"""Neighbouring outputs of a convolution that are computed as channels of one."""
CACHED = 1 << 18
"""Values that a chunk may hold after the convolution: 1 MB as float32."""


def pooled_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    slope: Tensor,
    scale_and_shift: Tensor | None,
    stride: int,
    pooling: int,
    kind: str,
) -> Tensor:
    """`pool(film(prelu(conv1d(x))))`.

    Args:
        x: what is convolved, with `weight` and `bias`, by `stride`; no dilation.
        slope: of the PReLU, one a channel.
        scale_and_shift: FiLM's factors, then its summands; None for none.
        pooling: how many samples make one, without overlap.
        kind: `max` or `average`.

    Shape: x [B, c_in, T], weight [c, c_in, k], bias and slope [c], scale_and_shift [B, 2c, 1] ->
    [B, c, T'] with T' = ((T - k) // stride + 1) // pooling.
    """
    if scale_and_shift is None:
        scale = shift = None
    else:
        scale, shift = scale_and_shift.chunk(2, dim=1)
    result: Tensor = _PooledConv.apply(x, weight, bias, slope, scale, shift, stride, pooling, kind)
    return result


class _Shape:
    """How time is cut: `steps` of the wide convolution, each of `groups` pooled samples."""

    def __init__(self, x: Tensor, weight: Tensor, stride: int, pooling: int) -> None:
        self.channels, _, self.kernel = weight.shape
        self.stride, self.pooling = stride, pooling
        self.length = ((x.shape[-1] - self.kernel) // stride + 1) // pooling
        self.groups = max(1, SHARE // pooling)
        self.hop = self.groups * pooling * stride
        self.wide = self.kernel + self.hop - stride
        self.steps = -(-self.length // self.groups)
        values = len(x) * self.channels * self.groups * pooling
        self.chunk = max(16, CACHED // values)

    def pieces(self, x: Tensor) -> Any:
        """The chunks: a slice of the pooled samples, where the input starts, and that input."""
        for start in range(0, self.steps, self.chunk):
            stop = min(start + self.chunk, self.steps)
            first, last = start * self.hop, (stop - 1) * self.hop + self.wide
            piece = x[..., first : min(last, x.shape[-1])]
            missing = last - first - piece.shape[-1]  # the last step may reach beyond the end
            yield (
                slice(start * self.groups, min(stop * self.groups, self.length)),
                first,
                pad(piece, (0, missing)) if missing else piece,
            )

    def widen(self, weight: Tensor) -> Tensor:
        """The kernels of neighbouring outputs as channels: [groups * pooling * c, c_in, wide]."""
        return widen(weight, self.stride, self.groups * self.pooling)

    def narrow(self, wide: Tensor) -> Tensor:
        """A gradient of the wide kernels as that of the kernel."""
        return narrow(wide, self.kernel, self.stride, self.groups * self.pooling)

    def split(self, wide: Tensor) -> Tensor:
        """Wide channels [B, groups * pooling * c, m] by their meaning: a view [B, groups, pooling,
        c, m]."""
        return wide.unflatten(1, (self.groups, self.pooling, self.channels))

    def join(self, pooled: Tensor, length: int) -> Tensor:
        """[B, groups, c, m] in the order of time: [B, c, length]."""
        return pooled.permute(0, 2, 3, 1).flatten(2)[..., :length]

    def part(self, signal: Tensor, where: slice) -> Tensor:
        """The opposite: pooled samples [B, c, T'] of a chunk as [B, groups, 1, c, m]."""
        piece = signal[..., where]
        piece = pad(piece, (0, -piece.shape[-1] % self.groups))
        return piece.unflatten(2, (-1, self.groups)).permute(0, 3, 1, 2).unsqueeze(2)


class _PooledConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        slope: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        stride: int,
        pooling: int,
        kind: str,
    ) -> Tensor:
        shape = _Shape(x, weight, stride, pooling)
        kernels = shape.widen(weight)
        biases, slopes = (each.repeat(shape.groups * pooling) for each in (bias, slope))
        pooled = x.new_empty(len(x), shape.channels, shape.length)
        keeps = kind == "max" and any(ctx.needs_input_grad)
        before = torch.empty_like(pooled) if keeps else None
        which = torch.empty_like(pooled, dtype=torch.uint8) if keeps else None
        for where, _, piece in shape.pieces(x):
            values = conv1d(piece, kernels, biases, stride=shape.hop)
            results = shape.split(prelu(values, slopes))
            if scale is not None and shift is not None:
                results = torch.addcmul(shift[:, None, None], results, scale[:, None, None])
            count = where.stop - where.start
            if kind == "max":
                best, index = results.max(dim=2)
                pooled[..., where] = shape.join(best, count)
                if before is not None and which is not None:
                    chosen = shape.split(values).gather(2, index.unsqueeze(2)).squeeze(2)
                    before[..., where] = shape.join(chosen, count)
                    which[..., where] = shape.join(index, count).to(torch.uint8)
            else:
                pooled[..., where] = shape.join(results.mean(dim=2), count)
        ctx.save_for_backward(x, weight, bias, slope, scale, shift, before, which)
        ctx.shape = shape
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, slope, scale, shift, before, which = ctx.saved_tensors
        shape: _Shape = ctx.shape
        kernels, biases = shape.widen(weight), bias.repeat(shape.groups * shape.pooling)
        sums = _Sums(x, slope, scale)
        wide = torch.zeros_like(kernels)
        of_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        for where, first, piece in shape.pieces(x):
            part = shape.part(gradient, where)
            if before is None:
                values = shape.split(conv1d(piece, kernels, biases, stride=shape.hop))
                part = (part / shape.pooling).expand_as(values)
                spread = sums.add(part, values)
            else:
                chosen = sums.add(part, shape.part(before, where))
                index = shape.part(which, where).long()
                size = (len(x), shape.groups, shape.pooling, *chosen.shape[3:])
                spread = chosen.new_zeros(size).scatter_(2, index, chosen)
            of_piece, of_kernels, _ = torch.ops.aten.convolution_backward(
                spread.flatten(1, 3), piece, kernels, None, [shape.hop], [0], [1], False, [0], 1,
                [of_x is not None, True, False],
            )  # fmt: skip
            wide += of_kernels
            if of_x is not None:
                held = min(piece.shape[-1], x.shape[-1] - first)
                of_x[..., first : first + held] += of_piece[..., :held]
        return of_x, shape.narrow(wide), sums.bias, sums.slope, sums.scale, sums.shift, *(None,) * 3


class _Sums:
    """The gradients of what a channel has one of, summed up chunk by chunk."""

    def __init__(self, x: Tensor, slope: Tensor, scale: Tensor | None) -> None:
        self._slope, self._scale = slope, scale
        self.bias, self.slope = torch.zeros_like(slope), torch.zeros_like(slope)
        self.scale = None if scale is None else torch.zeros_like(scale)
        self.shift = None if scale is None else torch.zeros_like(scale)

    def add(self, gradient: Tensor, values: Tensor) -> Tensor:
        """The gradient before the PReLU, from that after FiLM and the values before the PReLU.

        Shape: [B, groups, pooling or 1, c, m] twice -> the same.
        """
        slope = self._slope[:, None]
        positive = values > 0
        if self._scale is not None:
            assert self.scale is not None and self.shift is not None
            results = torch.where(positive, values, values * slope)
            self.scale += (gradient * results).sum((1, 2, 4)).unsqueeze(-1)
            self.shift += gradient.sum((1, 2, 4)).unsqueeze(-1)
            gradient = gradient * self._scale[:, None, None]
        negative = torch.where(positive, 0.0, gradient * values)
        self.slope += negative.sum((0, 1, 2, 4))
        gradient = torch.where(positive, gradient, gradient * slope)
        self.bias += gradient.sum((0, 1, 2, 4))
        return gradient
