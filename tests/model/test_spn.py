"""The State Prediction Network: what it reads, what its dropout drops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from models import LSTM, MODELS, batch

from sptmod_dist.model import StatePredictionNetwork
from sptmod_dist.model.spn import dropout_factors

WITH_SPN = [name for name, config in MODELS.items() if config.spn]


@pytest.mark.parametrize("name", WITH_SPN)
def test_it_reads_every_sample_of_its_lookback_and_predicts_every_blocks_state(name):
    config = replace(MODELS[name], spn=replace(MODELS[name].spn, pooling_type="average"))
    spn = StatePredictionNetwork(config)
    x, y, controls = batch(config, spn.lookback_length)
    lookback = torch.cat([x, y], 1).requires_grad_()
    states = spn(lookback, controls)
    assert states.shape == (config.n_blocks, 3, config.state_size)
    states.square().sum().backward()
    assert (lookback.grad.abs().sum((0, 1)) > 0).all()
    assert all(p.grad is not None for p in spn.parameters())


def config_with(dropout, items):
    return replace(LSTM, spn=replace(LSTM.spn, dropout=dropout, dropout_items=items))


def test_dropout_of_items_zeroes_the_first_rows_of_the_global_batch():
    keep = dropout_factors(config_with(0.3, True), 8, seed=5)
    assert (keep[:2] == 0).all() and (keep[2:] == 1).all()


@pytest.mark.parametrize(("share", "batch_size", "rows"), [(0.29, 100, 29), (0.57, 100, 57)])
def test_a_share_of_items_is_not_lost_to_binary_fractions(share, batch_size, rows):
    assert (dropout_factors(config_with(share, True), batch_size, 1) == 0)[:, 0, 0].sum() == rows


def test_dropout_of_values_keeps_the_expectation_and_is_a_function_of_its_seed():
    config = config_with(0.25, False)
    keep = dropout_factors(config, 400, seed=5)
    assert keep.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert abs(keep.mean().item() - 1) < 0.02
    assert torch.equal(keep, dropout_factors(config, 400, seed=5))
    assert not torch.equal(keep, dropout_factors(config, 400, seed=6))


def test_without_dropout_there_are_no_factors():
    assert dropout_factors(LSTM, 8, seed=5) is None


def test_factors_multiply_the_states_of_their_rows():
    config = config_with(0.5, False)
    spn = StatePredictionNetwork(config)
    x, y, controls = batch(config, spn.lookback_length)
    lookback, keep = torch.cat([x, y], 1), dropout_factors(config, 3, seed=1)
    torch.testing.assert_close(
        spn(lookback, controls, keep), spn(lookback, controls) * keep.transpose(0, 1)
    )
