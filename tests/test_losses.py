"""The loss against its definition, against auraloss, and where divisions and logarithms go wrong.

The NumPy versions below are loops straight from the definitions, without a shared line of code.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sptmod_dist.errors import UserError
from sptmod_dist.losses import (
    ENERGY_FLOOR,
    POWER_FLOOR,
    Loss,
    LossConfig,
    LossTerms,
    energy_error,
    esr,
    spectral_distance,
)

WINDOWS = (512, 1024, 2048)
LENGTHS = (2048, 4096, 5000)
SHORT = LossConfig(windows=(64, 128))


def noisy_pair(B: int = 3, C: int = 2, L: int = 4096, dtype: torch.dtype = torch.float64) -> tuple:
    generator = torch.Generator().manual_seed(B + 10 * C + L)
    loudness = torch.linspace(0.05, 0.5, B, dtype=dtype)[:, None, None]
    target = torch.randn(B, C, L, generator=generator, dtype=dtype) * loudness
    error = torch.randn(B, C, L, generator=generator, dtype=dtype) * loudness
    return 0.9 * target + 0.2 * error, target


def item_in_numpy(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """All terms of one item [C, L], loud enough that no energy meets its floor."""
    stft, eesr = [], []
    for window in WINDOWS:
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        starts = range(0, target.shape[1] - window + 1, window // 4)
        error = size = 0.0
        logs, energies = [], []
        for channel in range(target.shape[0]):
            for start in starts:
                cut = slice(start, start + window)
                p, y = prediction[channel, cut], target[channel, cut]
                P = np.sqrt(abs(np.fft.rfft(p * hann)) ** 2 + POWER_FLOOR)
                Y = np.sqrt(abs(np.fft.rfft(y * hann)) ** 2 + POWER_FLOOR)
                error += np.sum((P - Y) ** 2)
                size += np.sum(Y**2)
                logs.append(np.mean(abs(np.log(P) - np.log(Y))))
                energies.append(abs(np.mean(p**2) - np.mean(y**2)) / np.mean(y**2))
        stft.append(math.sqrt(error) / math.sqrt(size) + np.mean(logs))
        eesr.append(np.mean(energies))
    mae = float(np.mean(abs(prediction - target)))
    ratio = float(np.sum((prediction - target) ** 2) / np.sum(target**2))
    means = {"mae": mae, "esr": ratio, "mr_stft": np.mean(stft), "mr_eesr": np.mean(eesr)}
    return means | {"total": 100 * mae + ratio + means["mr_stft"] + means["mr_eesr"]}


def gradient(prediction: Tensor, target: Tensor, loss: Loss) -> tuple[LossTerms, Tensor]:
    leaf = prediction.clone().requires_grad_()
    terms = loss(leaf, target)
    terms.total.backward()
    assert leaf.grad is not None
    return LossTerms(*(term.detach() for term in terms)), leaf.grad


@pytest.mark.parametrize("L", LENGTHS)
def test_every_term_equals_plain_loops(L: int) -> None:
    prediction, target = noisy_pair(L=L)
    terms = Loss().per_item(prediction, target)
    for item in range(len(target)):
        expected = item_in_numpy(prediction[item].numpy(), target[item].numpy())
        for name, value in expected.items():
            assert getattr(terms, name)[item].item() == pytest.approx(value, rel=1e-10), name


@pytest.mark.parametrize("window", WINDOWS)
def test_spectral_distance_equals_auraloss_on_audio_padded_as_it_pads(window: int) -> None:
    """Loud audio: auraloss clamps powers at the floor that is added to them here."""
    freq = pytest.importorskip("auraloss.freq")
    prediction, target = (100 * audio for audio in noisy_pair(B=1, C=1))
    theirs = freq.MultiResolutionSTFTLoss([window], [window // 4], [window])
    padded, padded_target = (
        torch.nn.functional.pad(audio, (window // 2, window // 2), "reflect")
        for audio in (prediction, target)
    )
    ours = spectral_distance(padded, padded_target, window)
    expected = theirs(prediction.float(), target.float()).item()
    assert ours.item() == pytest.approx(expected, rel=1e-6)


def test_esr_equals_auraloss() -> None:
    time = pytest.importorskip("auraloss.time")
    prediction, target = noisy_pair(B=1, C=1)
    assert esr(prediction, target).item() == pytest.approx(
        time.ESRLoss()(prediction, target).item(), rel=1e-6
    )


def test_a_known_gain_gives_the_known_terms() -> None:
    """A prediction 6 dB too loud: error = target, so every ratio is known without a transform."""
    _, target = noisy_pair(L=8192)
    terms = Loss()(2 * target, target)
    assert terms.esr.item() == pytest.approx(1, rel=1e-9)
    assert terms.mr_eesr.item() == pytest.approx(3, rel=1e-9)
    assert terms.mr_stft.item() == pytest.approx(1 + math.log(2), rel=1e-4)
    assert terms.mae.item() == pytest.approx(target.abs().mean().item(), rel=1e-9)


def test_the_mean_over_halves_is_the_mean_over_the_batch() -> None:
    prediction, target = noisy_pair(B=8, C=1)
    whole = Loss()(prediction, target)
    halves = [Loss()(*half) for half in zip(prediction.split(4), target.split(4), strict=True)]
    for name in LossTerms._fields:
        mean = sum(getattr(half, name) for half in halves) / 2
        assert abs(mean - getattr(whole, name)) < 1e-12


def test_the_total_is_the_weighted_sum() -> None:
    prediction, target = noisy_pair()
    config = LossConfig(mae=2.0, esr=0.0, mr_stft=0.5, mr_eesr=3.0)
    terms = Loss(config)(prediction, target)
    expected = 2 * terms.mae + 0.5 * terms.mr_stft + 3 * terms.mr_eesr
    assert terms.total.item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_term_with_weight_zero_does_not_reach_the_total() -> None:
    """Not even as 0 * infinity: the prediction's energy overflows, and only MAE is asked for."""
    _, target = noisy_pair(dtype=torch.float32)
    loss = Loss(LossConfig(mae=1.0, esr=0.0, mr_stft=0.0, mr_eesr=0.0))
    terms, grad = gradient(target * 1e30, target, loss)
    assert torch.isinf(terms.esr)
    assert torch.isfinite(terms.total) and torch.isfinite(grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("B, L", [(1, 2048), (3, 5000), (16, 8192)])
def test_equal_signals_have_loss_zero_and_finite_gradients(
    B: int, L: int, dtype: torch.dtype
) -> None:
    _, target = noisy_pair(B, 1, L, dtype)
    terms, grad = gradient(target, target, Loss())
    assert all(term == 0 for term in terms)
    assert torch.isfinite(grad).all()


SILENCE = torch.zeros(2, 1, 4096)
NOISE = torch.randn(2, 1, 4096, generator=torch.Generator().manual_seed(1))
HALF_SILENT = torch.cat([SILENCE[..., :2048], NOISE[..., 2048:]], dim=-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prediction", [SILENCE, NOISE, HALF_SILENT, 1e-20 * NOISE, 100 * NOISE])
@pytest.mark.parametrize("target", [SILENCE, NOISE, HALF_SILENT, 1e-20 * NOISE])
def test_gradients_are_finite_on_silence(
    prediction: Tensor, target: Tensor, dtype: torch.dtype
) -> None:
    terms, grad = gradient(prediction.to(dtype), target.to(dtype), Loss())
    assert all(torch.isfinite(term) for term in terms)
    assert torch.isfinite(grad).all()


def test_a_silent_target_is_judged_by_absolute_error() -> None:
    """A prediction at the floor's level (-60 dB) has an ESR and an energy error of about 1."""
    prediction = math.sqrt(ENERGY_FLOOR) * NOISE
    assert esr(prediction, SILENCE).mean().item() == pytest.approx(1, abs=0.05)
    assert energy_error(prediction, SILENCE, 512).mean().item() == pytest.approx(1, abs=0.05)
    convergence = spectral_distance(prediction, SILENCE, 512).mean().item()
    assert 1 < convergence < 10  # about 1 and a bounded logarithm


def test_bfloat16_autocast_leaves_the_loss_in_float32() -> None:
    _, target = noisy_pair(dtype=torch.float32)
    leaf = (1.1 * target).to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = Loss()(leaf, target)
    inside.total.backward()
    assert inside.total.dtype == torch.float32
    assert inside == Loss()(leaf, target)
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all()


def test_gradients_equal_finite_differences() -> None:
    prediction, target = noisy_pair(B=2, C=1, L=192)
    leaf = prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Loss(SHORT)(x, target).total, leaf)


def test_the_target_gets_no_gradient() -> None:
    prediction, target = noisy_pair()
    target.requires_grad_()
    Loss()(prediction.requires_grad_(), target).total.backward()
    assert target.grad is None


def test_a_nan_is_not_hidden() -> None:
    prediction, target = noisy_pair()
    prediction[0, 0, 100] = math.nan
    assert all(torch.isnan(term) for term in Loss()(prediction, target))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"mae": -1.0}, "loss.mae is -1.0"),
        ({"esr": math.nan}, "loss.esr is nan"),
        ({"mae": 0.0, "esr": 0.0, "mr_stft": 0.0, "mr_eesr": 0.0}, "all 0"),
        ({"windows": ()}, "loss.windows is empty"),
        ({"windows": (512, 1023)}, "loss.windows holds 1023"),
        ({"windows": (0,)}, "loss.windows holds 0"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        LossConfig(**settings)


def test_a_window_longer_than_the_audio_is_refused() -> None:
    short = torch.zeros(1, 1, 2047)
    with pytest.raises(UserError, match="2048, but .* only 2047"):
        Loss()(short, short)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        Loss()(torch.zeros(1, 1, 4096), torch.zeros(1, 2, 4096))
