"""WT and ST by another road: one unsplit pass a window, one pass over the whole item."""

from __future__ import annotations

import pytest
import torch
from models import LSTM, MODELS, batch

from sptmod_dist.losses import Loss, LossConfig
from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.tbptt import Schedule
from sptmod_dist.train.validation import item_terms

LENGTHS = (64, 32, 48)
LOSS = Loss(LossConfig(windows=(16, 32)))
EXTRA = 29  # samples after the last full window


@pytest.fixture(params=["lstm", "sidechain", "no_spn_conditioned"])
def measured(request):
    config = MODELS[request.param]
    torch.manual_seed(4)
    networks = {"effect": SPTMod(config).double()}
    if config.spn:
        networks["spn"] = StatePredictionNetwork(config).double()
    schedule = Schedule(config, LENGTHS)
    length = schedule.sequence_length + 3 * schedule.hop + EXTRA  # four windows
    x, y, controls = batch(config, length, rows=1, dtype=torch.float64)
    with torch.no_grad():
        terms = item_terms(networks, schedule, LOSS, x, y, controls, windows_at_once=3)
    return config, networks, schedule, x, y, controls, terms


def mean_terms(pairs):
    """The mean over windows and sub-sequences, each counting alike."""
    return torch.stack([torch.stack(LOSS(p, t)) for p, t in pairs]).mean(0)


def cuts(prediction, target):
    yield from zip(prediction.split(LENGTHS, -1), target.split(LENGTHS, -1), strict=True)


def test_wt_is_one_unsplit_pass_over_each_full_window(measured):
    config, networks, schedule, x, y, controls, terms = measured
    plan, pairs = config.plan(sum(LENGTHS)), []
    for k in range(4):
        window = slice(k * schedule.hop, k * schedule.hop + schedule.sequence_length)
        xw, yw = x[..., window], y[..., window]
        states = None
        if "spn" in networks:
            start = schedule.target_start - config.spn.lookback_length
            past = torch.cat([xw, yw], 1)[..., start : schedule.target_start]
            states = networks["spn"](past, controls)
        prediction, _ = networks["effect"](xw, controls, plan=plan, rnn_states=states)
        pairs += cuts(prediction, yw[..., -sum(LENGTHS) :])
    torch.testing.assert_close(terms[0], mean_terms(pairs), atol=1e-10, rtol=1e-10)


def streamed(networks, x, controls):
    P = LSTM.pooling_size
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % P))
    effect = networks["effect"]
    y, _ = effect(padded, controls, state=effect.initial_state(1))
    return y[..., : x.shape[-1]]


def test_st_is_one_pass_from_silence_over_the_same_windows(measured):
    _, networks, schedule, x, y, controls, terms = measured
    prediction, pairs = streamed(networks, x, controls), []
    for k in range(4):
        at = schedule.target_start + k * schedule.hop
        window = slice(at, at + schedule.hop)
        pairs += cuts(prediction[..., window], y[..., window])
    torch.testing.assert_close(terms[1], mean_terms(pairs), atol=1e-10, rtol=1e-10)


def test_st_over_the_whole_item_leaves_nothing_out(measured):
    _, networks, _, x, y, controls, terms = measured
    expected = mean_terms([(streamed(networks, x, controls), y)])
    torch.testing.assert_close(terms[2], expected, atol=1e-10, rtol=1e-10)


def test_a_target_that_the_model_itself_made_has_no_streamed_error(measured):
    _, networks, schedule, x, _, controls, _ = measured
    y = streamed(networks, x, controls).detach()
    with torch.no_grad():
        terms = item_terms(networks, schedule, LOSS, x, y, controls, windows_at_once=2)
    assert terms[1:].abs().max() < 1e-9
