"""Takes whose windows say little or wander: steady tones, and filters that delay by frequency."""

from __future__ import annotations

import numpy as np
import pytest
from quality.takes import (
    RATE,
    compress,
    compressed,
    delayed,
    dry_of,
    noisy,
    on_another_clock,
    take,
    tones,
)
from scipy import signal

from sptmod_dist import audio
from sptmod_dist.capture.music import find_music
from sptmod_dist.quality.agreement import Course, believed
from sptmod_dist.quality.take_check import TakeReport, check_take

CLIPS = {file.path.stem: file.path for file in find_music(None)}
PAIR = Course(0.0, ((6.0 * RATE, 300), (13.0 * RATE, -300)))


def check(dry: np.ndarray, wet: np.ndarray, rate: int = RATE) -> TakeReport:
    return check_take(dry[None], np.asarray(wet, np.float32)[None], rate)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("partials", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_steady_tones_without_markers_are_doubted_and_their_delay_is_found(
    seed: int, partials: int, sign: int
) -> None:
    dry = tones(seed, partials)
    report = check(dry, sign * noisy(delayed(compress(dry), 17.5)))
    assert report.verdict == "doubtful" and report.method == "whole"
    assert report.latency == pytest.approx(17.5, abs=0.5) and report.polarity == sign
    assert "Hardly a moment" in report.of("doubt")[0].what
    assert "sptmod-dist stimulus" in report.of("doubt")[0].remedy


def test_a_stray_window_or_two_refuse_no_piano() -> None:
    whole, rate = audio.read(CLIPS["ambi_piano"])
    dry = np.tile(whole[0], 2)[: 12 * rate]
    report = check(dry, noisy(delayed(compress(dry, rate), 17.5), -70), rate)
    assert report.verdict == "doubtful" and report.latency == pytest.approx(17.5, abs=3)


@pytest.mark.parametrize("partials", [1, 2])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_other_tones_are_still_refused(seed: int, partials: int) -> None:
    report = check(tones(seed, partials), noisy(delayed(compress(tones(seed + 3, partials)), 17.5)))
    assert report.verdict == "unfit"
    assert "does not follow" in report.of("fault")[0].what


@pytest.mark.parametrize("clip", ["ambi_lunar_land", "bass_voxy_c", "guit_e_slide", "loop_mika"])
@pytest.mark.parametrize("hertz", [300, 800, 1500])
@pytest.mark.parametrize("kind", ["peak", "bandpass", "highpass"])
def test_resonant_filters_of_music_lose_no_samples_and_have_no_drift(
    clip: str, hertz: int, kind: str
) -> None:
    whole, rate = audio.read(CLIPS[clip])
    band = (hertz / 1.2, hertz * 1.2) if kind == "bandpass" else hertz
    peak = kind == "peak"
    made = signal.iirpeak(hertz, 8, rate) if peak else signal.butter(2, band, kind, fs=rate)
    report = check(whole[0], signal.lfilter(*made, whole[0]), rate)
    assert report.steps == ()
    assert abs(report.drift_ppm * 1e-6 * whole.shape[1]) < 1


@pytest.mark.parametrize("marked", [True, False])
def test_steps_that_cancel_are_left_out_where_nothing_was_lost(marked: bool) -> None:
    dry, wet = dry_of(marked), take(marked, 100)[0]
    assert believed(dry, wet, RATE, 100, PAIR, marked) == Course(0.0, ())


def test_steps_that_cancel_are_told_where_samples_were_lost_and_doubled() -> None:
    wet = take(False, 100)[0]
    wet = np.delete(wet, slice(13 * RATE, 13 * RATE + 300))
    wet = np.insert(wet, 6 * RATE, wet[6 * RATE - 300 : 6 * RATE])
    assert [step.samples for step in check(dry_of(False), wet).steps] == [300, -300]


@pytest.mark.parametrize("marked, false", [(False, 1), (False, 2), (True, 2)])
def test_the_step_that_is_there_is_kept_and_the_others_are_not(marked: bool, false: int) -> None:
    wet = np.delete(take(marked, 100)[0], slice(14 * RATE, 14 * RATE + 200))
    true = (14.0 * RATE - 100, -200)
    course = Course(0.0, (*PAIR.steps[:false], true))
    assert believed(dry_of(marked), wet, RATE, 100, course, marked) == Course(0.0, (true,))


def test_what_markers_tell_is_not_left_out() -> None:
    step = Course(0.0, ((10.0 * RATE, 300),))
    dry, wet = dry_of(True), take(True, 100)[0]
    assert believed(dry, wet, RATE, 100, step, True) == step
    assert believed(dry, wet, RATE, 100, step) == Course(0.0, ())


def test_a_drift_through_a_filter_is_told() -> None:
    b, a = signal.butter(2, 1500, fs=RATE)
    late = signal.lfilter(b, a, delayed(compressed(False), 100))
    report = check(dry_of(False), noisy(on_another_clock(late, 20)))
    assert report.drift_ppm == pytest.approx(20, abs=3) and report.verdict == "unfit"


@pytest.mark.parametrize(("clip", "lost", "times"), [
    ("loop_mika", 8, 4), ("loop_mika", 1, 20), ("loop_mika", 64, 20), ("ambi_lunar_land", 8, 4),
    ("ambi_lunar_land", 64, 4), ("ambi_lunar_land", 64, 20), ("bass_voxy_c", 8, 4),
])  # fmt: skip
def test_a_take_that_lost_samples_many_times_is_never_sound(
    clip: str, lost: int, times: int
) -> None:
    """Also where the windows are too few to tell each loss."""
    whole, rate = audio.read(CLIPS[clip])
    dry = whole[0]
    places = np.linspace(0.5, len(dry) / rate - 0.5, times) * rate
    gone = np.concatenate([np.arange(lost) + int(place) for place in places])
    late = noisy(delayed(compress(dry, rate), 17.5), -70)
    assert check(dry, np.delete(late, gone), rate).verdict == "unfit"
