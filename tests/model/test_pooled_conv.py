"""One pass over convolution, PReLU, FiLM and pooling equals the four layers in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from models import MODELS, batch
from torch import Tensor
from torch.nn import functional

from sptmod_dist.model import StatePredictionNetwork, pooled_conv, sptmod25
from sptmod_dist.model.layers import modulate, pool
from sptmod_dist.model.spn import SPNBlock

SHAPES = [
    # rows, c_in, c, kernel, stride, pooling, pooled samples, samples left over
    (2, 3, 4, 5, 1, 4, 37, 0),
    (1, 1, 1, 1, 1, 1, 9, 0),
    (3, 2, 5, 38, 1, 4, 101, 3),
    (2, 4, 3, 2, 3, 5, 40, 1),
    (2, 2, 2, 7, 2, 16, 5, 0),
    (1, 2, 3, 4, 1, 3, 1, 0),
]


def plain(
    x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor, film: Tensor | None, *how: Any
) -> Tensor:
    stride, pooling, kind = how
    y = functional.prelu(functional.conv1d(x, weight, bias, stride=stride), slope)
    return pool(y if film is None else modulate(y, film), pooling, kind)


def arguments(shape: tuple[int, ...], film: bool, dtype: torch.dtype) -> list[Any]:
    rows, c_in, c, kernel, stride, pooling, n, left = shape
    generator = torch.Generator().manual_seed(sum(shape))
    length = (n * pooling + left - 1) * stride + kernel

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=dtype).requires_grad_()

    tensors = [draw(rows, c_in, length), draw(c, c_in, kernel), draw(c), draw(c)]
    return [*tensors, draw(rows, 2 * c, 1) if film else None]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("film", [True, False])
@pytest.mark.parametrize("cached", [1, 1 << 18])
def test_results_and_gradients_are_those_of_the_layers(
    shape: tuple[int, ...], kind: str, film: bool, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled_conv, "CACHED", cached)  # 1: many chunks
    tensors = arguments(shape, film, torch.float64)
    how = (shape[4], shape[5], kind)
    wanted, found = plain(*tensors, *how), pooled_conv.pooled_conv(*tensors, *how)
    assert found.shape == wanted.shape == (shape[0], shape[2], shape[6])
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
    leaves = [tensor for tensor in tensors if tensor is not None]
    gradient = torch.linspace(-1, 2, wanted.numel(), dtype=wanted.dtype).view_as(wanted)
    pairs = [torch.autograd.grad(result, leaves, gradient) for result in (wanted, found)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(other, one, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("kind", ["max", "average"])
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    tensors = arguments((2, 2, 3, 4, 1, 2, 5, 1), True, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *given: pooled_conv.pooled_conv(*given, 1, 2, kind), tensors
    )


def test_in_float32_it_stays_within_1e_6() -> None:
    tensors = [t.detach() for t in arguments((2, 16, 16, 38, 1, 4, 500, 0), True, torch.float32)]
    tensors[1] *= 0.05  # as a fresh network's
    how = (1, 4, "max")
    wanted, found = plain(*tensors, *how), pooled_conv.pooled_conv(*tensors, *how)
    assert (found - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    x, *rest = arguments(SHAPES[0], True, torch.float32)
    x = x.detach()
    pooled_conv.pooled_conv(x, *rest, 1, 4, "max").sum().backward()
    assert x.grad is None and all(tensor.grad is not None for tensor in rest)


def test_a_sample_that_is_not_finite_is_seen_in_the_result() -> None:
    x, *rest = (t.detach() for t in arguments(SHAPES[0], True, torch.float32))
    x[0, 0, 40] = torch.nan
    found = pooled_conv.pooled_conv(x, *rest, 1, 4, "max")
    wanted = plain(x, *rest, 1, 4, "max").isnan()
    assert wanted.any() and found.isnan()[wanted].all()  # and a few neighbours


def test_what_is_kept_for_the_backward_pass_is_pooled() -> None:
    tensors = arguments((2, 2, 16, 38, 1, 4, 2000, 0), True, torch.float32)
    result = pooled_conv.pooled_conv(*tensors, 1, 4, "max")
    kept = sum(t.numel() * t.element_size() for t in result.grad_fn.saved_tensors if t is not None)  # type: ignore[union-attr]
    unpooled = 4 * result.numel() * result.element_size()
    assert kept < 0.6 * unpooled  # each of the layers would keep so much


@pytest.mark.parametrize("name", [name for name, config in MODELS.items() if config.spn])
def test_an_spn_is_the_same_with_layers_and_in_one_pass(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = MODELS[name]
    assert config.spn is not None
    config = replace(config, spn=replace(config.spn, dilations=(1, 1)))
    torch.manual_seed(0)
    spn = StatePredictionNetwork(config).double()
    x, y, controls = batch(config, spn.lookback_length, dtype=torch.float64)
    lookback = torch.cat([x, y], dim=1)
    calls: list[int] = []

    def noting(self: SPNBlock, *given: Tensor) -> Tensor:
        calls.append(1)
        return in_one_pass(self, *given)

    in_one_pass = SPNBlock._in_one_pass
    monkeypatch.setattr(SPNBlock, "_in_one_pass", noting)
    found = spn(lookback, controls)
    assert len(calls) == 2
    for block in spn.blocks:
        block.is_dense = False  # type: ignore[assignment]
    torch.testing.assert_close(found, spn(lookback, controls), atol=1e-12, rtol=1e-12)
    assert len(calls) == 2


def test_under_autocast_the_layers_run() -> None:
    spn = StatePredictionNetwork(sptmod25(0))
    block = spn.blocks[0]
    x = torch.randn(1, 2, 400)
    with torch.autocast("cpu", torch.bfloat16):
        assert block(x, torch.zeros(1, 0)).dtype == torch.bfloat16
