"""Groups: what each sub-sequence reads, and the backward pass that is cut at the seam."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from models import LSTM, MODELS, batch

from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.tbptt import Schedule, forward, spn_loss

WITH_SPN = [name for name, config in MODELS.items() if config.spn]


def networks(config, dtype=torch.float64):
    torch.manual_seed(2)
    return SPTMod(config).to(dtype), StatePredictionNetwork(config).to(dtype)


@pytest.mark.parametrize("name", MODELS)
def test_the_targets_of_a_group_tile_the_sequences_end_and_inputs_end_where_targets_end(name):
    config = MODELS[name]
    schedule = Schedule(config, (40, 16, 64))
    x, y, controls = batch(config, schedule.sequence_length)
    subs = list(schedule.split(x, y, controls))
    assert torch.equal(torch.cat([s.target for s in subs], -1), y[..., -schedule.hop :])
    end = schedule.target_start
    for sub, length in zip(subs, schedule.lengths, strict=True):
        end += length
        assert torch.equal(sub.input, x[..., end - sub.input.shape[-1] : end])
        assert sub.target.shape[-1] == length
        assert sub.input.shape[-1] == (schedule.plan.input_length if sub.is_first else length)
    assert end == schedule.sequence_length
    assert [sub.is_first for sub in subs] == [True, False, False]


@pytest.mark.parametrize("name", WITH_SPN)
def test_the_lookback_ends_where_the_target_starts_and_never_holds_the_target(name):
    config = MODELS[name]
    schedule = Schedule(config, (40, 16))
    x, y, controls = batch(config, schedule.sequence_length)
    first, later = schedule.split(x, y, controls)
    start = schedule.target_start - config.spn.lookback_length
    past = torch.cat([x, y], 1)[..., start : schedule.target_start]
    assert torch.equal(first.lookback, past) and later.lookback is None


@pytest.mark.parametrize("name", WITH_SPN)
def test_cutting_the_backward_pass_at_the_seam_changes_no_gradient(name):
    config = MODELS[name]
    effect, spn = networks(config)
    schedule = Schedule(config, (40, 16))
    x, y, controls = batch(config, schedule.sequence_length, dtype=torch.float64)
    sub = next(schedule.split(x, y, controls))

    step = forward(effect, spn, sub, None)
    (step.prediction - sub.target).square().mean().backward()
    assert all(p.grad is None for p in spn.parameters()), "the seam is cut"
    spn_loss(step.seam).backward()
    cut = [p.grad.clone() for p in (*effect.parameters(), *spn.parameters())]

    effect.zero_grad(), spn.zero_grad()
    states = spn(sub.lookback, controls)
    prediction, _ = effect(sub.input, controls, plan=sub.plan, rnn_states=states)
    (prediction - sub.target).square().mean().backward()
    whole = [p.grad for p in (*effect.parameters(), *spn.parameters())]
    for a, b in zip(cut, whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-14, rtol=1e-12)


def test_the_spn_runs_at_a_groups_first_iteration_alone():
    effect, spn = networks(LSTM)
    calls = []
    spn.register_forward_hook(lambda *_: calls.append(1))
    schedule = Schedule(LSTM, (40, 16, 16))
    x, y, controls = batch(LSTM, schedule.sequence_length, dtype=torch.float64)
    state, seams = None, []
    for sub in schedule.split(x, y, controls):
        step = forward(effect, spn, sub, state)
        state = step.state.detach()
        seams.append(step.seam is not None)
    assert (len(calls), seams) == (1, [True, False, False])


def test_dropping_all_items_equals_a_start_from_zero_states():
    effect, spn = networks(LSTM)
    schedule = Schedule(LSTM, (40,))
    x, y, controls = batch(LSTM, schedule.sequence_length, dtype=torch.float64)
    sub = next(schedule.split(x, y, controls))
    keep = torch.zeros(3, LSTM.n_blocks, LSTM.state_size, dtype=torch.float64)
    dropped = forward(effect, spn, sub, None, keep).prediction
    assert torch.equal(dropped, forward(effect, None, sub, None).prediction)


def test_without_an_spn_a_group_needs_no_lookback():
    config = replace(LSTM, spn=None)
    assert Schedule(config, (40,)).plan.lookback_length == 0
    schedule = Schedule(config, (40,))
    x, y, controls = batch(config, schedule.sequence_length)
    assert next(schedule.split(x, y, controls)).lookback is None
