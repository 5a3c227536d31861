"""PReLU and pooling in one pass: the numbers and gradients of the two layers."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import prelu

from sptmod_dist.model.framing import activate_and_pool
from sptmod_dist.model.layers import pool

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 4), (3, 15, 8, 64), (2, 2, 1, 7)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("which", ["both", "signal", "pooled"])
@pytest.mark.parametrize(("batch", "channels", "frames", "size"), SHAPES)
def test_it_equals_the_two_layers(
    dtype: torch.dtype, kind: str, which: str, batch: int, channels: int, frames: int, size: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, channels, frames * size, dtype=dtype).requires_grad_()
    slope = torch.linspace(-0.5, 0.7, channels, dtype=dtype).requires_grad_()
    y = prelu(x, slope)
    wanted, found = (y, pool(y, size, kind)), activate_and_pool(x, slope, size, kind)
    assert torch.equal(found[0], wanted[0])
    bound = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(found[1], wanted[1], rtol=bound, atol=bound)
    weights = [torch.randn_like(each) for each in wanted]
    used = {"both": (0, 1), "signal": (0,), "pooled": (1,)}[which]

    def gradients(results: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        total = sum((results[k] * weights[k]).sum() for k in used)
        return torch.autograd.grad(total, [x, slope])

    for a, b in zip(gradients(found), gradients(wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=bound, atol=bound * max(1, b.abs().max().item()))


@pytest.mark.parametrize("value", [0.0, -1.0, 2.0])
def test_of_equal_values_the_first_is_the_greatest(value: float) -> None:
    """As in silence, where all are the bias."""
    x = torch.full((1, 2, 12), value, requires_grad=True)
    _, pooled = activate_and_pool(x, torch.ones(2), 4, "max")
    pooled.sum().backward()
    assert torch.equal(x.grad, torch.tensor([1.0, 0, 0, 0]).repeat(3).expand(1, 2, 12))


def test_what_is_no_number_stays_none() -> None:
    x = torch.zeros(1, 1, 8)
    x[..., 5] = torch.nan
    x.requires_grad_()
    y, pooled = activate_and_pool(x, torch.ones(1), 4, "max")
    assert y.isnan().sum() == 1 and pooled.isnan().tolist() == [[[False, True]]]
    pooled.sum().backward()
