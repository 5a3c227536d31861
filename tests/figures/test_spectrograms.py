"""Spectrograms: a sine is where and as loud as it is."""

from __future__ import annotations

import numpy as np
import pytest

from sptmod_dist.figures.spectrograms import band_levels


@pytest.mark.parametrize(("rate", "hertz"), [(44_100, 1000.0), (44_100, 130.0), (8000, 3000.0)])
def test_a_sine_stands_in_its_band_at_its_level(rate, hertz):
    seconds = np.arange(rate) / rate
    sine = 0.1 * np.sin(2 * np.pi * hertz * seconds)
    levels, edges = band_levels(np.stack([sine, sine]), rate)
    band = levels[:, levels.shape[1] // 2].argmax()
    assert edges[band] / 1.1 <= hertz <= edges[band + 1] * 1.1
    assert levels[band].mean() == pytest.approx(-20, abs=1.5), "a Hann window's scallop at most"
    far = np.abs(np.log2(edges[:-1] / hertz)) > 2
    assert levels[far].max() < -60


@pytest.mark.parametrize("samples", [1, 100, 368, 369, 5000])
def test_any_length_and_silence_are_drawn(samples):
    levels, edges = band_levels(np.zeros((1, samples)), 8000)
    assert np.isfinite(levels).all() and levels.max() < -150
    assert levels.shape[0] == len(edges) - 1
