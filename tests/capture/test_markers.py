"""A marker is found between samples whatever a compressor makes of it, and music is never one."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from scipy import signal

from sptmod_dist import audio
from sptmod_dist.capture import markers
from sptmod_dist.capture.markers import (
    Found,
    find_in_blocks,
    find_markers,
    layout,
    marker,
    surround,
)
from sptmod_dist.capture.music import find_music
from sptmod_dist.data.stimulus import SOURCE_SECONDS, falling_excerpts, source_signal

RATES = [8_000, 22_050, 44_100, 48_000, 96_000]
DELAYS = [0.0, 0.3, 1.0, 17.5, 480.0, 9_600.0]


def alone(rate: int) -> np.ndarray:
    """A marker with half a second of silence before it and after it."""
    silence = np.zeros(rate // 2, np.float32)
    return np.concatenate([silence, marker(rate), silence])


def delayed(wave: np.ndarray, delay: float) -> np.ndarray:
    """By a fraction of a sample too, exactly: by the phases of all frequencies."""
    length = len(wave) + int(delay) + 64
    frequencies = np.fft.rfftfreq(2 * length)
    spectrum = np.fft.rfft(wave.astype(np.float64), 2 * length)
    return np.fft.irfft(spectrum * np.exp(-2j * np.pi * frequencies * delay), 2 * length)[:length]


def compressed(wave: np.ndarray, rate: int, attack_ms: float = 1.0) -> np.ndarray:
    """By 20 dB at the level of a marker's peak, from a threshold far below it."""
    level = np.abs(wave)
    attack = 1 - np.exp(-1000 / (attack_ms * rate))
    release = np.exp(-1 / (0.2 * rate))
    follower = np.zeros_like(level)
    held = 0.0
    for number, value in enumerate(level):
        held = held + attack * (value - held) if value > held else held * release
        follower[number] = held
    reduction = np.clip(20 * np.log10(np.maximum(follower, 1e-9) / follower.max()) + 20, 0, 20)
    return wave * 10 ** (-reduction / 20)


def test_a_marker_is_peaks_of_minus_6_db_within_a_sixth_of_a_second() -> None:
    for rate in RATES:
        pattern = marker(rate)
        assert pattern.dtype == np.float32
        assert np.abs(pattern).max() == pytest.approx(0.5, abs=1e-6)
        assert 0.14 < len(pattern) / rate < 1 / 6
        assert len(signal.find_peaks(pattern, height=0.45)[0]) == 8


def test_no_two_distances_between_clicks_are_equal() -> None:
    distances = [b - a for a, b in combinations(markers.RULER, 2)]
    assert len(set(distances)) == len(distances)


@pytest.mark.parametrize("rate", RATES)
def test_clicks_are_flat_to_12_khz_or_three_tenths_of_the_rate(rate: int) -> None:
    click = marker(rate)[: round(0.0042 * rate)]
    response = 20 * np.log10(np.abs(np.fft.rfft(click, 4096)))
    frequencies = np.fft.rfftfreq(4096, 1 / rate)
    band = response[frequencies <= min(12_000.0, 0.3 * rate) * 0.95]
    assert np.ptp(band) < 0.5


@pytest.mark.parametrize("rate", RATES)
def test_a_marker_matches_itself_at_one_shift_alone(rate: int) -> None:
    pattern = marker(rate).astype(np.float64)
    match = np.abs(signal.correlate(pattern, pattern))
    middle = len(pattern) - 1
    aside = np.abs(np.arange(len(match)) - middle) > 0.002 * rate
    assert match[aside].max() < 0.2 * match[middle]


@pytest.mark.parametrize("rate", [44_100, 96_000])
@pytest.mark.parametrize("delay", DELAYS)
def test_a_compressed_noisy_inverted_marker_is_found_within_a_microsecond(
    rate: int, delay: float
) -> None:
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(delayed(alone(rate), delay)))
    device = -compressed(delayed(alone(rate), delay), rate) + noise + 0.003
    (found,) = find_markers(device.astype(np.float32), rate)
    assert found.position == pytest.approx(rate // 2 + delay, abs=0.05 * max(1, rate / 50_000))
    assert found.polarity == -1 and found.strength > 0.8


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("delay", DELAYS)
def test_a_clean_marker_is_found_within_a_hundredth_of_a_sample(rate: int, delay: float) -> None:
    (found,) = find_markers(delayed(alone(rate), delay).astype(np.float32), rate)
    assert found.position == pytest.approx(rate // 2 + delay, abs=0.01)
    assert found.polarity == 1 and found.strength > 0.75


def test_one_click_that_is_20_db_louder_than_the_others_does_not_hide_them() -> None:
    wave = alone(44_100)
    wave[44_100 // 2 + 60 :] *= 0.1
    (found,) = find_markers(wave, 44_100)
    assert found.strength > 0.95
    assert found.position == pytest.approx(44_100 // 2, abs=0.01)


def test_a_marker_under_hum_and_noise_is_found() -> None:
    wave = alone(44_100)
    hum = 0.1 * np.sin(2 * np.pi * 50 / 44_100 * np.arange(len(wave)))
    noise = 1e-3 * np.random.default_rng(0).standard_normal(len(wave))
    (found,) = find_markers((wave + hum + noise).astype(np.float32), 44_100)
    assert found.position == pytest.approx(44_100 // 2, abs=0.05)


def test_a_marker_through_a_dull_device_is_found_where_one_is_expected() -> None:
    b, a = signal.butter(2, 2_000, fs=44_100)
    dull = signal.lfilter(b, a, alone(44_100)).astype(np.float32)
    (found,) = find_markers(dull, 44_100, expected=1)
    assert 0 < found.position - 44_100 // 2 < 8  # the filter's own delay


@pytest.fixture(scope="module")
def content() -> np.ndarray:
    clips = [audio.read(file.path)[0][0] for file in find_music(None)]
    source = source_signal(clips, 44_100)
    return np.concatenate([source, *clips])


@pytest.mark.parametrize("squashed", [False, True])
def test_music_tones_and_events_are_no_markers(content: np.ndarray, squashed: bool) -> None:
    wave = np.tanh(30 * content).astype(np.float32) if squashed else content
    assert find_markers(wave, 44_100) == []
    assert find_markers(wave, 44_100, expected=2) == []


def test_noise_and_silence_and_nothing_are_no_markers() -> None:
    noise = np.random.default_rng(1).standard_normal(20 * 44_100).astype(np.float32)
    for wave in (noise, np.zeros(100_000, np.float32), np.zeros(0, np.float32)):
        assert find_markers(wave, 44_100, expected=2) == []


@pytest.mark.parametrize(
    "played, taken_for", [(44_100, 48_000), (48_000, 44_100), (96_000, 48_000)]
)
def test_a_marker_of_another_rate_is_none(played: int, taken_for: int) -> None:
    assert find_markers(alone(played), taken_for, expected=1) == []
    assert len(find_markers(alone(played), played)) == 1


def test_the_strongest_are_kept_where_a_number_is_expected() -> None:
    waves = [alone(44_100) for _ in range(3)]
    waves[1] += 0.05 * np.random.default_rng(2).standard_normal(len(waves[1])).astype(np.float32)
    wave = np.concatenate(waves)
    assert len(find_markers(wave, 44_100)) == 3
    kept = find_markers(wave, 44_100, expected=2)
    assert [found.position for found in kept] == pytest.approx(
        [22_050, 2 * len(waves[0]) + 22_050], abs=0.01
    )


@pytest.mark.parametrize("lost", [100, 2_000])
def test_a_marker_that_is_cut_at_an_edge_is_found_by_the_clicks_that_are_left(lost: int) -> None:
    wave = alone(44_100)[22_050:]
    (late,) = find_markers(wave[lost:], 44_100)
    assert late.position == pytest.approx(-lost, abs=0.05)
    (early,) = find_markers(alone(44_100)[: 22_050 + len(marker(44_100)) - lost], 44_100)
    assert early.position == pytest.approx(22_050, abs=0.05)


def same(left: list[Found], right: list[Found]) -> bool:
    return [found.position for found in left] == pytest.approx(
        [found.position for found in right], abs=1e-4
    ) and [found.polarity for found in left] == [found.polarity for found in right]


@pytest.mark.parametrize("size", [1_000, 44_100, 131_072, 131_073, 10_000_000])
def test_blocks_of_any_size_give_the_same_markers(size: int) -> None:
    wave = np.concatenate([alone(44_100)] * 9)
    whole = find_markers(wave, 44_100)
    assert len(whole) == 9
    blocks = (wave[start : start + size] for start in range(0, len(wave), size))
    assert same(find_in_blocks(blocks, 44_100), whole)


def test_a_marker_across_the_edge_of_a_block_is_found_once() -> None:
    for start in range(markers._BLOCK - 8_000, markers._BLOCK - 6_000, 80):
        wave = np.zeros(2 * markers._BLOCK, np.float32)
        wave[start : start + len(marker(44_100))] = marker(44_100)
        (found,) = find_markers(wave, 44_100)
        assert found.position == pytest.approx(start, abs=0.01)


def test_an_hour_is_searched_in_the_memory_of_seconds() -> None:
    def hour() -> Iterator[np.ndarray]:
        block = np.zeros(44_100, np.float32)
        for second in range(3_600):
            yield alone(44_100) if second in (7, 3_500) else block

    tracemalloc.start()
    found = find_in_blocks(hour(), 44_100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    apart = 3_493 * 44_100 + len(marker(44_100))
    assert found[1].position - found[0].position == pytest.approx(apart, abs=0.01)
    assert peak < 40e6


@pytest.mark.parametrize("rate", RATES)
def test_the_layout_is_as_it_is_stated_and_everything_stands_there(rate: int) -> None:
    draw = np.random.default_rng(3)
    content = draw.uniform(-1, 1, 2 * rate).astype(np.float32)
    passage = draw.uniform(-1, 1, rate).astype(np.float32)
    whole, plan = surround(content, rate, passage), layout(rate, 2 * rate)
    length = len(marker(rate))
    silences = [0.5, 1.0, 1.0, 0.5, 0.5, 1.0, 0.5]
    sounds = [marker(rate), content, passage, passage, passage, marker(rate)]
    pieces = [np.zeros(round(0.5 * rate), np.float32)]
    for silence, sound in zip(silences[1:], sounds, strict=True):
        pieces += [sound, np.zeros(round(silence * rate), np.float32)]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))
    assert plan.rate == rate and plan.total == len(whole)
    assert plan.start_marker == rate // 2
    assert plan.content_start == rate // 2 + length + rate
    np.testing.assert_array_equal(whole[plan.content_start : plan.content_stop], content)
    for start in plan.repeats:
        np.testing.assert_array_equal(whole[start : start + plan.repeat_length], passage)
    found = find_markers(whole, rate)
    assert [mark.position for mark in found] == pytest.approx(
        [plan.start_marker, plan.end_marker], abs=0.01
    )


def test_the_second_and_third_repeat_have_the_same_second_before_them() -> None:
    rate = 8_000
    passage = np.sin(np.arange(rate)).astype(np.float32)
    whole, plan = surround(np.ones(rate, np.float32), rate, passage), layout(rate, rate)
    first, second, third = (whole[start - rate : start] for start in plan.repeats)
    np.testing.assert_array_equal(second, third)
    assert not np.array_equal(first, second)


def test_a_passage_of_another_length_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="passage has 100 samples"):
        surround(np.zeros(8_000, np.float32), 8_000, np.zeros(100, np.float32))


def test_the_published_content_lies_between_the_markers() -> None:
    plan = layout(44_100, SOURCE_SECONDS * 44_100)
    clip = np.sin(np.arange(200_000) / 9).astype(np.float32)
    passage = falling_excerpts([clip], 44_100, 1)[:44_100]
    whole = surround(source_signal([clip], 44_100), 44_100, passage)
    assert [found.position for found in find_markers(whole, 44_100)] == pytest.approx(
        [plan.start_marker, plan.end_marker], abs=0.01
    )
