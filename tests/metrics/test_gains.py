"""The error of the gain, in dB, of distortions whose error is known."""

from __future__ import annotations

import numpy as np
import pytest

from sptmod_dist.metrics import frame_levels, gain_curve, gain_error, gain_of_levels

RATE = 44_100


def music(seconds: float = 1.0, channels: int = 2) -> np.ndarray:
    generator = np.random.default_rng(3)
    fade = np.geomspace(1e-5, 0.9, round(seconds * RATE))
    return (generator.uniform(-1, 1, (channels, len(fade))) * fade).astype(np.float32)


def decibels(value: float) -> float:
    return float(10 ** (value / 20))


def test_a_gain_of_one_decibel_is_an_error_of_one_decibel() -> None:
    x = music()
    y = 0.3 * x**3 + 0.2 * x
    device, model = (gain_curve(x, out, RATE) for out in (y, decibels(1) * y))
    error = gain_error(model, device)
    assert error is not None
    assert error == pytest.approx((1.0, 1.0), abs=1e-5)
    assert gain_error(device, device) == (0, 0)


def test_only_frames_with_an_audible_input_count() -> None:
    x = music()
    quiet = frame_levels(x, RATE) < -60
    assert 10 < np.count_nonzero(quiet) < 90
    y = np.where(np.repeat(quiet, 441), 7 * x, x)
    gain = gain_curve(x, y, RATE)
    assert np.array_equal(np.isnan(gain), quiet)
    assert gain_error(gain, gain_curve(x, x, RATE)) == (0, 0)
    assert gain_error(gain[quiet], gain[quiet]) is None
    assert gain_error(gain[:0], gain[:0]) is None


def test_the_tail_of_the_errors_is_their_95th_percentile() -> None:
    gain, device = np.zeros(100), np.zeros(100)
    gain[:10] = -8
    error = gain_error(gain, device)
    assert error is not None and error == pytest.approx((0.8, 8.0))


def test_a_gate_counts_as_minus_100_dB_and_not_as_infinitely_deep() -> None:
    x = 0.5 * np.ones((1, 4410))
    gain = gain_curve(x, 0 * x, RATE)
    assert gain == pytest.approx(-100 - 20 * np.log10(0.5))
    levels = frame_levels(x, RATE)
    assert np.array_equal(gain, gain_of_levels(levels, frame_levels(0 * x, RATE)))


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        gain_curve(np.zeros((1, 441)), np.zeros((2, 441)), RATE)
