"""The convolution as a sum of matrix products: results and gradients up to the order of sums."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv1d

from sptmod_dist.model.tap_conv import tap_conv


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("needs_input", [True, False])
@pytest.mark.parametrize("has_tail", [True, False])
@pytest.mark.parametrize(("batch", "inputs", "channels", "kernel", "dilation", "length"), [
    (1, 1, 1, 1, 1, 1), (2, 3, 5, 16, 1, 16), (2, 3, 5, 17, 2, 40), (3, 2, 4, 3, 7, 130),
    (1, 4, 2, 25, 1, 31), (2, 8, 8, 1, 3, 9),
])  # fmt: skip
def test_it_is_the_plain_convolution(
    dtype: torch.dtype,
    needs_input: bool,
    has_tail: bool,
    batch: int,
    inputs: int,
    channels: int,
    kernel: int,
    dilation: int,
    length: int,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, inputs, length, dtype=dtype, requires_grad=needs_input)
    consumed = (kernel - 1) * dilation
    tail = torch.randn(batch, inputs, consumed, dtype=dtype, requires_grad=needs_input)
    weight = torch.randn(channels, inputs, kernel, dtype=dtype, requires_grad=True)
    bias = torch.randn(channels, dtype=dtype, requires_grad=True)
    wanted = [weight, bias, *([x] if needs_input else [])]
    if has_tail and needs_input and consumed:
        wanted.append(tail)
    signal = torch.cat([tail, x], dim=2) if has_tail else x
    one = tap_conv(x, tail if has_tail else None, weight, bias, dilation)
    other = conv1d(signal, weight, bias, dilation=dilation)
    bound = 1e-12 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(one, other, rtol=bound, atol=bound * other.abs().max().item())
    gradient = torch.randn(one.shape, dtype=dtype)
    for a, b in zip(
        torch.autograd.grad(one, wanted, gradient),
        torch.autograd.grad(other, wanted, gradient),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=bound, atol=bound * b.abs().max().item())
