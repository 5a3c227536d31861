"""Weighted energies, against the standard's table and filters in the time domain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from sptmod_dist.metrics import (
    a_weighted_energy,
    a_weighting,
    energy,
    loudness,
    loudness_difference,
    pre_emphasised_energy,
)

RATE = 48_000
TABLE = {
    31.5: -39.4, 63: -26.2, 125: -16.1, 250: -8.6, 500: -3.2, 1000: 0.0, 2000: 1.2, 4000: 1.0,
    8000: -1.1, 16_000: -6.6,
}
"""Nominal frequency and dB, of IEC 61672-1, table 3 (exactly 1000 * 10^(n/10))."""


def sine(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)[None]


@pytest.mark.parametrize("nominal", TABLE)
def test_a_weighting_is_that_of_the_standards_table(nominal: float) -> None:
    exact = 1000 * 10 ** (round(10 * math.log10(nominal / 1000)) / 10)
    decibels = 20 * math.log10(float(a_weighting(np.array(exact))))
    assert decibels == pytest.approx(TABLE[nominal], abs=0.06)


@pytest.mark.parametrize("hertz", [100, 1000, 10_000])
@pytest.mark.parametrize("samples", [48_000, 48_001])
def test_the_weighted_energy_of_a_tone_is_its_energy_times_the_weight(
    hertz: int, samples: int
) -> None:
    tone = np.concatenate([sine(hertz), np.zeros((1, samples - RATE))], axis=1)
    expected = energy(tone) * float(a_weighting(np.array(float(hertz)))) ** 2
    assert a_weighted_energy(tone, RATE) == pytest.approx(expected, rel=3e-3)
    assert a_weighted_energy(np.tile(tone, (2, 1)), RATE) == pytest.approx(2 * expected, rel=3e-3)


@pytest.mark.parametrize("samples", [997, 1000, 75])  # 75: an odd size of the transform too
def test_all_energy_is_counted_once(monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    noise = np.random.default_rng(0).normal(size=(2, samples))
    monkeypatch.setattr("sptmod_dist.metrics.weighting.a_weighting", np.ones_like)
    assert a_weighted_energy(noise, RATE) == pytest.approx(energy(noise))


def test_the_pre_emphasised_energy_is_that_of_the_filter() -> None:
    noise = np.random.default_rng(0).normal(size=(2, 1000))
    expected = energy(lfilter([1, -0.85], [1], noise, axis=1))
    assert pre_emphasised_energy(noise) == pytest.approx(expected)
    single = pre_emphasised_energy(noise.astype(np.float32))
    assert single == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_one_decibel_more_is_one_loudness_unit_more(channels: int) -> None:
    noise = 0.05 * np.random.default_rng(1).normal(size=(channels, 3 * RATE)).astype(np.float32)
    louder = loudness(10 ** (1 / 20) * noise, RATE)
    assert loudness_difference(louder, loudness(noise, RATE)) == pytest.approx(1, abs=1e-4)


def test_a_full_scale_tone_has_the_loudness_that_the_standard_says() -> None:
    assert loudness(sine(997, 3), RATE) == pytest.approx(-3.01, abs=0.05)


NO_LOUDNESS = {
    "silence": (np.zeros((1, RATE)), RATE),
    "too short": (sine(1000, 0.3), RATE),
    "below the gate": (1e-5 * sine(1000), RATE),
    "six channels": (np.repeat(sine(1000), 6, axis=0), RATE),
    "a rate without the shelf": (sine(100), 2000),
}


@pytest.mark.parametrize("what", NO_LOUDNESS)
def test_what_has_no_loudness_has_none(what: str) -> None:
    assert loudness(*NO_LOUDNESS[what]) is None
    assert loudness_difference(None, -20.0) is None
    assert loudness_difference(-20.0, None) is None
