"""Small models for the identities: every kind of cell, pooling, path and conditioning."""

from __future__ import annotations

from dataclasses import replace

import torch

from sptmod_dist.model import SPNConfig, SPTModConfig, TCNConfig

SPN = SPNConfig(
    channels=(4, 5),
    kernel_sizes=(5, 4),
    dilations=(1, 2),
    strides=(2, 1),
    poolings=(4, 3),
    film_hidden=(4,),
)
LSTM = SPTModConfig(
    n_params=2,
    channels=(5, 4, 6),
    kernel_sizes=(3, 5, 9),
    dilations=(1, 2, 1),
    pooling_size=16,
    film_hidden=(6,),
    hidden_size=7,
    spn=SPN,
)
MODELS = {
    "lstm": LSTM,
    "gru_average": replace(
        LSTM, rnn_cell="GRU", pooling_type="average", spn=replace(SPN, pooling_type="average")
    ),
    "sidechain": replace(LSTM, sidechain_channels=1),
    "stereo_with_stereo_sidechain": replace(LSTM, input_channels=2, sidechain_channels=2),
    "snapshot_of_one_block": replace(
        LSTM, n_params=0, channels=(5,), kernel_sizes=(4,), dilations=(3,)
    ),
    "kernel_of_one": replace(LSTM, kernel_sizes=(1, 5, 1)),
    "no_spn_conditioned": replace(LSTM, spn=None, cond_size=5),
    "empty_film": replace(LSTM, film_hidden=(), spn=replace(SPN, film_hidden=())),
    "no_linear_end": replace(LSTM, spn=replace(SPN, linear_end=False, channels=(4, 3 * 14))),
}

TCN = TCNConfig(
    n_params=2, channels=(5, 4), kernel_sizes=(3, 5), dilations=(1, 7), film_hidden=(6,)
)
TCNS = {
    "tcn": TCN,
    "tcn_stereo_with_sidechain": replace(TCN, input_channels=2, sidechain_channels=1),
    "tcn_snapshot": replace(TCN, n_params=0, kernel_sizes=(1, 4)),
}


def batch(config, length, rows=3, dtype=torch.float32, seed=0):
    """Input, target and controls of `length` samples for a model."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype) * 0.3

    x = noise(rows, config.signal_channels, length)
    y = noise(rows, config.input_channels, length)
    return x, y, noise(rows, config.n_params).abs()
