"""Attack and release are those of devices whose timing is known."""

from __future__ import annotations

import numpy as np
import pytest
from metrics.compressors import compressed
from scipy.signal import butter, sosfilt

from sptmod_dist.data.stimulus import events, tone_schedule, tone_steps
from sptmod_dist.metrics import TimingError, answers, find_tone_steps, timing_error

RATE = 44_100
UP, DOWN = (4.0, 8.0, 12.0), (2.5, 6.5, 10.5, 14.5)
"""Seconds at which the published tone steps change by 10 dB and more."""


def errors(rate: int, x: np.ndarray, device: np.ndarray, model: np.ndarray) -> TimingError:
    steps = find_tone_steps(x, rate)
    return timing_error(steps, answers(steps, x, device, rate), answers(steps, x, model, rate))


@pytest.mark.parametrize("rate", [8000, 44_100, 96_000])
def test_the_large_steps_of_the_stimulus_are_found_to_the_millisecond(rate: int) -> None:
    steps = find_tone_steps(tone_steps(rate)[None], rate)
    assert [step.place / rate for step in steps] == pytest.approx(sorted(UP + DOWN), abs=0.0005)
    changes = [step.change_db for step in steps]
    assert changes == pytest.approx([-10, 11, -20, 21, -30, 31, -40], abs=0.1)
    by_place = {schedule.start: schedule for schedule in tone_schedule(rate)}
    for step in steps:  # a part of a frame may be missing of what is steady before the next step
        start = min(by_place, key=lambda place: abs(place - step.place))
        length = 1.5 * rate if step.change_db < 0 else 0.25 * rate
        assert abs(step.stop - start - length) <= 0.011 * rate


@pytest.mark.parametrize("hertz", [200.0, 440.0, 997.0, 3000.0])
def test_steps_of_any_tone_are_found_and_its_window_holds_whole_periods(hertz: float) -> None:
    time = np.arange(RATE) / RATE
    x = np.where(time < 0.4, 0.02, 0.5) * np.sin(2 * np.pi * hertz * time)
    (step,) = find_tone_steps(np.stack([x, 0.1 * x]), RATE)
    assert step.place / RATE == pytest.approx(0.4, abs=0.5 / hertz)
    periods = step.window * hertz / RATE
    assert periods == pytest.approx(round(periods), abs=0.5 * hertz / RATE + 1e-9)


def fade(seconds: float) -> np.ndarray:
    """The same step within so many seconds, in one frame of 10 ms if it can be."""
    time = np.arange(RATE) / RATE
    ramp = np.interp(time, [0.4004, 0.4004 + seconds], [0.02, 0.5])
    return ramp * np.sin(2 * np.pi * 1000 * time)


@pytest.mark.parametrize("seconds, found", [(0.003, 1), (0.009, 0), (0.03, 0)])
def test_a_fade_is_no_step(seconds: float, found: int) -> None:
    assert len(find_tone_steps(fade(seconds)[None], RATE)) == found


TIME = np.arange(RATE) / RATE
TONE = np.sin(2 * np.pi * 1000 * TIME)
NOISE = np.random.default_rng(0).normal(size=RATE)
NO_STEPS = {
    "silence": 0 * TIME,
    "a steady tone": TONE,
    "a small step": np.where(TIME < 0.4, 0.3, 0.5) * TONE,
    "an inaudible tone": 1e-5 * np.where(TIME < 0.4, 0.02, 0.5) * TONE,
    "a chord that steps": np.where(TIME < 0.4, 0.02, 0.5) * (TONE + np.sin(3400 * np.pi * TIME)),
    "noise that steps": np.where(TIME < 0.4, 0.02, 0.5) * NOISE,
    "a click": np.where(abs(TIME - 0.4) < 0.01, 0.5, 0.02) * TONE,
    "a step too near the start": np.where(TIME < 0.05, 0.02, 0.5) * TONE,
    "events": events(1, RATE, seed=1),
    "two samples": np.array([0.5, -0.5]),
}


@pytest.mark.parametrize("what", NO_STEPS)
def test_no_step_is_seen_where_there_is_none(what: str) -> None:
    assert find_tone_steps(NO_STEPS[what][None], RATE) == []


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_the_time_constants_of_a_one_pole_are_read_off_its_gain(rate: int) -> None:
    x, y = compressed(rate, attack=0.010, release=0.080)
    steps = find_tone_steps(x, rate)
    for step, answer in zip(steps, answers(steps, x, y, rate), strict=True):
        if abs(answer.move_db) > 0.5:
            expected = 0.010 if step.change_db > 0 else 0.080
            assert answer.seconds == pytest.approx(expected, abs=0.0005)


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_a_gain_that_comes_5_ms_later_has_timing_errors_of_5_ms(rate: int) -> None:
    x, device = compressed(rate)
    late = errors(rate, x, device, compressed(rate, delay=0.005)[1])
    assert late.attack_ms == pytest.approx(5, abs=0.2)
    assert late.release_ms == pytest.approx(5, abs=0.2)
    assert errors(rate, x, compressed(rate, delay=0.005)[1], device) == pytest.approx(late)


def test_an_attack_that_is_slower_leaves_the_release_as_it_was() -> None:
    x, device = compressed(RATE)
    slow = errors(RATE, x, device, compressed(RATE, attack=0.016)[1])
    assert slow.attack_ms == pytest.approx(6, abs=0.5)
    assert slow.release_ms == pytest.approx(0, abs=0.1)


def test_another_depth_is_no_error_of_timing() -> None:
    x, device = compressed(RATE)
    gain = device / np.where(x == 0, 1, x)
    shallow = x * np.sqrt(np.abs(gain))
    assert errors(RATE, x, device, shallow) == pytest.approx((0, 0, 0), abs=0.2)


def test_the_device_itself_has_no_timing_errors() -> None:
    x, device = compressed(RATE)
    assert errors(RATE, x, device, device) == (0, 0, 0)


def test_without_a_gain_that_moves_there_is_no_timing() -> None:
    x, device = compressed(RATE)
    assert errors(RATE, x, device, 0.5 * x) == (None, None, 1)
    assert errors(RATE, x, 0.5 * x, device) == (None, None, None)
    gain = np.divide(device, x, out=np.ones_like(x), where=x != 0)
    assert errors(RATE, x, x * gain**0.04, device) == (None, None, None)  # 0.9 dB at most
    assert errors(RATE, x, device, 0 * x) == (None, None, 1)
    assert errors(RATE, x, device, x / gain) == (None, None, 1)  # an expander


@pytest.mark.parametrize("depth_db", [0.5, 3.0, 30.0])
def test_a_gain_that_ripples_is_timed_by_where_it_settles(depth_db: float) -> None:
    x, device = compressed(RATE)
    ripple = 10 ** (depth_db / 20 * np.sin(2 * np.pi * 37 * np.arange(x.shape[1]) / RATE))
    found = errors(RATE, x, device, ripple * device)  # no figure of 30 dB is meaningful
    if depth_db < 1:
        assert found.attack_ms is not None and found.release_ms is not None
        assert found.attack_ms < 3 and found.release_ms < 10


def test_steps_are_counted_one_by_one() -> None:
    x, device = compressed(RATE)
    lame = np.where(np.arange(x.shape[1]) < 9 * RATE, device, 0.5 * x)
    found = errors(RATE, x, device, lame)
    moved = [a.move_db for a in answers(find_tone_steps(x, RATE), x, device, RATE)]
    places = [step.place for step in find_tone_steps(x, RATE)]
    late = [p > 9 * RATE for p, m in zip(places, moved, strict=True) if abs(m) >= 1]
    assert found.missed == pytest.approx(sum(late) / len(late)) and 0 < found.missed < 1
    assert found.attack_ms == pytest.approx(0, abs=0.01)


def test_steps_of_a_sidechain_time_the_gain_of_whatever_it_steers() -> None:
    key, keyed = compressed(RATE)
    gain = np.divide(keyed, key, out=np.ones_like(key), where=key != 0)
    late = np.roll(gain, round(0.005 * RATE), axis=1)
    steps = find_tone_steps(key, RATE)
    noise = np.random.default_rng(3).uniform(-0.5, 0.5, key.shape)
    device, model = (answers(steps, noise, g * noise, RATE) for g in (gain, late))
    assert timing_error(steps, device, model) == pytest.approx((5, 5, 0), abs=0.3)
    pauses = np.where(np.arange(key.shape[1]) % RATE < RATE // 2, noise, 0)  # none is a mistake
    found = timing_error(steps, *(answers(steps, pauses, g * pauses, RATE) for g in (gain, late)))
    assert found.attack_ms is None or found.attack_ms == pytest.approx(5, abs=0.3)


def test_a_gain_that_first_goes_the_other_way_is_timed_from_the_step() -> None:
    x, device = compressed(RATE)
    late = compressed(RATE, delay=0.005)[1]
    shifted = np.concatenate([np.zeros((1, 220)), late], axis=1)[:, : x.shape[1]]
    found = errors(RATE, x, device, shifted)  # the audio is late too: its gain starts with a dip
    assert found.attack_ms is not None and found.attack_ms < 10


@pytest.mark.parametrize("how", ["late by 1", "late by 3", "late by 5", "high-pass at 30 Hz"])
def test_a_device_that_is_late_or_filters_is_timed_as_one_that_does_not(how: str) -> None:
    """What is left of the loud tone after a step down is a moment of gain, and no release."""
    x, plain = compressed(RATE)
    if how.startswith("late"):
        device = np.roll(plain, int(how.split()[-1]), axis=1)
    else:
        device = sosfilt(butter(2, 30, "highpass", fs=RATE, output="sos"), plain)
    found = errors(RATE, x, device, plain)
    assert found.attack_ms is not None and found.release_ms is not None
    assert found.attack_ms < 1.2 and found.release_ms < 1.2
