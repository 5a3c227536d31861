"""The definition of both networks and the loss, layer by layer, at the original's places.

What the fast path must equal, and what benchmarks take ratios against: recurrent outputs are
upsampled by a transposed convolution, 1x1 convolutions run at the audio's rate, every layer writes
its output to memory, spectra are `torch.stft`'s, and each is computed where it is needed. The
parameters are those of the model that it is made of.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, conv1d, conv_transpose1d, max_pool1d, prelu

from sptmod_dist.losses import ENERGY_FLOOR, POWER_FLOOR, Loss, LossTerms
from sptmod_dist.model.lengths import LengthPlan
from sptmod_dist.model.spn import SPNBlock, StatePredictionNetwork
from sptmod_dist.model.sptmod import ModBlock, ModelState, SPTMod


class PlainSPTMod(nn.Module):
    """`SPTMod`, called as it is."""

    def __init__(self, effect: SPTMod) -> None:
        super().__init__()
        self.effect, self.config = effect, effect.config

    def forward(
        self,
        x: Tensor,
        controls: Tensor,
        plan: LengthPlan | None = None,
        rnn_states: Tensor | None = None,
        state: ModelState | None = None,
    ) -> tuple[Tensor, ModelState]:
        config = self.config
        audio = x[:, : config.input_channels]
        signal = x[:, config.input_channels :] if config.sidechain_channels else audio
        tails: Any = (None,) * config.n_blocks
        if plan is not None:
            audio = audio[..., plan.audio_start :]
            signal = signal[..., plan.modulation_start :]
            rnn = self.effect.initial_state(len(x)).rnn if rnn_states is None else rnn_states
        else:
            assert state is not None
            rnn, tails = state
        if self.effect.condition is not None:
            controls = self.effect.condition(controls)
        states, next_tails = [], []
        for j, block in enumerate(self.effect.blocks):
            if j and plan is not None:
                signal = signal[..., plan.modulation_crops[j - 1] :]
            modulation, signal, next_state, tail = _mod_block(
                block, signal, controls, rnn[j], tails[j]
            )
            scale, shift = modulation[..., -audio.shape[-1] :].chunk(2, dim=1)
            audio = audio * scale + shift
            states.append(next_state)
            next_tails.append(tail)
        return audio, ModelState(torch.stack(states), tuple(next_tails))


def _mod_block(
    block: Any, x: Tensor, controls: Tensor, rnn_state: Tensor, tail: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    assert isinstance(block, ModBlock)
    conv, size = block.conv.conv, block.pooling_size
    starts = tail is None
    if tail is not None:
        x = torch.cat([tail, x], dim=-1)
    next_tail = x[..., x.shape[-1] - block.conv.consumed :].clone()
    signal = conv1d(x, conv.weight, conv.bias, dilation=conv.dilation)
    signal = prelu(signal, block.activation.weight)
    pooled = _pool(signal, size, block.pooling_type)
    if block.film is not None:
        pooled = _film(pooled, block.film.net(controls))
    if isinstance(block.rnn, nn.LSTM):
        h, c = (part.contiguous() for part in rnn_state[None].chunk(2, dim=-1))
        frames, (h, c) = block.rnn(pooled.transpose(1, 2), (h, c))
        next_state = torch.cat([h, c], dim=-1)[0]
    else:
        frames, h = block.rnn(pooled.transpose(1, 2), rnn_state[None].contiguous())
        next_state = h[0]
    frames = frames.transpose(1, 2)  # [B, H, K]
    if starts:
        signal = signal[..., size:]
    else:
        previous = rnn_state[:, : frames.shape[1], None]
        frames = torch.cat([previous, frames], dim=-1)
    lines = _upsample(frames, size)  # [B, H, T]
    modulation = conv1d(lines, block.to_audio.weight[..., None], block.to_audio.bias)
    if block.to_signal is not None:
        steering = conv1d(lines, block.to_signal.weight[..., None], block.to_signal.bias)
        scale, shift = steering.chunk(2, dim=1)
        signal = signal * scale + shift
    return modulation, signal, next_state, next_tail


def _upsample(frames: Tensor, size: int) -> Tensor:
    """Lines between frames, by triangles that overlap: [B, H, K + 1] -> [B, H, K * size]."""
    channels = frames.shape[1]
    ramp = 1 - (torch.arange(2 * size, dtype=frames.dtype) - size).abs() / size
    lines = conv_transpose1d(
        frames, ramp.expand(channels, 1, -1), stride=size, groups=channels
    )
    return lines[..., size:-size]


def _pool(x: Tensor, size: int, kind: str) -> Tensor:
    return max_pool1d(x, size) if kind == "max" else avg_pool1d(x, size)


def _film(x: Tensor, scale_and_shift: Tensor) -> Tensor:
    scale, shift = scale_and_shift[..., None].chunk(2, dim=1)
    return x * scale + shift


class PlainSPN(nn.Module):
    """`StatePredictionNetwork`, called as it is."""

    def __init__(self, spn: StatePredictionNetwork) -> None:
        super().__init__()
        self.spn = spn

    def forward(self, lookback: Tensor, controls: Tensor, keep: Tensor | None = None) -> Tensor:
        x = lookback
        for block in self.spn.blocks:
            assert isinstance(block, SPNBlock)
            conv = block.conv
            x = conv1d(x, conv.weight, conv.bias, stride=conv.stride, dilation=conv.dilation)
            x = prelu(x, block.activation.weight)
            if block.film is not None:
                x = _film(x, block.film.net(controls))
            x = _pool(x, block.pooling_size, block.pooling_type)
        states = self.spn.to_states(x[..., 0])
        config = self.spn.config
        states = states.unflatten(-1, (config.n_blocks, config.state_size))
        return (states if keep is None else states * keep).transpose(0, 1)


class PlainLoss(Loss):
    """`Loss`, each term from the audio."""

    def _terms(self, prediction: Tensor, target: Tensor) -> LossTerms:
        config = self.config
        mae = (prediction - target).abs().mean((1, 2))
        floor = target.square().mean((1, 2)).clamp(min=ENERGY_FLOOR)
        esr = (prediction - target).square().mean((1, 2)) / floor
        distances, energies = [], []
        for window in config.windows:
            distances.append(
                _convergence(prediction, target, window) + _logs(prediction, target, window)
            )
            energy, target_energy = (
                a.unfold(-1, window, window // 4).square().mean(-1) for a in (prediction, target)
            )
            error = (energy - target_energy).abs() / target_energy.clamp(min=ENERGY_FLOOR)
            energies.append(error.mean((1, 2)))
        mr_stft, mr_eesr = (torch.stack(each).mean(0) for each in (distances, energies))
        total = (
            config.mae * mae + config.esr * esr + config.mr_stft * mr_stft
            + config.mr_eesr * mr_eesr
        )  # fmt: skip
        return LossTerms(mae, esr, mr_stft, mr_eesr, total)


def _magnitudes(audio: Tensor, window: int) -> Tensor:
    hann = torch.hann_window(window, dtype=audio.dtype)
    spectra = torch.stft(
        audio.flatten(0, 1), window, window // 4, window=hann, center=False, return_complex=True
    )
    magnitudes = (spectra.real**2 + spectra.imag**2 + POWER_FLOOR).sqrt()
    return magnitudes.unflatten(0, audio.shape[:2])


def _convergence(prediction: Tensor, target: Tensor, window: int) -> Tensor:
    found, wanted = _magnitudes(prediction, window), _magnitudes(target, window)
    floor = (ENERGY_FLOOR * 0.375 * window * wanted[0].numel()) ** 0.5
    size = wanted.square().sum((1, 2, 3)).sqrt().clamp(min=floor)
    return (found - wanted).square().sum((1, 2, 3)).sqrt() / size


def _logs(prediction: Tensor, target: Tensor, window: int) -> Tensor:
    found, wanted = _magnitudes(prediction, window), _magnitudes(target, window)
    return (found.log() - wanted.log()).abs().mean((1, 2, 3))
