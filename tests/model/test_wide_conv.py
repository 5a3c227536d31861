"""The convolution with a faster backward pass: results bit for bit, gradients up to rounding."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv1d

from sptmod_dist.model.wide_conv import wide_conv


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("needs_input", [True, False])
@pytest.mark.parametrize(("batch", "inputs", "channels", "kernel", "length"), [
    (1, 1, 1, 1, 1), (2, 3, 5, 16, 16), (2, 3, 5, 17, 40), (3, 2, 4, 29, 130), (1, 4, 2, 25, 31),
])  # fmt: skip
def test_it_is_the_plain_convolution(
    dtype: torch.dtype,
    needs_input: bool,
    batch: int,
    inputs: int,
    channels: int,
    kernel: int,
    length: int,
) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, inputs, length, dtype=dtype, requires_grad=needs_input)
    weight = torch.randn(channels, inputs, kernel, dtype=dtype, requires_grad=True)
    bias = torch.randn(channels, dtype=dtype, requires_grad=True)
    wanted = [x, weight, bias] if needs_input else [weight, bias]
    one, other = wide_conv(x, weight, bias), conv1d(x, weight, bias)
    assert torch.equal(one, other)
    gradient = torch.randn(one.shape, dtype=dtype)
    bound = 1e-12 if dtype == torch.float64 else 5e-6
    for a, b in zip(
        torch.autograd.grad(one, wanted, gradient),
        torch.autograd.grad(other, wanted, gradient),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=0, atol=bound * b.abs().max().item())
