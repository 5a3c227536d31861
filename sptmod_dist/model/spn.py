"""The State Prediction Network: from five seconds of the past to the recurrent states.

It takes the place of a long warm-up at a group's start. It knows nothing of the effect network but
the size of its states (DAFx25, section 2.3).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sptmod_dist.model.config import ModelConfig, SPNConfig, SPTModConfig
from sptmod_dist.model.kernels import is_fast
from sptmod_dist.model.layers import FiLM, pool, without_autocast
from sptmod_dist.model.pooled_conv import pooled_conv


class SPNBlock(nn.Module):
    """Convolution (kernel, dilation, stride), PReLU, FiLM by the controls, pooling."""

    def __init__(self, spn: SPNConfig, index: int, in_channels: int, n_params: int) -> None:
        super().__init__()
        channels = spn.channels[index]
        self.pooling_size, self.pooling_type = spn.poolings[index], spn.pooling_type
        self.conv = nn.Conv1d(
            in_channels,
            channels,
            spn.kernel_sizes[index],
            stride=spn.strides[index],
            dilation=spn.dilations[index],
        )
        self.is_dense = spn.dilations[index] == 1
        self.activation = nn.PReLU(channels)
        self.film = FiLM(n_params, spn.film_hidden, channels) if n_params else None

    def forward(self, x: Tensor, controls: Tensor) -> Tensor:
        if self.is_dense and is_fast(x):
            return self._in_one_pass(x, controls)
        x = self.activation(self.conv(x))
        if self.film is not None:
            x = self.film(x, controls)
        return pool(x, self.pooling_size, self.pooling_type)

    def _in_one_pass(self, x: Tensor, controls: Tensor) -> Tensor:
        """The same, several times faster."""
        conv, film = self.conv, self.film
        assert conv.bias is not None
        return pooled_conv(
            x,
            conv.weight,
            conv.bias,
            self.activation.weight,
            None if film is None else film.scale_and_shift(x, controls),
            conv.stride[0],
            self.pooling_size,
            self.pooling_type,
        )


class StatePredictionNetwork(nn.Module):
    """Predict the recurrent states before a group's first frames (DAFx25, section 2.3).

    Args:
        config: the model's; its `spn` must be set.

    Raises:
        ValueError: where the config has no SPN, or the lookback has another length.
    """

    def __init__(self, config: SPTModConfig) -> None:
        super().__init__()
        if config.spn is None:
            raise ValueError("this config has no spn")
        self.config, spn = config, config.spn
        self.lookback_length = spn.lookback_length
        in_channels = (config.signal_channels + config.input_channels, *spn.channels)
        self.blocks = nn.ModuleList(
            SPNBlock(spn, j, in_channels[j], config.n_params) for j in range(len(spn.channels))
        )
        size = config.n_blocks * config.state_size
        self.to_states = nn.Linear(spn.channels[-1], size) if spn.linear_end else nn.Identity()

    def forward(self, lookback: Tensor, controls: Tensor, keep: Tensor | None = None) -> Tensor:
        """The states of all blocks, in the weights' dtype, under autocast too.

        Args:
            lookback: input, sidechain (where there is one) and target output, in this order.
            controls: normalised to 0…1.
            keep: factors of a dropout on the states (see `dropout_factors`), while training.

        Shape: lookback [B, C + S + C, lookback_length], controls [B, n_params],
        keep [B, J, state] -> states [J, B, state].
        """
        if lookback.shape[-1] != self.lookback_length:
            raise ValueError(
                f"the lookback has {lookback.shape[-1]} samples; it must have "
                f"{self.lookback_length}"
            )
        x = lookback
        for block in self.blocks:
            x = block(x, controls)
        with without_autocast(x):
            frame = x.squeeze(-1).to(next(self.parameters()).dtype)
            states = self.to_states(frame)  # [B, J * state]
        states = states.unflatten(-1, (self.config.n_blocks, self.config.state_size))
        return (states if keep is None else states * keep).transpose(0, 1)


def dropout_factors(config: ModelConfig, batch_size: int, seed: int) -> Tensor | None:
    """Factors for the predicted states of one whole batch, a pure function of the seed.

    Every rank makes those of the global batch and takes its own rows, so that they do not depend
    on the number of processes.

    Args:
        batch_size: rows of the global batch, `B`.
        seed: of this group alone.

    Shape: [B, J, state], on the CPU; None where the config asks for no dropout.
    """
    spn = config.spn
    if spn is None or not spn.dropout:
        return None
    assert isinstance(config, SPTModConfig)  # it alone has an SPN
    shape = (batch_size, config.n_blocks, config.state_size)
    if spn.dropout_items:
        keep = torch.ones(shape)
        # A share such as 0.29 of 100 is 28.999… in binary; the sum brings it back to 29.
        keep[: math.floor(spn.dropout * batch_size + 1e-9)] = 0
        return keep
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return (uniform >= spn.dropout) / (1 - spn.dropout)
