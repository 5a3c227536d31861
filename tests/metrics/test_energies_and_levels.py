"""The reported figures, on signals whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sptmod_dist.metrics import (
    LevelCurve,
    best_static_gain,
    error_energy,
    esr,
    frame_levels,
    level_curve,
)

RATE = 44_100


def noise(seed: int = 0, shape: tuple[int, ...] = (2, 4000)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def tone_steps(levels_db: range, seconds: float = 0.25) -> np.ndarray:
    """A 1 kHz sine in steps of the given peak levels, [1, T]."""
    time = np.arange(round(seconds * RATE)) / RATE
    sine = np.sin(2 * np.pi * 1000 * time)
    return np.concatenate([10 ** (level / 20) * sine for level in levels_db])[None]


def curve_of(x: np.ndarray, y: np.ndarray) -> LevelCurve:
    return level_curve(frame_levels(x, RATE), frame_levels(y, RATE))


def test_esr_of_a_gain_error_is_its_square() -> None:
    target = noise()
    assert esr(1.1 * target, target) == pytest.approx(0.01)
    assert esr(target, target) == 0
    assert esr(np.zeros_like(target), target) == 1


def test_esr_of_silence_is_zero_or_infinite() -> None:
    silence = np.zeros((1, 10))
    assert esr(silence, silence) == 0
    assert esr(silence + 1, silence) == math.inf


def test_tensors_and_arrays_give_the_same_figures() -> None:
    prediction, target = noise(1), noise(2)
    tensors = torch.from_numpy(prediction), torch.from_numpy(target)
    assert esr(*tensors) == esr(prediction, target)
    assert best_static_gain(*tensors) == best_static_gain(prediction, target)


def test_float32_audio_is_summed_in_float64() -> None:
    long = np.full((1, 2**16), 1.0, np.float32)
    long[0, 0] = 1e4  # float32 has steps of 8 at its square
    assert error_energy(long, np.zeros_like(long)) == 1e8 + 2**16 - 1


def test_the_best_gain_is_found_and_no_other_is_better() -> None:
    x = noise(1)
    assert best_static_gain(x, 0.3 * x).gain == pytest.approx(0.3)
    assert best_static_gain(x, 0.3 * x).esr == pytest.approx(0, abs=1e-30)
    y = 0.3 * x + noise(2)
    best = best_static_gain(x, y)
    assert best.error == pytest.approx(error_energy(best.gain * x, y))
    for other in (best.gain - 1e-3, best.gain + 1e-3):
        assert esr(other * x, y) > best.esr


def test_a_silent_input_has_no_gain() -> None:
    silence = np.zeros((2, 4000))
    assert best_static_gain(silence, noise()) == (0.0, error_energy(noise(), silence), 1.0)


def test_shapes_that_differ_are_refused() -> None:
    for function in (esr, best_static_gain):
        with pytest.raises(ValueError, match="one shape"):
            function(np.zeros((1, 4)), np.zeros((2, 4)))


def test_the_level_curve_of_a_gain_is_a_parallel_of_the_identity() -> None:
    steps = tone_steps(range(-40, 1))
    curve = curve_of(steps, 0.5 * steps)
    assert len(curve.input_db) == 41
    np.testing.assert_allclose(curve.output_db - curve.input_db, 20 * math.log10(0.5), atol=1e-9)
    np.testing.assert_allclose(curve.input_db, np.arange(-40, 1) - 3.01, atol=0.01)


def test_the_level_curve_shows_threshold_and_ratio_in_spite_of_attacks() -> None:
    """An ideal compressor, -20 dB, 4:1, whose gain takes 50 ms of each step to arrive."""
    levels = range(-40, 1, 2)
    gains = [10 ** (-0.75 * max(0, level - 3.01 + 20) / 20) for level in levels]
    steps = tone_steps(levels)
    slow = np.repeat(gains, steps.shape[1] // len(gains))
    slow = np.concatenate([np.full(2205, slow[0]), slow[:-2205]])
    curve = curve_of(steps, slow * steps)
    expected = curve.input_db - 0.75 * np.maximum(0, curve.input_db + 20)
    np.testing.assert_allclose(curve.output_db, expected, atol=0.02)


def test_silence_and_rare_levels_have_no_place_in_the_level_curve() -> None:
    audio = np.concatenate([np.zeros((1, RATE)), np.full((1, 882), 0.5)], axis=1)
    assert len(curve_of(audio, audio).input_db) == 0
    assert len(curve_of(audio[:, :100], audio[:, :100]).input_db) == 0
