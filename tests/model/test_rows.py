"""The plan block by block: what real networks do, and what the original printed."""

from __future__ import annotations

import pytest
import torch
from models import MODELS, TCNS
from traces import read_length_plans

from sptmod_dist.model import StatePredictionNetwork, build_effect, sptmod24, sptmod25

ALL = {**MODELS, **TCNS}
PRESETS = {"sptmod24": sptmod24(), "sptmod25": sptmod25()}


def lengths_in_and_out(blocks, call):
    """Samples that enter each block and that leave it, as the network itself runs."""
    found, hooks = [], []
    for block in blocks:
        hook = block.register_forward_hook(
            lambda _, given, out: found.append((given[0], out if torch.is_tensor(out) else out[0]))
        )
        hooks.append(hook)
    call()
    for hook in hooks:
        hook.remove()
    return [(given.shape[-1], out.shape[-1]) for given, out in found]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("length", [1, 64, 101])
def test_rows_tell_what_the_network_does(name, length):
    config = ALL[name]
    plan, rows, effect = config.plan(length), config.rows(length), build_effect(config)
    x = torch.zeros(1, config.signal_channels, plan.input_length)
    controls = torch.zeros(1, config.n_params)
    seen = lengths_in_and_out(effect.blocks, lambda: effect(x, controls, plan=plan))
    assert [(row.receives, row.emits) for row in rows] == seen
    for row, after in zip(rows, rows[1:], strict=False):
        assert row.emits - row.signal_crop == after.receives
    for row in rows:
        assert row.receives - row.consumed - row.lost == row.emits
        assert row.audio_crop is None or row.emits - row.audio_crop == length
    assert rows[-1].signal_crop is None and rows[-1].audio_crop is not None


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.spn])
def test_rows_of_the_lookback_tell_what_its_network_does(name):
    config = MODELS[name]
    spn, channels = StatePredictionNetwork(config), config.signal_channels + config.input_channels
    lookback = torch.zeros(1, channels, spn.lookback_length)
    seen = lengths_in_and_out(
        spn.blocks, lambda: spn(lookback, torch.zeros(1, config.n_params))
    )
    rows = config.spn.rows()
    assert [(row.receives, row.emits) for row in rows] == seen
    assert rows[-1].emits == 1


@pytest.mark.parametrize("name", PRESETS)
def test_rows_of_the_published_models_are_the_originals_plans(name):
    expected = read_length_plans()[name]
    for plan in expected["plans"]:
        rows = PRESETS[name].rows(plan["target_length"])
        assert rows[0].receives == plan["input_length"] - plan["modulation_start"]
        assert [row.audio_crop for row in rows] == plan["audio_crops"]
        assert [row.signal_crop for row in rows[:-1]] == plan["modulation_crops"][:-1]
        assert [row.frames * 64 for row in rows] == [row.receives - row.consumed for row in rows]
    assert PRESETS[name].spn.rows()[0].receives == expected["lookback_length"]
