"""Takes with a known truth are measured, and what spoils them is found and named."""

from __future__ import annotations

import numpy as np
import pytest
from quality.takes import (
    RATE,
    compress,
    compressed,
    content,
    delayed,
    dry_of,
    noisy,
    on_another_clock,
    stimulus,
    take,
)
from scipy import signal

from sptmod_dist.quality.judge import judge
from sptmod_dist.quality.take_check import TakeReport, check_take

DELAYS = [0, 0.3, 1, 17.5, 480, 9600]
both = pytest.mark.parametrize("marked", [True, False], ids=["markers", "no markers"])


def check(marked: bool, wet: np.ndarray, rate: int = RATE) -> TakeReport:
    return check_take(dry_of(marked, rate)[None], wet, rate)


def words(report: TakeReport, severity: str) -> str:
    return " ".join(finding.what for finding in report.of(severity))


@both
@pytest.mark.parametrize("delay", DELAYS)
def test_latency_polarity_and_offset_are_right_through_compression_and_noise(
    marked: bool, delay: float
) -> None:
    wet = np.float32(0.003) - take(marked, delay, rate=44_100)
    report = check(marked, wet, 44_100)
    assert report.method == ("markers" if marked else "correlation")
    assert report.latency == pytest.approx(delay, abs=0.02)  # 0.1 is asked for
    assert report.polarity == -1
    assert report.dc[0] == pytest.approx(0.003, abs=2e-4)
    assert report.verdict == "doubtful" and "polarity" in words(report, "doubt")
    low, high = report.gain_db or (0, 0)
    assert low < -20 and high < 3


@pytest.mark.parametrize("rate", [8_000, 48_000])
@both
def test_latency_is_found_at_other_rates(marked: bool, rate: int) -> None:
    wet = take(marked, 480.3, rate=rate)
    assert check(marked, wet, rate).latency == pytest.approx(480.3, abs=0.02)


@both
@pytest.mark.parametrize("early", [3, 4000])
def test_a_wet_that_was_cut_is_early(marked: bool, early: int) -> None:
    report = check(marked, take(marked, 0)[:, early:])
    assert report.latency == pytest.approx(-early, abs=0.05)
    assert "early" in words(report, "note")


@both
def test_an_offset_larger_than_the_signal_hides_no_delay(marked: bool) -> None:
    wet = take(marked, 100, level_db=-90) * np.float32(0.03) + np.float32(0.05)
    report = check(marked, wet)
    assert report.latency == pytest.approx(100, abs=0.1)
    assert report.dc[0] == pytest.approx(0.05, abs=1e-3)


def test_a_delay_of_seconds_is_found_by_the_markers_and_without() -> None:
    for marked in (True, False):
        wet = np.pad(take(marked, 0), ((0, 0), (7 * RATE, 0)))
        assert check(marked, wet).latency == pytest.approx(7 * RATE, abs=0.05)


@both
def test_files_that_are_exchanged_are_doubted(marked: bool) -> None:
    wet = take(marked, 100)[0]
    dry = np.pad(dry_of(marked), (0, len(wet) - len(dry_of(marked)))).astype(np.float32)
    report = check_take(wet[None], dry[None], RATE)
    assert "dry and wet were exchanged" in words(report, "doubt")
    assert report.latency == pytest.approx(-100, abs=0.2)


@both
@pytest.mark.parametrize("ppm", [20, -20])
def test_a_drift_is_reported_within_half_a_ppm_and_is_a_fault(marked: bool, ppm: int) -> None:
    wet = noisy(on_another_clock(delayed(compressed(marked), 100), ppm))[None]
    report = check(marked, wet)
    assert report.drift_ppm == pytest.approx(ppm, abs=0.5)  # 2 is asked for
    assert report.steps == ()
    assert report.verdict == "unfit" and "clock" in words(report, "fault")


@both
def test_a_common_clock_has_no_drift(marked: bool) -> None:
    report = check(marked, take(marked))
    assert abs(report.drift_ppm) < 0.05
    assert report.verdict == "sound"


@both
@pytest.mark.parametrize("lost", [1, 513, 20_000, -128])
def test_lost_and_doubled_samples_are_counted_and_placed(marked: bool, lost: int) -> None:
    wet = take(marked, 100)
    place = 10 * RATE
    if lost > 0:
        wet = np.delete(wet, slice(place, place + lost), axis=1)
    else:
        wet = np.insert(wet, [place] * -lost, wet[:, place + lost : place], axis=1)
    report = check(marked, wet)
    assert [step.samples for step in report.steps] == [-lost]
    middle = place + max(lost, 0) / 2  # nothing fits in what was lost
    assert report.steps[0].seconds == pytest.approx(
        (middle - 100) / RATE, abs=0.5 + abs(lost) / 2 / RATE
    )
    assert report.latency == pytest.approx(100, abs=0.1)
    assert report.verdict == "unfit" and "samples" in words(report, "fault")


def test_samples_lost_in_a_steady_tone_are_found_between_the_markers() -> None:
    wet = take(True, 100)
    place = 4 * RATE
    report = check(True, np.delete(wet, slice(place, place + 512), axis=1))
    assert [step.samples for step in report.steps] == [-512]


@both
@pytest.mark.parametrize("cutoff", [300, 3000])
@pytest.mark.parametrize("kind", ["lowpass", "highpass"])
def test_filters_lose_no_samples_and_have_no_drift(marked: bool, cutoff: int, kind: str) -> None:
    b, a = signal.butter(1, cutoff, kind, fs=RATE)
    wet = signal.lfilter(b, a, compressed(marked)).astype(np.float32)
    report = check(marked, wet[None])
    assert report.steps == ()
    assert "clock" not in words(report, "fault") + words(report, "doubt")


@both
@pytest.mark.parametrize("seconds, hold", [(9.3, False), (12.1, False), (12.1, True)])
def test_a_dropout_of_5_ms_is_found(marked: bool, seconds: float, hold: bool) -> None:
    wet = take(marked, 480)
    place = round(seconds * RATE)
    wet[:, place : place + RATE // 200] = wet[:, place - 1] * hold
    report = check(marked, wet)
    assert report.dropouts == pytest.approx([(place - 480) / RATE], abs=0.002)
    assert "drops out" in words(report, "doubt")


@pytest.mark.parametrize(("count", "severity"), [(1, "doubt"), (10, "doubt"), (11, "fault")])
def test_more_than_a_dropout_a_second_is_a_fault(count: int, severity: str) -> None:
    report = TakeReport("take", RATE, dropouts=tuple(0.5 * n for n in range(count)))
    (found,) = judge(report, 10 * RATE, 0.5)
    assert found.severity == severity and "drops out at 0.000 s" in found.what
    assert ("more places" in found.what) == (count > 3)


def gate(audio: np.ndarray, threshold: float, seconds: float) -> np.ndarray:
    """Shut below the threshold, with a time constant both ways."""
    level = signal.lfilter([1e-3], [1, -0.999], np.square(audio, dtype=np.float64))
    pole = np.exp(-1 / (seconds * RATE))
    gain = signal.lfilter([1 - pole], [1, -pole], np.sqrt(level) > threshold)
    return (audio * np.where(gain > 1e-3, gain, 0.0)).astype(np.float32)


@both
@pytest.mark.parametrize("threshold", [0.01, 0.05])
@pytest.mark.parametrize("seconds", [1e-4, 0.002, 0.02])
def test_no_dropout_is_found_in_a_gate(marked: bool, threshold: float, seconds: float) -> None:
    assert check(marked, gate(dry_of(marked), threshold, seconds)[None]).dropouts == ()


@both
def test_no_dropout_is_found_in_a_fast_limiter_or_in_distortion(marked: bool) -> None:
    dry = dry_of(marked)
    for wet in (compress(dry, threshold=0.003), np.tanh(20 * dry), np.clip(9 * dry, -0.5, 0.5)):
        assert check(marked, wet.astype(np.float32)[None]).dropouts == ()


def test_the_best_esr_is_that_of_the_noise() -> None:
    quiet = delayed(compressed(True), 17.5)
    for level_db in (-60.0, -40.0):
        report = check(True, noisy(quiet, level_db)[None])
        start, stop = report.content or (0, 0)
        noise = 10 ** (level_db / 10)
        truth = noise / (noise + np.mean(np.square(quiet[start:stop])))
        assert report.noise_from == "repeats"
        assert report.best_esr == pytest.approx(truth, rel=0.2)
        assert report.noise_db == pytest.approx(level_db, abs=0.3)


def test_without_noise_any_esr_can_be_reached() -> None:
    report = check(True, compressed(True).astype(np.float32)[None])
    assert report.best_esr is not None and report.best_esr < 1e-9


def test_a_device_that_moves_by_itself_is_doubted() -> None:
    wet = compressed(True) * (
        1 + 0.3 * np.sin(2 * np.pi * np.arange(len(stimulus())) / RATE)
    )
    report = check(True, wet.astype(np.float32)[None])
    assert report.best_esr is not None and report.best_esr > 0.01
    assert "Repeats differ" in words(report, "doubt")


def test_drift_is_no_noise() -> None:
    quiet = on_another_clock(delayed(compressed(True), 10), 20)
    report = check(True, noisy(quiet)[None])
    still = check(True, take(True, 10))
    assert report.best_esr == pytest.approx(still.best_esr, rel=0.2)


def test_noise_is_told_from_any_stretch_that_is_played_twice() -> None:
    loop = content()[6 * RATE : 9 * RATE]
    dry = np.concatenate([content(), loop, loop])
    report = check_take(dry[None], noisy(compress(dry))[None], RATE)
    assert report.noise_from == "repeats"
    power = np.mean(np.square(compress(dry)))
    assert report.best_esr == pytest.approx(1e-6 / power, rel=0.2)


@both
@pytest.mark.parametrize(
    "up, down, told", [(160, 147, "24000 Hz"), (147, 160, "20258 Hz"), (2, 1, "44100 Hz")]
)
def test_a_wrong_rate_is_named(marked: bool, up: int, down: int, told: str) -> None:
    wet = noisy(signal.resample_poly(compressed(marked), up, down))[None]
    report = check(marked, wet)
    assert report.verdict == "unfit" and report.method == "none"
    assert f"recorded at {told}" in words(report, "fault")


def test_stated_rates_that_differ_are_a_fault() -> None:
    report = check_take(content()[None], take(False), RATE, 48_000)
    assert "22050 Hz and the wet 48000 Hz" in words(report, "fault")


@both
def test_a_wet_of_another_sound_is_refused(marked: bool) -> None:
    other = compress(content(RATE, 1)).astype(np.float32)[None]
    noise = noisy(np.zeros(20 * RATE), -20)[None]
    for wet in (other, noise):
        assert "does not follow" in words(check(marked, wet), "fault")


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda wet: wet * 0, "wet is silent"),
        (lambda wet: wet * 0 + 0.1, "wet is silent"),
        (lambda wet: wet[:, :1000], "wet lasts 0.05 s"),
        (lambda wet: np.where(np.arange(wet.shape[1]) == RATE, np.nan, wet), "sample at 1.000 s"),
        (lambda wet: np.clip(40 * wet, -1, 1), "wet is clipped, first at"),
        (lambda wet: wet[:, : 10 * RATE], "ends 11."),
    ],
)
def test_what_makes_training_pointless_is_a_fault(spoil, told) -> None:
    report = check(True, spoil(take(True)).astype(np.float32))
    assert report.verdict == "unfit"
    assert told in words(report, "fault")
    assert all(finding.remedy for finding in report.findings)


def test_a_clipped_dry_is_a_fault() -> None:
    dry = np.clip(2 * content(), -1, 1)
    report = check_take(dry[None], noisy(compress(dry))[None], RATE)
    assert "dry itself is clipped" in words(report, "fault")


def test_a_lost_marker_is_doubted_and_the_other_counts() -> None:
    wet = take(True, 480)[:, : -2 * RATE]
    report = check(True, wet)
    assert report.method == "markers"
    assert report.latency == pytest.approx(480, abs=0.05)
    assert "end marker was not found" in words(report, "doubt")


def test_a_bypassed_device_is_doubted_and_a_steady_gain_noted() -> None:
    assert "does nothing" in words(check(True, stimulus()[None]), "doubt")
    report = check(True, np.float32(0.5) * stimulus()[None])
    assert "stays at -6.0 dB" in words(report, "note") and report.verdict == "sound"


def test_a_very_quiet_wet_is_doubted() -> None:
    report = check(True, 1e-3 * compressed(True).astype(np.float32)[None])
    assert "very quiet" in words(report, "doubt")


def test_a_report_becomes_json() -> None:
    import json

    entry = json.loads(json.dumps(check(True, take(True)).to_dict()))
    assert entry["verdict"] == "sound" and entry["latency"] == pytest.approx(17.5, abs=0.02)
