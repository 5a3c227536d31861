"""Parity with the original: everything that its traces hold."""

from __future__ import annotations

import pytest
import torch
from traces import NAMES, read_trace

from sptmod_dist.errors import UserError
from sptmod_dist.model import load_reference, reference_weights, sptmod24, sptmod25
from sptmod_dist.model.reference import named_reference_parameters
from sptmod_dist.model.spn import StatePredictionNetwork
from sptmod_dist.model.sptmod import SPTMod
from sptmod_dist.tbptt import Schedule, forward, spn_loss

ATOL = 1e-6


def load(trace):
    return load_reference(trace.config, trace.under("weights/"))


def assert_gradients_equal(trace, index, parameters):
    """Equal where the original had a gradient, and none where it had none."""
    expected = trace.under(f"group0/grad{index}/")
    ours = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    assert set(ours) == set(expected)
    for name, gradient in expected.items():
        tolerance = ATOL + 1e-5 * gradient.abs().max().item()
        difference = (ours[name].reshape(gradient.shape) - gradient).abs().max().item()
        assert difference <= tolerance, f"{name} of iteration {index}: {difference}"


@pytest.mark.parametrize("name", NAMES)
def test_four_groups_of_training_follow_the_original(name):
    trace = read_trace(name)
    effect, spn = load(trace)
    parameters = dict(named_reference_parameters(effect, spn))
    optimizers = [torch.optim.Adam(net.parameters(), lr=5e-4) for net in (effect, spn) if net]
    schedule, losses = Schedule(effect.config, trace.lengths), []
    for g in range(4):
        x, y, controls = (trace.tensor(f"group{g}/{key}") for key in ("x", "y", "controls"))
        state = None
        for sub in schedule.split(x, y, controls):
            step = forward(effect, spn, sub, state)
            expected = trace.tensor(f"group{g}/pred{sub.index}")
            torch.testing.assert_close(step.prediction, expected, atol=ATOL, rtol=0)
            loss = (step.prediction - sub.target).abs().mean()
            loss.backward()
            if step.seam is not None:
                spn_loss(step.seam).backward()
            if g == 0:
                rnn = trace.tensor(f"group0/rnn_state{sub.index}")
                torch.testing.assert_close(step.state.rnn, rnn, atol=ATOL, rtol=0)
                assert_gradients_equal(trace, sub.index, parameters)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            state = step.state.detach()
            losses.append(loss.detach())
    expected = trace.tensor("losses").float()
    torch.testing.assert_close(torch.stack(losses), expected, atol=ATOL, rtol=0)
    for key, value in trace.under("final/").items():
        if key in parameters:
            ours = parameters[key].detach().reshape(value.shape)
            torch.testing.assert_close(ours, value, atol=ATOL, rtol=0, msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_weights_round_trip_under_the_originals_names(name):
    trace = read_trace(name)
    original = trace.under("weights/")
    effect, spn = load(trace)
    written = reference_weights(effect, spn)
    assert set(written) == set(original)
    unused = f"s_conv11s.{effect.config.n_blocks - 1}."  # the original's last, which nothing uses
    for key, value in original.items():
        assert written[key].shape == value.shape
        if not key.startswith(unused):
            torch.testing.assert_close(written[key], value, atol=0, rtol=0)


@pytest.mark.parametrize(("config", "total", "of_spn"), [
    (sptmod24(), 123_884, 66_050),
    (sptmod25(), 119_646, 81_048),
])
def test_published_models_have_the_published_number_of_parameters(config, total, of_spn):
    count = [sum(p.numel() for p in net.parameters())
             for net in (SPTMod(config), StatePredictionNetwork(config))]
    assert (sum(count), count[1]) == (total, of_spn)


def test_weights_of_another_model_are_refused_by_name():
    trace = read_trace("lstm_conditioned")
    weights = trace.under("weights/")
    with pytest.raises(UserError, match="s_acts.0.weight"):
        load_reference(trace.config, {**weights, "s_acts.0.weight": torch.zeros(99)})
    smaller = {**trace.config, "spnet": False, "spnet_out_channels_list": None}
    with pytest.raises(UserError, match="hold 'spnet.acts.0.weight'"):
        load_reference(smaller, weights)
    del weights["spnet.acts.1.weight"]
    with pytest.raises(UserError, match="spnet.acts.1.weight"):
        load_reference(trace.config, weights)
    with pytest.raises(UserError, match="tfilm_block_size"):
        load_reference({k: v for k, v in trace.config.items() if k != "tfilm_block_size"}, weights)
