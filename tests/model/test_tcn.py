"""The gain TCN: planned lengths are exact, split equals unsplit, and plain sums give the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from models import TCN as CONFIG
from models import TCNS, batch
from torch import Tensor

from sptmod_dist.errors import UserError
from sptmod_dist.model import TCN, TCNConfig, gain_tcn

REACH = 2 + 28
"""Samples that CONFIG's convolutions consume."""


def model(config: TCNConfig = CONFIG) -> TCN:
    torch.manual_seed(1)
    return TCN(config).double()


def data(config: TCNConfig, length: int) -> tuple[Tensor, Tensor]:
    x, _, controls = batch(config, length, dtype=torch.float64)
    return x, controls


@pytest.mark.parametrize("name", TCNS)
@pytest.mark.parametrize("lengths", [(50, 1, 40), (1, 30, 7), (300,)])
def test_split_equals_unsplit(name: str, lengths: tuple[int, ...]) -> None:
    config = TCNS[name]
    effect, whole = model(config), config.plan(sum(lengths))
    x, controls = data(config, whole.input_length)
    expected, _ = effect(x, controls, plan=whole)
    plan = config.plan(lengths[0])
    y, state = effect(x[..., : plan.input_length], controls, plan=plan)
    parts, start = [y], plan.input_length
    for length in lengths[1:]:
        y, state = effect(x[..., start : start + length], controls, state=state.detach())
        parts, start = [*parts, y], start + length
    torch.testing.assert_close(torch.cat(parts, dim=-1), expected, atol=1e-12, rtol=0)


def test_the_plan_is_as_short_as_it_can_be() -> None:
    plan = CONFIG.plan(9)
    assert (plan.input_length, plan.audio_start, plan.lookback_length) == (9 + REACH, REACH, 0)
    effect = model()
    x, controls = data(CONFIG, plan.input_length)
    x.requires_grad_()
    y, _ = effect(x, controls, plan=plan)
    assert y.shape == (3, 1, 9)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert (gradient[..., 0] != 0).all()


def test_after_its_reach_everything_is_forgotten() -> None:
    effect = model()
    x, controls = data(CONFIG, 200)
    other = x.clone()
    other[..., :100] = torch.randn(100)
    y, z = (effect(a, controls, state=effect.initial_state(3))[0] for a in (x, other))
    torch.testing.assert_close(y[..., 100 + REACH :], z[..., 100 + REACH :], atol=1e-12, rtol=0)
    assert not torch.allclose(y[..., 99 + REACH], z[..., 99 + REACH])


def test_numbers_equal_plain_sums() -> None:
    effect = model()
    x, controls = data(CONFIG, 80)
    y, _ = effect(x, controls, state=effect.initial_state(3))
    weights = {name: value.detach().numpy() for name, value in effect.named_parameters()}
    for row in range(3):
        gain = plain_gain(x[row].numpy(), controls[row].numpy(), weights)
        np.testing.assert_allclose(y[row].detach().numpy(), x[row].numpy() * gain, atol=1e-12)


def plain_gain(
    signal: np.ndarray, controls: np.ndarray, weights: dict[str, np.ndarray]
) -> np.ndarray:
    """The gain [C, T] of one item from the definition, a sample at a time."""
    for block, dilation in enumerate(CONFIG.dilations):
        w = {
            name.removeprefix(f"blocks.{block}."): value
            for name, value in weights.items()
            if name.startswith(f"blocks.{block}.")
        }
        kernel, bias = w["conv.conv.weight"], w["conv.conv.bias"]
        taps, samples = kernel.shape[2], signal.shape[1]
        padded = np.pad(signal, ((0, 0), ((taps - 1) * dilation, 0)))
        conv = np.stack([
            np.einsum("oik,ik->o", kernel, padded[:, t : t + taps * dilation : dilation]) + bias
            for t in range(samples)
        ], axis=1)
        hidden = w["film.net.0.weight"] @ controls + w["film.net.0.bias"]
        hidden = np.where(hidden > 0, hidden, w["film.net.1.weight"] * hidden)
        a, b = np.split(w["film.net.2.weight"] @ hidden + w["film.net.2.bias"], 2)
        conv = a[:, None] * conv + b[:, None]
        conv = np.where(conv > 0, conv, w["activation.weight"][:, None] * conv)
        residual = np.einsum("oi,it->ot", w["residual.weight"][..., 0], signal)
        signal = conv + residual + w["residual.bias"][:, None]
    return weights["to_gain.weight"][..., 0] @ signal + weights["to_gain.bias"][:, None]


def test_the_gain_multiplies_the_audio_and_the_sidechain_steers_it() -> None:
    config = TCNS["tcn_stereo_with_sidechain"]
    effect = model(config)
    x, controls = data(config, 60)
    state = effect.initial_state(3)
    y, _ = effect(x, controls, state=state)
    louder = torch.cat([2 * x[:, :2], x[:, 2:]], dim=1)
    torch.testing.assert_close(effect(louder, controls, state=state)[0], 2 * y)


def test_the_published_study_s_baseline_is_ours() -> None:
    config = gain_tcn(7)
    assert config.plan(1).target_start == 12 * 1111
    assert config.latency == 0 and config.spn is None
    block = sum((c * 13 + 1) * 32 + 32 + c * 32 + 32 for c in (1, 32, 32, 32))
    film = 7 * 32 + 32 + 32 + 32 * 32 + 32 + 32 + 32 * 64 + 64
    assert sum(p.numel() for p in TCN(config).parameters()) == block + 4 * film + 33
    assert not list(TCN(config).buffers())


def test_it_starts_near_the_unchanged_audio() -> None:
    effect = model(gain_tcn(0))
    x, controls = data(gain_tcn(0), 3000)
    y, _ = effect(x, controls, state=effect.initial_state(3))
    assert (y - x).square().sum() < 0.2 * x.square().sum()


def test_a_state_carries_no_history_once_detached() -> None:
    effect = model()
    x, controls = data(CONFIG, CONFIG.plan(40).input_length)
    x.requires_grad_()
    _, state = effect(x, controls, plan=CONFIG.plan(40))
    assert any(tail.requires_grad for tail in state.tails)
    assert not any(tail.requires_grad for tail in state.detach().tails)


def test_under_autocast_states_and_gain_stay_as_exact_as_the_weights() -> None:
    effect = model().float()
    x, controls = (a.float() for a in data(CONFIG, 500))
    with torch.autocast("cpu", torch.bfloat16):
        y, state = effect(x, controls, state=effect.initial_state(3))
    exact, _ = effect(x, controls, state=effect.initial_state(3))
    assert y.dtype == torch.float32 and {t.dtype for t in state.tails} == {torch.float32}
    torch.testing.assert_close(y, exact, atol=2e-2, rtol=2e-2)
    gain = (y / x).flatten()
    assert (gain.bfloat16().float() != gain).float().mean() > 0.5


def test_a_config_that_cannot_be_built_is_refused() -> None:
    for change, key in [
        ({"channels": (4,)}, "kernel_sizes"),
        ({"dilations": (1, 0)}, "dilations"),
        ({"n_params": -1}, "n_params"),
        ({"film_hidden": (0,)}, "film_hidden"),
        ({"input_channels": 0}, "input_channels"),
    ]:
        with pytest.raises(UserError, match=f"model.{key}"):
            replace(CONFIG, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        CONFIG.plan(0)
