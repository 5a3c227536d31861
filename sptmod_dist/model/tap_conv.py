"""A convolution of stride 1 as a sum of matrix products, one a tap of the kernel, for the CPU.

The same multiplications as `conv1d`'s. A batch of few channels and many samples is a poor shape for
the usual convolutions and a good one for matrix products, a row of the batch each: two to four
times as fast, most of all in the backward pass. It knows nothing of blocks or networks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv1d, pad

LEAST_CHANNELS, LEAST_SAMPLES = 8, 1024
"""With fewer channels to sum over, or samples, a tap is no matrix worth the name."""


def tap_conv(
    x: Tensor, tail: Tensor | None, weight: Tensor, bias: Tensor, dilation: int = 1
) -> Tensor:
    """`conv1d(cat([tail, x], dim=2), weight, bias, dilation=dilation)`, joining nothing.

    Args:
        x: what is convolved, by `weight` and `bias`.
        tail: what comes before it, `(k - 1) * dilation` samples; None for nothing.

    Shape: x [B, c_in, T], tail [B, c_in, consumed], weight [c, c_in, k], bias [c] -> [B, c, T] with
    a tail, which must not be longer than x; else [B, c, T - consumed].
    """
    result: Tensor = _TapConv.apply(x, tail, weight, bias, dilation)
    return result


class _Tap:
    """Which samples of the output, from `skip` on, a tap makes of which of x, from `start` on."""

    def __init__(self, x: Tensor, k: int, consumed: int, dilation: int, has_tail: bool) -> None:
        self.skip = consumed - k * dilation if has_tail else 0
        self.start = 0 if has_tail else k * dilation
        self.length = x.shape[2] - (self.skip if has_tail else consumed)

    def read(self, x: Tensor) -> Tensor:
        return x.narrow(2, self.start, self.length)

    def write(self, y: Tensor) -> Tensor:
        return y.narrow(2, self.skip, self.length)


class _TapConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, tail: Tensor | None, weight: Tensor, bias: Tensor, dilation: int
    ) -> Tensor:
        ctx.save_for_backward(x, tail, weight)
        ctx.dilation, consumed = dilation, (weight.shape[2] - 1) * dilation
        length = x.shape[2] - (0 if tail is not None else consumed)
        y = bias[:, None].repeat(len(x), 1, length)
        for k, matrix in enumerate(weight.permute(2, 0, 1).contiguous()):  # [c, c_in]
            tap = _Tap(x, k, consumed, dilation, tail is not None)
            tap.write(y).baddbmm_(matrix.expand(len(x), -1, -1), tap.read(x))
        if tail is not None and consumed:
            y[..., :consumed] += conv1d(pad(tail, (0, consumed)), weight, dilation=dilation)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, tail, weight = ctx.saved_tensors
        consumed = (weight.shape[2] - 1) * ctx.dilation
        turned = gradient.transpose(1, 2).contiguous()
        of_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        of_taps = []
        for k, matrix in enumerate(weight.permute(2, 1, 0).contiguous()):  # [c_in, c]
            tap = _Tap(x, k, consumed, ctx.dilation, tail is not None)
            its_gradient = turned.narrow(1, tap.skip, tap.length)
            of_taps.append(torch.bmm(tap.read(x), its_gradient).sum(0))
            if of_x is not None:
                tap.read(of_x).baddbmm_(matrix.expand(len(x), -1, -1), tap.write(gradient))
        of_weight, of_tail = torch.stack(of_taps).permute(2, 1, 0), None
        if tail is not None and consumed:
            of_tail, more, _ = torch.ops.aten.convolution_backward(
                gradient[..., :consumed].contiguous(), pad(tail, (0, consumed)), weight, None, [1],
                [0], [ctx.dilation], False, [0], 1, [ctx.needs_input_grad[1], True, False],
            )  # fmt: skip
            of_weight = of_weight + more
            of_tail = None if of_tail is None else of_tail[..., :consumed]
        return of_x, of_tail, of_weight, gradient.sum((0, 2)), None
