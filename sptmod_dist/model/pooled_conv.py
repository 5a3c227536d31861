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
from torch.nn.functional import conv1d, pad

SHARE = 8
"""Neighbouring outputs of a convolution that are computed as channels of one."""
CACHED = 1 << 19
"""Values that a chunk may hold after the convolution: 2 MB as float32."""


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
        reach = self.hop - self.stride
        return torch.cat([pad(weight, (n, reach - n)) for n in range(0, self.hop, self.stride)])

    def narrow(self, wide: Tensor) -> Tensor:
        """A gradient of the wide kernels as that of the kernel: the opposite of `widen`."""
        rows = enumerate(wide.unflatten(0, (self.groups * self.pooling, -1)))
        parts = [row.narrow(2, n * self.stride, self.kernel) for n, row in rows]
        return torch.stack(parts).sum(0)

    def split(self, wide: Tensor) -> Tensor:
        """Wide channels [B, groups * pooling * c, m] by their meaning: a view [B, groups, pooling,
        c, m]."""
        return wide.unflatten(1, (self.groups, self.pooling, self.channels))

    def join(self, pooled: Tensor, length: int) -> Tensor:
        """[B, groups, 1, c, m] in the order of time: [B, c, length]."""
        return pooled.squeeze(2).permute(0, 2, 3, 1).flatten(2)[..., :length]

    def part(self, signal: Tensor, where: slice) -> Tensor:
        """The opposite: pooled samples [B, c, T'] of a chunk as [B, groups, 1, c, m]."""
        piece = signal[..., where]
        piece = pad(piece, (0, -piece.shape[-1] % self.groups))
        return piece.unflatten(2, (-1, self.groups)).permute(0, 3, 1, 2).unsqueeze(2).contiguous()


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
        kernels, biases = shape.widen(weight), bias.repeat(shape.groups * pooling)
        film = _Film(slope, scale, shift)
        pooled = x.new_empty(len(x), shape.channels, shape.length)
        kept: list[Tensor] = []
        for where, _, piece in shape.pieces(x):
            values = shape.split(conv1d(piece, kernels, biases, stride=shape.hop))
            if kind == "max":
                chosen, which = film.greatest(values)
                results = film(chosen)
                kept += [chosen, which.to(torch.uint8)] if any(ctx.needs_input_grad) else []
            else:
                results = film(values).mean(2, keepdim=True)
            pooled[..., where] = shape.join(results, where.stop - where.start)
        ctx.save_for_backward(x, weight, bias, slope, scale, shift, *kept)
        ctx.shape = shape
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, slope, scale, shift, *kept = ctx.saved_tensors
        shape: _Shape = ctx.shape
        kernels, biases = shape.widen(weight), bias.repeat(shape.groups * shape.pooling)
        film = _Film(slope, scale, shift)
        wide = torch.zeros_like(kernels)
        of_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        for number, (where, first, piece) in enumerate(shape.pieces(x)):
            part = shape.part(gradient, where)
            if kept:
                chosen, which = kept[2 * number : 2 * number + 2]
                spread = _spread(film.backward(part, chosen), which, shape.pooling)
            else:
                values = shape.split(conv1d(piece, kernels, biases, stride=shape.hop))
                spread = film.backward((part / shape.pooling).expand_as(values), values)
            of_piece, of_kernels, _ = torch.ops.aten.convolution_backward(
                spread.flatten(1, 3), piece, kernels, None, [shape.hop], [0], [1], False, [0], 1,
                [of_x is not None, True, False],
            )  # fmt: skip
            wide += of_kernels
            if of_x is not None:
                held = min(piece.shape[-1], x.shape[-1] - first)
                of_x[..., first : first + held] += of_piece[..., :held]
        return of_x, shape.narrow(wide), film.of_bias, *film.gradients, *(None,) * 3


class _Film:
    """PReLU and FiLM, and the gradients of what a channel has one of, summed up chunk by chunk.

    Masks are floats and choices are sums: `where` and comparisons that give bool take five to
    thirty times as long on a CPU, for they are not vectorised.

    Shape: all values [B, groups, pooling or 1, c, m].
    """

    def __init__(self, slope: Tensor, scale: Tensor | None, shift: Tensor | None) -> None:
        self._slope = slope[:, None]
        self._scale = self._shift = self._signs = None
        self.of_bias, of_slope = torch.zeros_like(slope), torch.zeros_like(slope)
        self.gradients: list[Tensor | None] = [of_slope, None, None]
        if scale is not None and shift is not None:
            self._scale, self._shift = scale[:, None, None], shift[:, None, None]
            self._signs = self._scale.sign()
            self.gradients[1:] = torch.zeros_like(scale), torch.zeros_like(shift)
        self._is_steady = bool((slope > 0).all()) and (scale is None or bool(scale.all()))

    def __call__(self, values: Tensor) -> Tensor:
        """Both layers."""
        y = torch.addcmul(values.clamp(min=0), values.clamp(max=0), self._slope)
        if self._scale is None or self._shift is None:
            return y
        return torch.addcmul(self._shift, y, self._scale)

    def greatest(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Of those that are pooled, the value whose result is greatest, the first of several, and
        which it is: [B, groups, 1, c, m] twice.

        Where slopes are positive a channel's results rise with its values, or fall with them: then
        they need not be computed.
        """
        if not self._is_steady:
            ranked = self(values)
        else:
            ranked = values if self._signs is None else values.mul_(self._signs)
        best = ranked[:, :, :1]
        which, greater = torch.zeros_like(best), torch.empty_like(best)
        for k in range(1, values.shape[2]):
            rival = ranked[:, :, k : k + 1]
            torch.gt(rival, best, out=greater)
            which = torch.lerp(which, which.new_full((), k), greater)
            best = torch.maximum(best, rival)
        if not self._is_steady:
            return values.gather(2, which.long()), which
        return best if self._signs is None else best * self._signs, which

    def backward(self, gradient: Tensor, values: Tensor) -> Tensor:
        """The gradient before both layers, from that after them and the values before them."""
        negative = values.clamp(max=0)
        of_slope, of_scale, of_shift = self.gradients
        assert of_slope is not None
        if self._scale is not None:
            assert of_scale is not None and of_shift is not None
            y = torch.addcmul(values.clamp(min=0), negative, self._slope)
            of_scale += (gradient * y).sum((1, 2, 4)).unsqueeze(-1)
            of_shift += gradient.sum((1, 2, 4)).unsqueeze(-1)
            gradient = gradient * self._scale
        of_slope += (gradient * negative).sum((0, 1, 2, 4))
        positive = torch.gt(values, 0, out=torch.empty_like(values))
        gradient = gradient * torch.lerp(self._slope, torch.ones_like(self._slope), positive)
        self.of_bias += gradient.sum((0, 1, 2, 4))
        return gradient


def _spread(chosen: Tensor, which: Tensor, pooling: int) -> Tensor:
    """Values at their places among those that were pooled, zeros elsewhere.

    Shape: [B, groups, 1, c, m] twice -> [B, groups, pooling, c, m].
    """
    spread = chosen.new_empty(*chosen.shape[:2], pooling, *chosen.shape[3:])
    which, mask = which.to(chosen.dtype), torch.empty_like(chosen)
    from_here = chosen  # at k: those whose place is k or later
    for k in range(1, pooling):
        later = chosen * torch.ge(which, k, out=mask)
        torch.sub(from_here, later, out=spread[:, :, k - 1 : k])
        from_here = later
    spread[:, :, -1:] = from_here
    return spread
