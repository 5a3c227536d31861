"""The layers of both networks: pure functions and small modules, state in and state out.

Under `torch.autocast` convolutions and what follows at their rate run in its type. States, tails
and what the controls or the recurrence make of them stay in that of the weights.

A *tail* is the last input samples of a causal convolution, which pad its next call (cached
padding). No layer keeps one: whoever calls passes it in and takes the next one away.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from sptmod_dist.model.kernels import is_fast
from sptmod_dist.model.tap_conv import LEAST_CHANNELS, LEAST_SAMPLES, tap_conv


def without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Where autocast is on for the device of `like`, switch it off: inputs' dtypes then decide."""
    device = like.device.type
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()  # exactly as without this function, for tracing and export too


def last(x: Tensor, length: int) -> Tensor:
    """The last `length` samples of `x` [..., T], as a view; `length` may be 0."""
    return x.narrow(-1, x.shape[-1] - length, length)


def pool(x: Tensor, size: int, kind: str) -> Tensor:
    """Pool [B, c, T] to [B, c, T // size] by the maximum or the average, without overlap."""
    if kind == "max":
        return functional.max_pool1d(x, size)
    return functional.avg_pool1d(x, size)


def upsample(frames: Tensor, size: int) -> Tensor:
    """Draw straight lines between frames: [B, c, T + 1] to [B, c, T * size].

    Sample `k * size + i` is `frames[k] * (1 - i / size) + frames[k + 1] * (i / size)`.
    """
    exact = torch.promote_types(frames.dtype, torch.float32)  # bfloat16 counts no further than 256
    position = torch.arange(size, device=frames.device, dtype=exact) / size
    start, end = frames[..., :-1, None], frames[..., 1:, None]
    return torch.lerp(start, end, position.to(frames.dtype)).flatten(-2)


def mlp(n_inputs: int, hidden: Sequence[int], n_outputs: int) -> nn.Sequential:
    """Linear and PReLU (a slope a neuron) for each hidden layer, then one Linear."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(n_inputs, width), nn.PReLU(width)]
        n_inputs = width
    return nn.Sequential(*layers, nn.Linear(n_inputs, n_outputs))


def modulate(x: Tensor, scale_and_shift: Tensor) -> Tensor:
    """`a * x + b` with `[a, b]` the two halves of the channels: [B, c, T], [B, 2c, T or 1]."""
    scale, shift = scale_and_shift.chunk(2, dim=1)
    return torch.addcmul(shift, x, scale)


class FiLM(nn.Module):
    """Scale and shift each channel by what a small network makes of the controls.

    The small network runs in the weights' dtype under autocast too; `x` keeps its own.

    Shape: x [B, c, T], controls [B, n_params] -> [B, c, T].
    """

    def __init__(self, n_params: int, hidden: Sequence[int], channels: int) -> None:
        super().__init__()
        self.net = mlp(n_params, hidden, 2 * channels)

    def forward(self, x: Tensor, controls: Tensor) -> Tensor:
        return modulate(x, self.scale_and_shift(x, controls))

    def scale_and_shift(self, x: Tensor, controls: Tensor) -> Tensor:
        """What `x` is multiplied by and what is added, in its dtype [B, 2c, 1]."""
        with without_autocast(x):
            return self.net(controls).unsqueeze(-1).to(x.dtype)


class CausalConv(nn.Module):
    """A causal convolution of stride 1 with explicit cached padding.

    Without a tail it consumes `(kernel - 1) * dilation` samples; with the tail of its last call
    the output is as long as the input, as if the signal had never been cut. Tails have the
    weights' dtype, whatever the signal's.

    Shape: x [B, c_in, T], tail [B, c_in, consumed] or None -> y [B, c_out, T or T - consumed],
    next tail.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, dilation=dilation)
        self.consumed = (kernel - 1) * dilation

    def zero_tail(self, batch_size: int) -> Tensor:
        """The tail of silence [batch_size, c_in, consumed]."""
        weight = self.conv.weight
        return weight.new_zeros(batch_size, weight.shape[1], self.consumed)

    def forward(self, x: Tensor, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        conv, dtype = self.conv, self.conv.weight.dtype
        if self._is_large(x):
            assert conv.bias is not None
            # A copy: a view would keep the whole signal alive for the sake of a few samples.
            next_tail = last(x, self.consumed).to(dtype, copy=True)
            return tap_conv(x, tail, conv.weight, conv.bias, conv.dilation[0]), next_tail
        if tail is not None:
            x = torch.cat([tail.to(x.dtype), x], dim=-1)
        return conv(x), last(x, self.consumed).to(dtype, copy=True)

    def _is_large(self, x: Tensor) -> bool:
        """Whether `tap_conv` is the faster one."""
        is_wide = self.conv.in_channels >= LEAST_CHANNELS
        return is_wide and x.shape[-1] >= max(LEAST_SAMPLES, self.consumed) and is_fast(x)
