"""The training loss: 100 MAE + ESR + MR-STFT + MR-EESR (DAFx25, section on training).

Every ratio is taken per item, over its channels and its time, and only then averaged over items:
so the mean of two halves of a batch is the mean of the batch, however processes share it. Windows
lie wholly inside the audio (nothing is padded): K = (L - W) // (W / 4) + 1 of them, and the Hann
window of the spectra weighs the first and last samples less. This file knows nothing of models,
data or training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import avg_pool1d

from sptmod_dist.errors import UserError

ENERGY_FLOOR = 1e-6
"""Least mean square that an error is divided by: -60 dB of full scale.

Below it lie silence and a device's own noise, where a relative error says nothing about the model
but would outweigh all that is heard. Quieter targets are judged by their absolute error.
"""

POWER_FLOOR = 1e-8
"""Added to each bin's |Y|^2 (of the plain Hann STFT) before its root and its logarithm.

Just under the quantisation noise that a 16-bit file has in a bin (1.5e-8 for a window of 512), and
auraloss's value. It bounds the gradients of root and logarithm, so silence gives finite ones.
"""

OVERLAP = 4
"""Windows a window length: the hop is a quarter of the window, an overlap of 75 %."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the four terms in the total (0 leaves a term out of it), and the windows."""

    mae: float = 100.0
    """Weight of the mean absolute error."""
    esr: float = 1.0
    """Weight of the error-to-signal ratio."""
    mr_stft: float = 1.0
    """Weight of the multi-resolution spectral distance."""
    mr_eesr: float = 1.0
    """Weight of the multi-resolution error of the energy envelope."""
    windows: tuple[int, ...] = (512, 1024, 2048)
    """Window lengths of both multi-resolution terms, in samples; multiples of 4."""

    def __post_init__(self) -> None:
        weights = {field.name: getattr(self, field.name) for field in fields(self)[:4]}
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise UserError(f"loss.{name} is {weight}: a weight must be finite and 0 or more")
        if not any(weights.values()):
            raise UserError(f"loss: {', '.join(weights)} are all 0, so nothing would be learned")
        if not self.windows:
            raise UserError("loss.windows is empty: give at least one window length")
        for window in self.windows:
            if window < OVERLAP or window % OVERLAP:
                raise UserError(f"loss.windows holds {window}: give positive multiples of 4")


class LossTerms(NamedTuple):
    """The unweighted terms and their weighted sum: means over items, or a value an item [B]."""

    mae: Tensor
    esr: Tensor
    mr_stft: Tensor
    mr_eesr: Tensor
    total: Tensor


class Loss(Module):
    """Compare a prediction with its target, in float32 (or float64 where both are).

    Args:
        config: weights and windows; the defaults are the published ones. The longest window must
            fit into the shortest sub-sequence.
    """

    def __init__(self, config: LossConfig | None = None) -> None:
        super().__init__()
        self.config = config or LossConfig()

    def forward(self, prediction: Tensor, target: Tensor) -> LossTerms:
        """Means over the items of the batch, each 0-dimensional; `total` is the one to minimise.

        Shape: prediction and target [B, C, L] -> [].

        Raises:
            UserError: a window is longer than the audio.
            ValueError: shapes that differ.
        """
        return LossTerms(*(term.mean() for term in self.per_item(prediction, target)))

    def per_item(self, prediction: Tensor, target: Tensor) -> LossTerms:
        """The same, before the mean over items.

        Shape: prediction and target [B, C, L] -> [B].
        """
        self._check(prediction, target)
        with torch.autocast(prediction.device.type, enabled=False):
            return self._terms(_at_least_float32(prediction), _at_least_float32(target.detach()))

    def _check(self, prediction: Tensor, target: Tensor) -> None:
        if prediction.ndim != 3 or prediction.shape != target.shape:
            raise ValueError(
                f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} "
                "must have one shape [B, C, L]"
            )
        longest, length = max(self.config.windows), prediction.shape[-1]
        if longest > length:
            raise UserError(
                f"loss.windows holds {longest}, but the audio to compare has only {length} "
                "samples: give shorter windows or longer sub-sequences"
            )

    def _terms(self, prediction: Tensor, target: Tensor) -> LossTerms:
        windows = self.config.windows
        terms = (
            mae(prediction, target),
            esr(prediction, target),
            _mean([spectral_distance(prediction, target, window) for window in windows]),
            _mean([energy_error(prediction, target, window) for window in windows]),
        )
        weights = (getattr(self.config, name) for name in LossTerms._fields[:4])
        total = sum(
            (weight * term for weight, term in zip(weights, terms, strict=True) if weight),
            start=torch.zeros_like(terms[0]),
        )
        return LossTerms(*terms, total)


def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of each item. Shape: [B, C, L] twice -> [B]."""
    return (prediction - target).abs().mean(dim=(1, 2))


def esr(prediction: Tensor, target: Tensor) -> Tensor:
    """Energy of the error over that of the target, for each item.

    The target's mean square counts as `ENERGY_FLOOR` where it is less.

    Shape: [B, C, L] twice -> [B].
    """
    energy = target.square().mean(dim=(1, 2))
    return (prediction - target).square().mean(dim=(1, 2)) / energy.clamp(min=ENERGY_FLOOR)


def spectral_distance(prediction: Tensor, target: Tensor, window: int) -> Tensor:
    """Spectral convergence plus the mean distance of log magnitudes, for each item.

    The norm of the target's magnitudes counts as that of white noise at `ENERGY_FLOOR` where it is
    less. Logarithms are natural.

    Shape: [B, C, L] twice -> [B].
    """
    power, target_power = _power(prediction, window), _power(target, window)  # [B, C, K, F]
    target_size = target_power.sqrt()
    error = torch.linalg.vector_norm(power.sqrt() - target_size, dim=(1, 2, 3))
    size = torch.linalg.vector_norm(target_size, dim=(1, 2, 3))
    bins = target_size[0].numel()
    window_energy = 0.375 * window  # of a Hann window: the sum of its squares
    floor = math.sqrt(ENERGY_FLOOR * window_energy * bins)
    log_distance = 0.5 * (power.log() - target_power.log()).abs().mean(dim=(1, 2, 3))
    return error / size.clamp(min=floor) + log_distance


def energy_error(prediction: Tensor, target: Tensor, window: int) -> Tensor:
    """Mean relative error of the energy in windows, per channel, for each item.

    A window's mean square in the target counts as `ENERGY_FLOOR` where it is less.

    Shape: [B, C, L] twice -> [B].
    """
    energy, target_energy = _energies(prediction, window), _energies(target, window)  # [B, C, K]
    error = (energy - target_energy).abs() / target_energy.clamp(min=ENERGY_FLOOR)
    return error.mean(dim=(1, 2))


def _power(audio: Tensor, window: int) -> Tensor:
    """Power spectra [B, C, K, F] of overlapping windows.

    Windows are joined from quarters rather than taken by `torch.stft`, whose backward pass adds
    overlapping gradients element by element: slower here, and in no fixed order on a GPU.
    """
    hop = window // OVERLAP
    n = audio.shape[-1] // hop
    quarters = audio[..., : n * hop].unflatten(-1, (n, hop))
    count = n - OVERLAP + 1
    shifted = [quarters[..., k : k + count, :] for k in range(OVERLAP)]
    frames = torch.cat(shifted, dim=-1) * _hann(window, audio)  # [B, C, K, W]
    spectrum = torch.fft.rfft(frames)
    return spectrum.real.square() + spectrum.imag.square() + POWER_FLOOR


def _hann(window: int, like: Tensor) -> Tensor:
    return torch.hann_window(window, dtype=like.dtype, device=like.device)


def _energies(audio: Tensor, window: int) -> Tensor:
    quarters = avg_pool1d(audio.square(), window // OVERLAP)  # each sample is summed once
    return avg_pool1d(quarters, OVERLAP, stride=1)  # [B, C, K]


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(dim=0)


def _at_least_float32(audio: Tensor) -> Tensor:
    return audio if audio.dtype == torch.float64 else audio.float()
