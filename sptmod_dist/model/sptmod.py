"""SPTMod, the effect network: a modulation path of convolution and recurrence steers clean audio.

A function of (audio, controls, state) that returns (audio, state). The module holds parameters and
nothing else: no buffer, no hidden state, so nothing of one rank's audio can be shared by mistake.
It knows nothing of groups, epochs or training (DAFx25, section 2.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sptmod_dist.model.calls import check_call
from sptmod_dist.model.config import SPTModConfig
from sptmod_dist.model.framing import activate_and_pool
from sptmod_dist.model.kernels import is_fast
from sptmod_dist.model.layers import (
    CausalConv,
    FiLM,
    last,
    mlp,
    modulate,
    pool,
    upsample,
    without_autocast,
)
from sptmod_dist.model.lengths import LengthPlan
from sptmod_dist.model.steering import steer


class ModelState(NamedTuple):
    """All that the network remembers between two calls.

    The upsamplers' last frames are the recurrent layers' own `h`, so they need no place here.
    All of it has the weights' dtype, under autocast too.
    """

    rnn: Tensor
    """The recurrent states [J, B, state]: `[h, c]` for an LSTM, `h` for a GRU."""
    tails: tuple[Tensor, ...]
    """The last input samples of each block's convolution [B, c_in, (k - 1) * d]."""

    def detach(self) -> ModelState:
        """The same state without history: no gradient crosses a boundary."""
        return ModelState(self.rnn.detach(), tuple(tail.detach() for tail in self.tails))


class ModBlock(nn.Module):
    """Causal convolution, PReLU, then TFiLM: pool, FiLM, recurrence, lines between frames.

    The 1x1 convolutions stand before the upsampling, with which they commute: the same numbers at
    a rate `P` times lower than where the paper's figure draws them.

    Under autocast the signal alone has its type: what it is pooled to, the recurrence and the
    audio's modulation have the weights', so that no audio is rounded to 8 bits.
    """

    def __init__(self, config: SPTModConfig, index: int, in_channels: int) -> None:
        super().__init__()
        channels, hidden = config.channels[index], config.hidden_size
        self.pooling_size, self.pooling_type = config.pooling_size, config.pooling_type
        self.conv = CausalConv(
            in_channels, channels, config.kernel_sizes[index], config.dilations[index]
        )
        self.activation = nn.PReLU(channels)
        n_inputs = config.cond_size or config.n_params
        self.film = FiLM(n_inputs, config.film_hidden, channels) if n_inputs else None
        self.rnn = getattr(nn, config.rnn_cell)(channels, hidden, batch_first=True)
        self.to_audio = nn.Linear(hidden, 2 * config.input_channels)
        is_last = index == config.n_blocks - 1
        self.to_signal = None if is_last else nn.Linear(hidden, 2 * channels)

    def forward(
        self, x: Tensor, controls: Tensor, rnn_state: Tensor, tail: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """Run one block; without a tail it starts a group and loses its first frame.

        Shape: x [B, c_in, T], rnn_state [B, state] -> the audio's modulation [B, 2C, T'], the next
        block's input [B, c, T'] (None after the last block), the next rnn_state, the next tail.
        """
        signal, next_tail = self.conv(x, tail)
        signal, pooled = self._activate_and_pool(signal)
        with without_autocast(signal):
            frames, next_state = self._recur(pooled, controls, rnn_state)  # [B, K, H]
            if tail is None:
                signal = signal[..., self.pooling_size :]  # no frame before the first to start from
            else:
                previous = rnn_state[:, None, : frames.shape[-1]]  # the last frame of before is h
                frames = torch.cat([previous, frames], dim=1)
            return *self._modulate(signal, frames), next_state, next_tail

    def _modulate(self, signal: Tensor, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        modulation = upsample(self.to_audio(frames).transpose(1, 2), self.pooling_size)
        if self.to_signal is None:
            return modulation, None
        steering = self.to_signal(frames).transpose(1, 2).to(signal.dtype)
        if is_fast(signal):
            return modulation, steer(signal, steering, self.pooling_size)
        return modulation, modulate(signal, upsample(steering, self.pooling_size))

    def _activate_and_pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        size, kind = self.pooling_size, self.pooling_type
        if is_fast(x):
            return activate_and_pool(x, self.activation.weight, size, kind)
        signal = self.activation(x)
        return signal, pool(signal, size, kind)

    def _recur(self, pooled: Tensor, controls: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        pooled = pooled.to(self.rnn.weight_hh_l0.dtype)
        if self.film is not None:
            pooled = self.film(pooled, controls)
        frames = pooled.transpose(1, 2)
        if isinstance(self.rnn, nn.GRU):
            frames, h = self.rnn(frames, state.unsqueeze(0).contiguous())
            return frames, h.squeeze(0)
        h, c = state.unsqueeze(0).chunk(2, dim=-1)
        frames, (h, c) = self.rnn(frames, (h.contiguous(), c.contiguous()))
        return frames, torch.cat([h, c], dim=-1).squeeze(0)


class SPTMod(nn.Module):
    """Series-Parallel Temporal Modulation, the effect network (DAFx25, section 2.1).

    Args:
        config: what it is made of. A fresh network has PyTorch's default initialisation.
    """

    def __init__(self, config: SPTModConfig) -> None:
        super().__init__()
        self.config = config
        self.condition: nn.Module | None = None
        if config.cond_size is not None:
            net = mlp(config.n_params, (config.cond_size,) * 2, config.cond_size)
            self.condition = nn.Sequential(*net, nn.PReLU(config.cond_size))
        in_channels = (config.sidechain_channels or config.input_channels, *config.channels)
        self.blocks = nn.ModuleList(
            ModBlock(config, j, in_channels[j]) for j in range(config.n_blocks)
        )

    def initial_state(self, batch_size: int) -> ModelState:
        """Zeros in every state and cache, i.e. zero padding at every layer: where a stream starts.

        Shape: rnn [J, batch_size, state] and a tail a block [batch_size, c_in, consumed].
        """
        like = next(self.parameters())
        rnn = like.new_zeros(self.config.n_blocks, batch_size, self.config.state_size)
        return ModelState(rnn, tuple(self._zero_tails(batch_size)))

    def _zero_tails(self, batch_size: int) -> Iterator[Tensor]:
        block: Any  # ModuleList forgets what it holds
        for block in self.blocks:
            yield block.conv.zero_tail(batch_size)

    def forward(
        self,
        x: Tensor,
        controls: Tensor,
        plan: LengthPlan | None = None,
        rnn_states: Tensor | None = None,
        state: ModelState | None = None,
    ) -> tuple[Tensor, ModelState]:
        """Start a group (give a plan) or continue (give a state).

        Args:
            x: full scale is 1; the sidechain's channels come after the audio's.
            controls: normalised to 0…1; [B, 0] for a snapshot.
            plan: starts a group: no padding, `plan.target_length` samples come out.
            rnn_states: a group's first recurrent states, as an SPN predicts them; zeros if None.
            state: continues with cached padding: the output is as long as the input.

        Shape: x [B, C + S, T], controls [B, n_params], rnn_states [J, B, state] -> y [B, C, T'].

        Raises:
            ValueError: both or neither of plan and state; lengths or channels that do not fit.
        """
        check_call(self.config, x, controls, plan, state)
        if state is not None and rnn_states is not None:
            raise ValueError("rnn_states start a group; a state already holds its own")
        C = self.config.input_channels
        audio = x[:, :C]  # [B, C, T]
        signal = x[:, C:] if self.config.sidechain_channels else audio
        tails: tuple[Tensor | None, ...] = (None,) * self.config.n_blocks
        if plan is not None:
            audio = audio[..., plan.audio_start :]
            signal = signal[..., plan.modulation_start :]
            rnn = self.initial_state(x.shape[0]).rnn if rnn_states is None else rnn_states
        else:
            assert state is not None
            rnn, tails = state
        if self.condition is not None:
            with without_autocast(controls):
                controls = self.condition(controls)
        return self._run(audio, signal, controls, rnn, tails, plan)

    def _run(
        self,
        audio: Tensor,
        signal: Tensor | None,
        controls: Tensor,
        rnn: Tensor,
        tails: tuple[Tensor | None, ...],
        plan: LengthPlan | None,
    ) -> tuple[Tensor, ModelState]:
        next_states, next_tails = [], []
        for j, block in enumerate(self.blocks):
            if j and plan is not None:
                assert signal is not None
                signal = signal[..., plan.modulation_crops[j - 1] :]
            modulation, signal, next_state, tail = block(signal, controls, rnn[j], tails[j])
            audio = modulate(audio, last(modulation, audio.shape[-1]))
            next_states.append(next_state)
            next_tails.append(tail)
        return audio, ModelState(torch.stack(next_states), tuple(next_tails))
