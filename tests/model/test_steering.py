"""Modulation in one pass: the numbers and gradients of the layers that it takes the place of."""

from __future__ import annotations

import pytest
import torch

from sptmod_dist.model.layers import modulate, upsample
from sptmod_dist.model.steering import steer


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("batch", "channels", "frames", "size"), [
    (1, 1, 1, 1), (2, 3, 5, 4), (3, 15, 8, 64), (2, 2, 1, 7),
])  # fmt: skip
def test_it_equals_lines_that_are_drawn_first(
    dtype: torch.dtype, batch: int, channels: int, frames: int, size: int
) -> None:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    x, lines = noise(batch, channels, frames * size), noise(batch, 2 * channels, frames + 1)
    gradient = noise(*x.shape)
    inputs = [x.requires_grad_(), lines.requires_grad_()]
    one, other = steer(x, lines, size), modulate(x, upsample(lines, size))
    bound = 1e-12 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(one, other, rtol=bound, atol=bound)
    for a, b in zip(
        torch.autograd.grad(one, inputs, gradient),
        torch.autograd.grad(other, inputs, gradient),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=bound, atol=bound * b.abs().max().item())


def test_audio_that_is_cut_out_of_more_is_steered_alike() -> None:
    whole, lines = torch.randn(2, 2, 40), torch.randn(2, 4, 5)
    x = whole[..., 3:35].detach().requires_grad_()
    wanted = modulate(x, upsample(lines, 8))
    torch.testing.assert_close(steer(x, lines, 8), wanted, rtol=1e-6, atol=1e-6)
    steer(x, lines, 8).sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape


def test_what_needs_no_gradient_gets_none() -> None:
    x, lines = torch.randn(1, 1, 8), torch.randn(1, 2, 3, requires_grad=True)
    steer(x, lines, 4).sum().backward()
    assert x.grad is None and lines.grad is not None
