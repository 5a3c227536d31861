"""What is left beside a tone, of distortions whose spectrum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sptmod_dist.metrics import probe_tones, spurs, tone
from sptmod_dist.metrics.aliasing import TONE_DB

RATE = 44_100


def probe(hertz: int, rate: int = RATE) -> np.ndarray:
    return tone(hertz, rate, 1)[None].astype(np.float64)


@pytest.mark.parametrize("hertz", [997, 4999, 10_007])
def test_a_gain_leaves_nothing_but_rounding(hertz: int) -> None:
    x = probe(hertz)
    assert np.abs(x).max() == pytest.approx(10 ** (TONE_DB / 20), rel=1e-3)
    found = spurs(0.3 * x, hertz)
    assert found is not None
    assert found.aliasing_db < -130 and found.harmonics_db < -130


@pytest.mark.parametrize("depth_db", [-20.0, -60.0])
def test_a_gain_that_is_modulated_shows_its_two_images(depth_db: float) -> None:
    depth = 10 ** (depth_db / 20)
    shake = np.cos(2 * np.pi * 300 * np.arange(RATE) / RATE)
    found = spurs(probe(4999) * (1 + depth * shake), 4999)
    assert found is not None
    expected = 10 * math.log10(2 * (depth / 2) ** 2)
    assert found.aliasing_db == pytest.approx(expected, abs=0.01)
    assert found.harmonics_db < -130


def test_half_the_sample_rate_counts_once() -> None:
    audio = probe(997) + 0.001 * (-1.0) ** np.arange(RATE)
    found = spurs(audio, 997)
    expected = 10 * math.log10(2) + 20 * math.log10(0.001) - TONE_DB  # of a tone's A² / 2
    assert found is not None and found.aliasing_db == pytest.approx(expected, abs=0.01)


def coefficient(n: int, clip: float) -> float:
    """The n-th sine coefficient of sin(t) clipped at +-clip, by the integral over its quarter."""
    t = (np.arange(20_000) + 0.5) / 20_000 * math.pi / 2
    return float(np.mean(np.minimum(np.sin(t), clip) * np.sin(n * t))) * 2


def test_harmonics_that_fold_are_aliasing_and_those_that_do_not_are_none() -> None:
    """10007 Hz clipped: only odd harmonics, all of them above half the rate."""
    x = probe(10_007)
    peak = 10 ** (TONE_DB / 20)
    found = spurs(np.clip(x, -0.5 * peak, 0.5 * peak), 10_007)
    assert found is not None
    powers = [coefficient(n, 0.5) ** 2 for n in range(1, 400, 2)]
    expected = 10 * math.log10(sum(powers[1:]) / powers[0])
    assert found.aliasing_db == pytest.approx(expected, abs=0.05)
    assert found.harmonics_db < -130


def test_harmonics_below_half_the_rate_are_no_aliasing() -> None:
    x = probe(997) / 10 ** (TONE_DB / 20)
    cubed = spurs(x**3, 997)  # 3/4 of the tone, 1/4 of its third harmonic
    assert cubed is not None
    assert cubed.harmonics_db == pytest.approx(20 * math.log10(1 / 3), abs=0.01)
    assert cubed.aliasing_db < -120
    squared = spurs(x + x**2, 997)  # a mean is no aliasing either
    assert squared is not None and squared.aliasing_db < -120
    assert squared.harmonics_db == pytest.approx(20 * math.log10(1 / 2), abs=0.01)


@pytest.mark.parametrize("gain", [0.0, math.nan, math.inf])
def test_where_no_tone_is_left_there_is_nothing_to_compare(gain: float) -> None:
    with np.errstate(invalid="ignore"):
        assert spurs(gain * probe(997), 997) is None


@pytest.mark.parametrize("rate", [1000, 8000, 9970, 11_025, 44_100, 48_000, 96_000, 768_000])
def test_tones_are_primes_below_a_quarter_of_the_rate_that_do_not_divide_it(rate: int) -> None:
    tones = probe_tones(rate)
    assert tones and len(set(tones)) == len(tones)
    for hertz in tones:
        assert hertz <= rate / 4 and rate % hertz
        assert all(hertz % k for k in range(2, hertz))
    if rate >= 44_100:
        assert tones == [997, 4999, 10_007]
