"""The effect network's identities: split = unsplit, streamed = whole, and state that is its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from models import LSTM, MODELS, batch

from sptmod_dist.errors import UserError
from sptmod_dist.model import SPNConfig, SPTMod, SPTModConfig, StatePredictionNetwork
from sptmod_dist.tbptt import Schedule

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
everywhere = pytest.mark.parametrize("name", MODELS)
both_types = pytest.mark.parametrize("dtype", TOLERANCE)


def model(config, dtype=torch.float32):
    torch.manual_seed(1)
    return SPTMod(config).to(dtype)


def assert_equal(a, b, dtype):
    torch.testing.assert_close(a, b, atol=TOLERANCE[dtype], rtol=0)


@everywhere
@both_types
@pytest.mark.parametrize("lengths", [(37, 16, 64), (64, 16), (1, 160, 16, 16), (33, 48)])
def test_a_group_cut_into_sub_sequences_equals_one_pass(name, dtype, lengths):
    config = MODELS[name]
    effect = model(config, dtype)
    schedule, whole = Schedule(config, lengths), config.plan(sum(lengths))
    assert whole.input_length == schedule.sequence_length  # both start at the same frame
    x, y, controls = batch(config, schedule.sequence_length, dtype=dtype)
    states = torch.randn(config.n_blocks, 3, config.state_size, dtype=dtype) * 0.5
    unsplit, _ = effect(x, controls, plan=whole, rnn_states=states)
    parts, state = [], None
    for sub in schedule.split(x, y, controls):
        if sub.is_first:
            part, state = effect(sub.input, controls, plan=sub.plan, rnn_states=states)
        else:
            part, state = effect(sub.input, controls, state=state)
        parts.append(part)
    assert_equal(torch.cat(parts, -1), unsplit, dtype)


@everywhere
@both_types
@pytest.mark.parametrize("blocks", [(1,) * 12, (5, 7), (2, 1, 3, 6), (11, 1)])
def test_streaming_in_any_blocks_equals_one_pass(name, dtype, blocks):
    config = MODELS[name]
    effect, P = model(config, dtype), config.pooling_size
    x, _, controls = batch(config, 12 * P, dtype=dtype)
    whole, end = effect(x, controls, state=effect.initial_state(3))
    state, parts = effect.initial_state(3), []
    for part in x.split([n * P for n in blocks], dim=-1):
        y, state = effect(part, controls, state=state)
        parts.append(y)
    assert_equal(torch.cat(parts, -1), whole, dtype)
    for a, b in zip((state.rnn, *state.tails), (end.rnn, *end.tails), strict=True):
        assert_equal(a, b, dtype)


@everywhere
def test_an_initial_state_is_zero_padding_at_every_layer(name):
    """Prefixed silence changes nothing but what the layers' biases make of it: with none, equal."""
    config = replace(MODELS[name], n_params=0, cond_size=None)
    effect, P = model(config), config.pooling_size
    with torch.no_grad():
        for key, parameter in effect.named_parameters():
            if "bias" in key and "to_" not in key:
                parameter.zero_()
        for block in effect.blocks[:-1]:  # the signal's shift would turn silence into a constant
            block.to_signal.bias.zero_()
    x, _, controls = batch(config, 8 * P)
    y, _ = effect(x, controls, state=effect.initial_state(3))
    silence = torch.zeros(3, config.signal_channels, 4 * P)
    padded, _ = effect(
        torch.cat([silence, x], -1), controls, state=effect.initial_state(3)
    )
    assert_equal(padded[..., 4 * P :], y, torch.float32)


@everywhere
def test_one_items_output_does_not_depend_on_the_rest_of_its_batch(name):
    config = MODELS[name]
    effect, plan = model(config), config.plan(50)
    x, _, controls = batch(config, plan.input_length)
    whole, _ = effect(x, controls, plan=plan)
    alone, _ = effect(x[1:2], controls[1:2], plan=plan)
    torch.testing.assert_close(alone, whole[1:2], atol=1e-6, rtol=0)


@everywhere
def test_no_gradient_crosses_a_detached_boundary(name):
    config = MODELS[name]
    effect, P = model(config), config.pooling_size
    x, _, controls = batch(config, 6 * P)
    x.requires_grad_()
    _, state = effect(x[..., : 3 * P], controls, state=effect.initial_state(3))
    y, _ = effect(x[..., 3 * P :], controls, state=state.detach())
    y.square().sum().backward()
    assert x.grad[..., : 3 * P].abs().max() == 0
    assert x.grad[..., 3 * P :].abs().max() > 0
    x.grad = None
    _, state = effect(x[..., : 3 * P], controls, state=effect.initial_state(3))
    effect(x[..., 3 * P :], controls, state=state)[0].square().sum().backward()
    assert x.grad[..., : 3 * P].abs().max() > 0, "without the detach a gradient does cross"


@everywhere
def test_the_network_hides_no_state(name):
    effect = model(MODELS[name])
    assert not list(effect.buffers())
    P = effect.config.pooling_size
    x, _, controls = batch(effect.config, 2 * P)
    first, _ = effect(x, controls, state=effect.initial_state(3))
    again, _ = effect(x, controls, state=effect.initial_state(3))
    assert torch.equal(first, again)


@everywhere
def test_the_output_never_looks_ahead_further_than_its_latency(name):
    config = MODELS[name]
    effect, P = model(config), config.pooling_size
    x, _, controls = batch(config, 6 * P)
    y, _ = effect(x, controls, state=effect.initial_state(3))
    changed = x.clone()
    at = 3 * P + 5
    changed[..., at:] += 1
    z, _ = effect(changed, controls, state=effect.initial_state(3))
    first = int((y != z).any(0).any(0).nonzero()[0])
    assert at - config.latency <= first <= at


@everywhere
def test_every_parameter_learns_somewhere_in_a_group(name):
    config = MODELS[name]
    effect = model(config)
    schedule = Schedule(config, (32, 16))
    x, y, controls = batch(config, schedule.sequence_length)
    state = None
    for sub in schedule.split(x, y, controls):
        out, state = (
            effect(sub.input, controls, plan=sub.plan)
            if sub.is_first
            else effect(sub.input, controls, state=state.detach())
        )
        effect.zero_grad()
        (out - sub.target).square().sum().backward()
        silent = [key for key, p in effect.named_parameters() if p.grad is None]
        assert not silent, "DistributedDataParallel needs a gradient for every parameter, always"


def test_wrong_calls_are_refused():
    effect, P = model(LSTM), LSTM.pooling_size
    plan, state = LSTM.plan(32), effect.initial_state(3)
    x, _, controls = batch(LSTM, plan.input_length)
    for arguments, message in [
        ({}, "not both"),
        ({"plan": plan, "state": state}, "not both"),
        ({"state": state}, f"multiple of {P}"),
        ({"plan": LSTM.plan(33)}, "the plan asks for"),
    ]:
        with pytest.raises(ValueError, match=message):
            effect(x, controls, **arguments)
    with pytest.raises(ValueError, match="channels"):
        effect(x.expand(3, 2, -1), controls, plan=plan)
    with pytest.raises(ValueError, match="controls"):
        effect(x, controls[:, :1], plan=plan)
    with pytest.raises(ValueError, match="already holds"):
        effect(x[..., :P], controls, state=state, rnn_states=state.rnn)


@pytest.mark.parametrize(("change", "key"), [
    ({"channels": (5, 4)}, "kernel_sizes"),
    ({"channels": ()}, "channels"),
    ({"kernel_sizes": (3, 0, 9)}, "kernel_sizes"),
    ({"pooling_size": 0}, "pooling_size"),
    ({"rnn_cell": "RNN"}, "rnn_cell"),
    ({"pooling_type": "min"}, "pooling_type"),
    ({"n_params": -1}, "n_params"),
    ({"cond_size": 4}, "cond_size"),
    ({"cond_size": 4, "spn": None, "n_params": 0}, "n_params"),
    ({"spn": replace(LSTM.spn, linear_end=False)}, "linear_end"),
])
def test_a_model_that_cannot_be_built_is_refused_with_its_key(change, key):
    with pytest.raises(UserError, match=key):
        replace(LSTM, **change)


def test_a_dropout_of_one_is_refused():
    with pytest.raises(UserError, match="dropout"):
        SPNConfig(dropout=1.0)


def test_a_lookback_of_another_length_is_refused():
    spn = StatePredictionNetwork(LSTM)
    with pytest.raises(ValueError, match="lookback"):
        spn(torch.zeros(1, 2, LSTM.spn.lookback_length + 1), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="no spn"):
        StatePredictionNetwork(SPTModConfig(spn=None))
