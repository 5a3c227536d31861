"""WT and ST by another road: one unsplit pass a window, one pass over the whole item."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from models import LSTM, MODELS, batch

from sptmod_dist.data.controls import Control
from sptmod_dist.losses import Loss, LossConfig, LossTerms
from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.tbptt import Schedule
from sptmod_dist.train.ranks import Ranks
from sptmod_dist.train.validation import Validator, control_bins, item_terms

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


def test_wt_by_sub_sequence_is_each_place_in_the_windows_alone(measured):
    config, networks, schedule, x, y, controls, terms = measured
    assert terms.shape == (3 + len(LENGTHS), len(LossTerms._fields))
    torch.testing.assert_close(terms[0], terms[3:].mean(0), atol=1e-12, rtol=1e-12)
    for i in range(1, len(LENGTHS) + 1):  # shorter groups begin alike
        part = Schedule(config, LENGTHS[:i])
        cut = [s[..., : schedule.sequence_length] for s in (x, y)]  # the first window
        cut = [s[..., : part.sequence_length] for s in cut]
        with torch.no_grad():
            shorter = item_terms(networks, part, LOSS, *cut, controls, 1)
            whole = item_terms(
                networks,
                schedule,
                LOSS,
                *(s[..., : schedule.sequence_length] for s in (x, y)),
                controls,
                1,
            )
        torch.testing.assert_close(shorter[3:], whole[3 : 3 + i], atol=1e-10, rtol=1e-10)


def test_settings_fall_into_positions_and_thirds():
    controls = (
        Control("ratio", 2, 8, "log"),
        Control("mode", scale="list", positions=("fast", "auto", "slow")),
        Control("drive", 0, 10),
    )
    cases = {
        (2, "fast", 0): ["ratio/low", "mode/fast", "drive/low"],
        (4, "auto", 3.3): ["ratio/middle", "mode/auto", "drive/low"],
        (8, "slow", 3.4): ["ratio/high", "mode/slow", "drive/middle"],
        (3, "slow", 10): ["ratio/low", "mode/slow", "drive/high"],
    }
    for values, expected in cases.items():
        vector = [c.normalise(v) for c, v in zip(controls, values, strict=True)]
        assert control_bins(controls, vector) == expected


class Heedless:
    """A validator's items without shards, whose terms are known."""

    def __init__(self, vectors):
        self.items = [SimpleNamespace(controls=list(vector)) for vector in vectors]
        controls = (Control("drive", 0, 1), Control("mode", scale="list", positions=(1, 2)))
        self.geometry = SimpleNamespace(controls=controls)


def test_st_by_control_is_the_mean_over_the_items_of_a_bin_and_empty_bins_are_left_out():
    items, n = Heedless([(0.1, 0.0), (0.2, 1.0), (0.9, 1.0)]), len(LossTerms._fields)
    ranks = Ranks(0, 1, torch.device("cpu"))
    validator = Validator(ranks, items, None, LOSS, 1, torch.float32, None)
    table = [[float(k)] * n + [10.0 ** (k + 1)] * n + [0.5] * n * 3 for k in range(3)]
    result = validator._together(table)
    assert result.st_by_control == {
        "drive/low": 55.0, "drive/high": 1000.0, "mode/1": 10.0, "mode/2": 550.0
    }
    assert result.wt["mae"] == 1.0 and result.st["total"] == 370.0
    assert [terms["esr"] for terms in result.wt_by_sub_sequence] == [0.5, 0.5]
    scalars = result.scalars()
    assert scalars["validation_st/minus_wt"] == 369.0
    assert scalars["validation_st_by_control/drive/high"] == 1000.0
    assert scalars["validation_wt_by_sub_sequence/total/1"] == 0.5
    assert json.loads(json.dumps(result.to_dict()))["st_by_control"] == result.st_by_control


def test_a_target_that_the_model_itself_made_has_no_streamed_error(measured):
    _, networks, schedule, x, _, controls, _ = measured
    y = streamed(networks, x, controls).detach()
    with torch.no_grad():
        terms = item_terms(networks, schedule, LOSS, x, y, controls, windows_at_once=2)
    assert terms[1:3].abs().max() < 1e-9
