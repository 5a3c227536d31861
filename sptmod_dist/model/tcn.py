"""The gain TCN: causal dilated convolutions compute a gain that multiplies the audio.

The baseline without recurrence. Like SPTMod it is a function of (audio, controls, state) that
returns (audio, state), and holds parameters and nothing else. What it remembers is the past of its
convolutions, so after `sum(config.consumed)` samples it has forgotten everything. (DAFx25 names
such a baseline without its constants; blocks are built as in Steinmetz & Reiss, "Efficient neural
networks for real-time modeling of analog dynamic range compression", 2022.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

from sptmod_dist.model.calls import check_call
from sptmod_dist.model.config import TCNConfig
from sptmod_dist.model.layers import CausalConv, FiLM, last, without_autocast
from sptmod_dist.model.lengths import LengthPlan


class TCNState(NamedTuple):
    """All that the network remembers between two calls, in the weights' dtype."""

    tails: tuple[Tensor, ...]
    """The last input samples of each block's convolution [B, c_in, (k - 1) * d]."""

    def detach(self) -> TCNState:
        """The same state without history."""
        return TCNState(tuple(tail.detach() for tail in self.tails))


class TCNBlock(nn.Module):
    """Causal convolution, FiLM by the controls, PReLU, plus a 1x1 convolution of what came in.

    Shape: x [B, c_in, T], controls [B, n_params], tail [B, c_in, consumed] or None ->
    [B, c, T or T - consumed], next tail.
    """

    def __init__(self, config: TCNConfig, index: int, in_channels: int) -> None:
        super().__init__()
        channels = config.channels[index]
        self.conv = CausalConv(
            in_channels, channels, config.kernel_sizes[index], config.dilations[index]
        )
        self.film = FiLM(config.n_params, config.film_hidden, channels) if config.n_params else None
        self.activation = nn.PReLU(channels)
        self.residual = nn.Conv1d(in_channels, channels, 1)

    def forward(self, x: Tensor, controls: Tensor, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        y, next_tail = self.conv(x, tail)
        if self.film is not None:
            y = self.film(y, controls)
        return self.activation(y) + self.residual(last(x, y.shape[-1])), next_tail


class TCN(nn.Module):
    """The gain TCN.

    Args:
        config: what it is made of. A fresh network has PyTorch's default initialisation, but for
            the bias of the gain, which is 1: it starts near the unchanged audio.
    """

    def __init__(self, config: TCNConfig) -> None:
        super().__init__()
        self.config = config
        in_channels = (config.sidechain_channels or config.input_channels, *config.channels)
        self.blocks = nn.ModuleList(
            TCNBlock(config, j, in_channels[j]) for j in range(config.n_blocks)
        )
        self.to_gain = nn.Conv1d(config.channels[-1], config.input_channels, 1)
        assert self.to_gain.bias is not None
        nn.init.ones_(self.to_gain.bias)

    def initial_state(self, batch_size: int) -> TCNState:
        """Zeros in every cache: where a stream starts."""
        return TCNState(tuple(self._zero_tails(batch_size)))

    def _zero_tails(self, batch_size: int) -> Iterator[Tensor]:
        block: Any  # ModuleList forgets what it holds
        for block in self.blocks:
            yield block.conv.zero_tail(batch_size)

    def forward(
        self,
        x: Tensor,
        controls: Tensor,
        plan: LengthPlan | None = None,
        state: TCNState | None = None,
    ) -> tuple[Tensor, TCNState]:
        """Start a group (give a plan) or continue (give a state).

        Args:
            x: full scale is 1; the sidechain's channels come after the audio's.
            controls: normalised to 0…1; [B, 0] for a snapshot.
            plan: starts a group: no padding, `plan.target_length` samples come out.
            state: continues with cached padding: the output is as long as the input.

        Shape: x [B, C + S, T], controls [B, n_params] -> y [B, C, T'].

        Raises:
            ValueError: both or neither of plan and state; lengths or channels that do not fit.
        """
        check_call(self.config, x, controls, plan, state)
        C = self.config.input_channels
        audio = x[:, :C]
        signal = x[:, C:] if self.config.sidechain_channels else audio
        if state is None:
            tails: tuple[Tensor | None, ...] = (None,) * self.config.n_blocks
        else:
            tails = state.tails
        next_tails = []
        for block, tail in zip(self.blocks, tails, strict=True):
            signal, next_tail = block(signal, controls, tail)
            next_tails.append(next_tail)
        with without_autocast(signal):  # no audio is rounded to 8 bits
            gain = self.to_gain(signal.to(self.to_gain.weight.dtype))
        return last(audio, gain.shape[-1]) * gain, TCNState(tuple(next_tails))
