"""The source has the published levels and lengths at any rate, and depends on its seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from sptmod_dist.data import stimulus

RATES = [44_100, 48_000, 22_050, 96_000]


@pytest.mark.parametrize("rate", RATES)
def test_the_tone_steps_are_40_levels_and_12_quiet_steps_to_the_sample(rate: int) -> None:
    steps = stimulus.tone_schedule(rate)
    loud = [step for step in steps if not step.quiet]
    assert [step.level_db for step in loud] == list(range(-39, 1))
    assert [step.quiet for step in steps] == ([False] * 10 + [True] * 3) * 4
    assert {step.level_db for step in steps if step.quiet} == {-40.0}
    times = np.cumsum([0.0] + [0.5 if step.quiet else 0.25 for step in steps])
    edges = [step.start for step in steps] + [steps[-1].stop]
    assert np.abs(np.array(edges) - times * rate).max() <= 0.5
    assert [step.stop for step in steps[:-1]] == [step.start for step in steps[1:]]
    assert len(stimulus.tone_steps(rate)) == 16 * rate


@pytest.mark.parametrize("rate", RATES)
def test_every_tone_step_has_its_level_within_a_twentieth_of_a_decibel(rate: int) -> None:
    tone = stimulus.tone_steps(rate).astype(np.float64)
    for step in stimulus.tone_schedule(rate):
        period = rate / 1000
        length = int(int((step.stop - step.start) / period) * period)  # whole periods
        power = np.mean(tone[step.start : step.start + length] ** 2)
        assert 10 * np.log10(2 * power) == pytest.approx(step.level_db, abs=0.05)


def test_the_tone_is_1000_hertz() -> None:
    spectrum = np.abs(np.fft.rfft(stimulus.tone_steps(44_100)[-22_050 * 4 : -22_050 * 3]))
    assert np.argmax(spectrum) * 2 == 1000


def test_excerpts_start_at_0_db_and_fall_to_minus_20() -> None:
    rate = 8_000
    clips = [np.full(100, 0.01), np.full(50_000, -0.2)]  # one that loops, one that is long
    made = stimulus.falling_excerpts(clips, rate, count=3).reshape(3, 4 * rate)
    np.testing.assert_allclose(np.abs(made[:, 0]), 1.0, atol=1e-6)
    np.testing.assert_allclose(20 * np.log10(np.abs(made[:, 2 * rate])), -10.0, atol=1e-3)
    np.testing.assert_allclose(20 * np.log10(np.abs(made[:, -1])), -20.0, atol=1e-2)


def test_a_clip_that_comes_round_again_goes_on_where_it_stopped() -> None:
    clip = np.arange(1, 9 * 100 + 1) / 1000
    made = stimulus.falling_excerpts([clip], 100, count=3).reshape(3, 400)
    envelope = 10 ** (-np.arange(400) / 400)
    np.testing.assert_allclose(made[1] / envelope, clip[400:800] / clip[799], rtol=1e-5)
    wrapped = np.concatenate([clip[800:], clip[:300]])
    np.testing.assert_allclose(made[2] / envelope, wrapped / wrapped.max(), rtol=1e-5)


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("sparse", [False, True])
def test_events_depend_on_their_seed_alone_and_stay_in_full_scale(rate: int, sparse: bool) -> None:
    made = stimulus.events(5.0, rate, seed=3, sparse=sparse)
    assert made.shape == (5 * rate,) and made.dtype == np.float32
    assert np.isfinite(made).all() and 0.1 < np.abs(made).max() <= 1.0
    np.testing.assert_array_equal(made, stimulus.events(5.0, rate, seed=3, sparse=sparse))
    assert not np.array_equal(made, stimulus.events(5.0, rate, seed=4, sparse=sparse))


def test_sparse_events_leave_low_noise_between_them_and_dense_ones_do_not() -> None:
    def quiet_share(signal: np.ndarray) -> float:
        peaks = np.abs(signal).reshape(-1, 441).max(axis=1)  # of 10 ms
        return float(np.mean((peaks > 1e-4) & (peaks <= 1.01e-3)))

    assert quiet_share(stimulus.events(20.0, 44_100, 0, sparse=True)) > 0.3
    assert quiet_share(stimulus.events(20.0, 44_100, 0)) < 0.15


def test_the_published_source_lasts_96_seconds() -> None:
    rate = 8_000
    source = stimulus.source_signal([np.sin(np.arange(40_000))], rate)
    assert len(source) == 96 * rate
    np.testing.assert_array_equal(source[: 16 * rate], stimulus.tone_steps(rate))
    assert np.abs(source).max() <= 1.0
    parts = [
        stimulus.tone_steps(rate),
        stimulus.falling_excerpts([np.sin(np.arange(40_000))], rate),
        stimulus.events(20.0, rate, 0),
        stimulus.events(20.0, rate, 0, sparse=True),
    ]
    for (_, first, last), part in zip(stimulus.SECTIONS, parts, strict=True):
        np.testing.assert_array_equal(source[first * rate : last * rate], part)


def test_silence_normalises_to_silence() -> None:
    assert not stimulus.normalise_peak(np.zeros(10)).any()
