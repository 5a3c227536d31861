"""Recordings that people bring back are found by name or by markers; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sptmod_dist import audio
from sptmod_dist.capture.long_recording import LongRecording, _starts
from sptmod_dist.capture.markers import Found, layout, surround
from sptmod_dist.capture.plan import Take
from sptmod_dist.capture.recorded import RecordedFiles
from sptmod_dist.errors import UserError

RATE = 16_000
CONTENT = 2 * RATE
LAYOUT = layout(RATE, CONTENT)


def takes(count: int) -> list[Take]:
    return [Take(number, f"item-{number - 1:03}", 0, {}) for number in range(1, count + 1)]


def stimulus(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    noise = 0.2 * generator.standard_normal(CONTENT + RATE)
    return surround(noise[:CONTENT].astype(np.float32), RATE, noise[CONTENT:].astype(np.float32))


def put(folder: Path, *names: str) -> None:
    for name in names:
        audio.write(folder / name, np.full((1, 100), 0.1, np.float32), RATE)


def found(folder: Path, count: int) -> list[str]:
    device = RecordedFiles(folder, takes(count))
    return [device._files[take.id].name for take in takes(count)]


@pytest.mark.parametrize(
    "names",
    [
        ["item-000.wav", "item-001.wav"],
        ["01 item-000 threshold -20.wav", "00 item-001 ratio 4.wav"],  # the id, no other number
        ["take 1.wav", "take 2.wav"],
        ["001.flac", "2.WAV"],
        ["ITEM-000.wav", "take-2.wav"],
    ],
)
def test_files_are_found_by_id_or_number(tmp_path: Path, names: list[str]) -> None:
    put(tmp_path, *names)
    assert found(tmp_path, 2) == names


def test_a_number_inside_another_is_not_taken_for_it(tmp_path: Path) -> None:
    put(tmp_path, "item-0001.wav", "item 1.wav", "take 12.wav", "take 1.wav", "1 of 2.wav")
    device = RecordedFiles(tmp_path, takes(3))
    assert {name: file.name for name, file in device._files.items()} == {"item-000": "take 1.wav"}
    assert [take.id for take in device.missing] == ["item-001", "item-002"]


def test_two_files_for_a_take_are_both_named(tmp_path: Path) -> None:
    put(tmp_path, "item-000.wav", "item-000 again.wav")
    with pytest.raises(UserError, match=r"item-000 again.wav, item-000.wav; keep one"):
        RecordedFiles(tmp_path, takes(1))


def test_a_folder_without_any_take_says_how_to_name_them(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("1")
    with pytest.raises(UserError, match=r"name them like item-000.wav"):
        RecordedFiles(tmp_path, takes(1))


def test_a_file_that_is_no_audio_is_refused_before_the_first_take(tmp_path: Path) -> None:
    (tmp_path / "item-000.wav").write_text("no audio")
    with pytest.raises(UserError, match=r"item-000.wav cannot be read"):
        RecordedFiles(tmp_path, takes(1)).check(takes(1))


def test_a_file_that_is_replaced_has_another_fingerprint(tmp_path: Path) -> None:
    put(tmp_path, "item-000.wav")
    before = RecordedFiles(tmp_path, takes(1)).fingerprint(takes(1)[0])
    audio.write(tmp_path / "item-000.wav", np.full((1, 99), 0.1, np.float32), RATE)
    assert RecordedFiles(tmp_path, takes(1)).fingerprint(takes(1)[0]) != before


def long_file(path: Path, parts: list[np.ndarray], rests: list[float], gain: float = 0.3) -> None:
    """Parts with so many seconds of silence before each, some noise over all, and two channels."""
    pieces = []
    for rest, part in zip(rests, parts, strict=True):
        pieces += [np.zeros(round(rest * RATE)), part]
    whole = gain * np.concatenate([*pieces, np.zeros(RATE)])
    noise = 1e-4 * np.random.default_rng(9).standard_normal((2, len(whole)))
    noise[1] += whole
    audio.write(path, noise.astype(np.float32), RATE)


def test_a_long_recording_is_split_where_each_take_begins(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    rests = [1.234567, 0.2, 3.1, 0.0]
    long_file(path, [stimulus(seed) for seed in range(4)], rests)
    device = LongRecording(path, takes(4), LAYOUT)
    for seed, take in enumerate(takes(4)):
        wet = device.process(stimulus(seed)[None], RATE, take)
        assert wet.rate == RATE and wet.audio.shape[0] == 2
        length = LAYOUT.total - RATE // 2
        error = wet.audio[1, :length] - 0.3 * stimulus(seed)[:length]
        assert np.abs(error).max() < 1e-3  # aligned to the sample already


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.75])
def test_takes_of_one_pass_are_all_cut_at_one_fraction_of_a_sample(fraction: float) -> None:
    """None falls on the other side of a half, though each marker is found some hundredths off."""
    distance = LAYOUT.end_marker - LAYOUT.start_marker
    off = np.array([0.03, -0.03, 0.02, -0.02])
    places = 1000 + 2 * distance * np.arange(4) + fraction + off
    markers = [Found(float(p) + d, 0.9, 1) for p in places for d in (0, distance)]
    cut = _starts(markers, takes(4), LAYOUT, Path("long.wav"))
    assert np.ptp(places - cut) < 0.1
    assert np.abs(places - cut).max() < 0.6


def test_a_recording_that_starts_and_ends_close_to_the_markers_is_padded(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    whole = 0.3 * stimulus()
    cut = whole[LAYOUT.start_marker - 100 : LAYOUT.end_marker + RATE // 4]
    audio.write(path, cut[None], RATE)
    wet = LongRecording(path, takes(1), LAYOUT).process(stimulus()[None], RATE, takes(1)[0])
    assert wet.audio.shape == (1, LAYOUT.total + RATE // 4)
    assert np.abs(wet.audio[0, : LAYOUT.end_marker] - whole[: LAYOUT.end_marker]).max() < 1e-3


@pytest.mark.parametrize("which", [0, 1])
def test_the_take_that_lacks_a_marker_is_named(tmp_path: Path, which: int) -> None:
    parts = [stimulus(seed) for seed in range(3)]
    at = (LAYOUT.start_marker, LAYOUT.end_marker)[which]
    parts[1][at - 100 : at + RATE // 4] = 0
    long_file(tmp_path / "long.wav", parts, [1.0, 2.0, 2.0])
    with pytest.raises(UserError) as caught:
        LongRecording(tmp_path / "long.wav", takes(3), LAYOUT)
    assert "2 whole takes between two markers, of 3" in str(caught.value)
    assert "take 2 (item-001) lacks a marker near 0:00:" in str(caught.value)
    assert "item-000" not in str(caught.value) and "item-002" not in str(caught.value)


def test_a_take_that_was_not_played_leaves_the_widest_gap(tmp_path: Path) -> None:
    parts = [stimulus(0), np.zeros(LAYOUT.total), stimulus(2), stimulus(3)]
    long_file(tmp_path / "long.wav", parts, [1.0] * 4)
    with pytest.raises(UserError, match=r"one seems to be missing after 0:00:01"):
        LongRecording(tmp_path / "long.wav", takes(4), LAYOUT)


def test_more_takes_than_planned_are_refused(tmp_path: Path) -> None:
    long_file(tmp_path / "long.wav", [stimulus(0)] * 3, [1.0] * 3)
    with pytest.raises(UserError, match=r"3 whole takes between two markers, of 2 in the plan"):
        LongRecording(tmp_path / "long.wav", takes(2), LAYOUT)


def test_a_recording_without_markers_is_refused(tmp_path: Path) -> None:
    long_file(tmp_path / "long.wav", [stimulus()[LAYOUT.content_start :][:RATE]], [1.0])
    with pytest.raises(UserError, match=r"0 whole takes"):
        LongRecording(tmp_path / "long.wav", takes(1), LAYOUT)


def test_another_rate_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    audio.write(tmp_path / "long.wav", stimulus()[None], 48_000)
    with pytest.raises(UserError, match=r"has 48000 Hz .* record at 16000 Hz, or .*--rate 48000"):
        LongRecording(tmp_path / "long.wav", takes(1), LAYOUT)


def test_files_that_are_counted_from_0_or_serve_two_takes_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "take 0.wav", "take 1.wav", "take 2.wav")
    with pytest.raises(UserError, match="takes are counted from 1"):
        RecordedFiles(tmp_path, takes(3))
    (tmp_path / "take 0.wav").unlink()
    named = [Take(number, f"{number}", 0, {}) for number in (1, 2, 3)]
    put(tmp_path, "3 (2).wav")
    (tmp_path / "take 2.wav").unlink()
    with pytest.raises(UserError, match="could be of several takes"):
        RecordedFiles(tmp_path, named)
