"""A stimulus file measures as published, at every rate, and is the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib import image

from sptmod_dist import audio
from sptmod_dist.capture import stimulus_files
from sptmod_dist.capture.markers import find_markers
from sptmod_dist.capture.music import excerpts, find_music
from sptmod_dist.capture.stimulus_files import (
    make_stimulus,
    sections,
    stimulus_layout,
    stimulus_path,
    write_stimuli,
)
from sptmod_dist.capture.stimulus_picture import spectrogram
from sptmod_dist.cli import main
from sptmod_dist.data.recording_checks import first_clipping
from sptmod_dist.data.stimulus import tone_schedule
from sptmod_dist.errors import UserError

RATES = [44_100, 48_000, 96_000]
STEP = 2.0**-23  # of 24 bits


def no_word(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stimuli")


@pytest.fixture(scope="module", params=RATES)
def measured(request: pytest.FixtureRequest, folder: Path) -> tuple[np.ndarray, int]:
    """The samples of a file as written, `[T]`, and its rate."""
    rate = request.param
    path = stimulus_path(folder, rate)
    write_stimuli(folder, rate, [rate], say=no_word)
    samples, stated = audio.read(path)
    assert stated == rate and samples.shape[0] == 1 and audio.info(path).subtype == "PCM_24"
    return samples[0], rate


def content_of(measured: tuple[np.ndarray, int]) -> np.ndarray:
    samples, rate = measured
    plan = stimulus_layout(rate)
    return samples[plan.content_start : plan.content_stop]


def test_the_40_levels_in_the_file_are_right_within_a_twentieth_of_a_decibel(
    measured: tuple[np.ndarray, int],
) -> None:
    content, rate = content_of(measured).astype(np.float64), measured[1]
    for step in tone_schedule(rate):
        periods = int((step.stop - step.start) * 1000 / rate)
        whole = content[step.start : step.start + round(periods * rate / 1000)]
        level = 10 * np.log10(2 * np.mean(whole**2))
        assert level == pytest.approx(step.level_db, abs=0.05)


def test_every_part_of_the_file_lasts_what_is_stated_to_the_sample(
    measured: tuple[np.ndarray, int],
) -> None:
    samples, rate = measured
    plan = stimulus_layout(rate)
    assert len(samples) == plan.total and plan.content_stop - plan.content_start == 96 * rate
    phase = 2 * np.pi * 1000 / rate * np.arange(16 * rate)
    amplitude = np.zeros(16 * rate)
    edge = 0
    for group in range(4):
        lengths = [0.25] * 10 + [0.5] * 3
        levels = [*range(-39 + 10 * group, -29 + 10 * group), -40, -40, -40]
        for length, level in zip(lengths, levels, strict=True):
            amplitude[edge : edge + round(length * rate)] = 10 ** (level / 20)
            edge += round(length * rate)
    assert edge == 16 * rate
    np.testing.assert_allclose(
        content_of(measured)[: 16 * rate], amplitude * np.sin(phase), atol=2 * STEP
    )


def test_no_sample_exceeds_0_db_and_nothing_is_clipped(measured: tuple[np.ndarray, int]) -> None:
    samples, rate = measured
    assert 1 - 3e-5 < np.abs(samples).max() <= 1.0
    assert first_clipping(samples[None]) is None
    made = make_stimulus(rate, 1, find_music(None))
    assert np.abs(made).max() <= 1.0 and made.dtype == np.float32


def test_excerpts_in_the_file_start_below_0_db_and_end_below_minus_20(
    measured: tuple[np.ndarray, int],
) -> None:
    content, rate = content_of(measured), measured[1]
    music = content[16 * rate : 56 * rate].reshape(10, 4 * rate)
    bound = 10 ** (-np.arange(4 * rate) / (4 * rate))
    assert (np.abs(music) <= bound + STEP).all()
    touched = np.max(np.abs(music) / bound, axis=1)
    np.testing.assert_allclose(touched, 1.0, atol=1e-3)  # each peak was 0 dB


def test_the_markers_and_the_repeats_of_the_file_stand_where_they_should(
    measured: tuple[np.ndarray, int],
) -> None:
    samples, rate = measured
    plan = stimulus_layout(rate)
    found = find_markers(samples, rate)
    assert [mark.position for mark in found] == pytest.approx(
        [plan.start_marker, plan.end_marker], abs=0.01
    )
    repeats = [samples[start : start + rate] for start in plan.repeats]
    np.testing.assert_array_equal(repeats[0], repeats[1])
    np.testing.assert_array_equal(repeats[0], repeats[2])
    first = content_of(measured)[16 * rate : 20 * rate].reshape(4, rate)
    loudest = max(first, key=lambda second: np.sum(second.astype(np.float64) ** 2))
    np.testing.assert_array_equal(repeats[0], loudest)


def test_events_fill_20_seconds_twice_and_the_second_time_with_pauses(
    measured: tuple[np.ndarray, int],
) -> None:
    content, rate = content_of(measured), measured[1]
    dense, sparse = content[56 * rate : 76 * rate], content[76 * rate :]
    assert len(dense) == len(sparse) == 20 * rate

    def paused(part: np.ndarray) -> float:
        peaks = np.abs(part).reshape(2_000, -1).max(axis=1)  # of 10 ms
        return float(np.mean(peaks < 1.01e-3))

    assert paused(sparse) > 0.3 > 0.15 > paused(dense)


def write_music(path: Path, samples: np.ndarray, rate: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def sine(rate: int, seconds: float, hertz: float = 440.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz / rate * np.arange(round(seconds * rate)))


def test_each_excerpt_falls_by_20_db_in_4_seconds_along_a_straight_line(tmp_path: Path) -> None:
    rate = 44_100
    write_music(tmp_path / "steady.wav", sine(rate, 30.0), rate)
    made = make_stimulus(rate, 0, find_music(tmp_path), no_word)
    start = stimulus_layout(rate).content_start + 16 * rate
    for excerpt in made[start : start + 40 * rate].reshape(10, 4 * rate):
        peaks = np.abs(excerpt).reshape(400, -1).max(axis=1)  # of 10 ms
        slope, top = np.polyfit((np.arange(400) + 0.5) / 100, 20 * np.log10(peaks), 1)
        assert slope == pytest.approx(-5.0, abs=0.01)  # dB a second
        assert top == pytest.approx(0.0, abs=0.05)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_music(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_stimuli(one, 8_000, [0, 1], say=no_word)
    write_stimuli(two, 8_000, [0], say=no_word)
    for name in ("stimulus-0.wav", "stimulus-0.png"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    first, second = (audio.read(one / f"stimulus-{seed}.wav")[0][0] for seed in (0, 1))
    start = stimulus_layout(8_000).content_start
    tone, music, rest = (
        slice(start + begin * 8_000, start + end * 8_000)
        for begin, end in ((0, 16), (16, 56), (56, 96))
    )
    np.testing.assert_array_equal(first[tone], second[tone])
    assert not np.array_equal(first[music], second[music])
    assert not np.array_equal(first[rest], second[rest])


def test_the_seed_changes_the_order_of_the_music_and_the_places_in_it() -> None:
    music = find_music(None)
    first, again, other = (excerpts(music, 8_000, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a in first for b in other)


def test_every_file_has_its_turn_before_one_comes_again_in_an_order_of_the_seed(
    tmp_path: Path,
) -> None:
    for number in range(5):
        write_music(tmp_path / f"{number}.wav", sine(8_000, 6.0, 500.0 + 100 * number), 8_000)
    music = find_music(tmp_path, no_word)
    orders = []
    for seed in range(3):
        spectra = [np.abs(np.fft.rfft(part)) for part in excerpts(music, 8_000, seed, 10)]
        orders.append([round(spectrum.argmax() / 4 / 100) - 5 for spectrum in spectra])
    assert all(order[:5] == order[5:] and sorted(order[:5]) == [0, 1, 2, 3, 4] for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_music_of_any_rate_and_folder_and_stereo_is_taken_by_name(tmp_path: Path) -> None:
    stereo = np.stack([sine(48_000, 6.0), np.zeros(6 * 48_000)], axis=1)
    write_music(tmp_path / "b.flac", stereo, 48_000)
    write_music(tmp_path / "a" / "one.ogg", sine(22_050, 5.0), 22_050)
    write_music(tmp_path / "c" / "a.wav", sine(44_100, 5.0), 44_100)
    write_music(tmp_path / ".hidden" / "c.wav", sine(44_100, 5.0), 44_100)
    found = find_music(tmp_path, no_word)
    names = [file.path.relative_to(tmp_path).as_posix() for file in found]
    assert names == ["a/one.ogg", "b.flac", "c/a.wav"]
    made = excerpts(found[1:], 44_100, 0, 1)[0]
    assert made.shape == (4 * 44_100,)
    basis = np.exp(2j * np.pi * 440 / 44_100 * np.arange(len(made)))
    amplitude = 2 * np.mean(made * basis.conj())
    assert abs(amplitude) == pytest.approx(0.15, rel=1e-3)  # half of one channel
    assert np.abs(made - (amplitude * basis).real).max() < 1e-3  # to the very ends


def test_what_is_no_music_is_left_out_in_words(tmp_path: Path) -> None:
    write_music(tmp_path / "good.wav", sine(44_100, 5.0), 44_100)
    write_music(tmp_path / "blip.wav", sine(44_100, 0.3), 44_100)
    write_music(tmp_path / "silent.wav", np.zeros(44_100 * 5), 44_100)
    opposed = np.stack([sine(44_100, 5.0), -sine(44_100, 5.0)], axis=1)
    write_music(tmp_path / "opposed.wav", opposed, 44_100)
    (tmp_path / "cover.jpg").write_bytes(b"no audio")
    lines: list[str] = []
    found = find_music(tmp_path, lines.append)
    made = excerpts(found, 44_100, 0, 5, lines.append)
    assert len(made) == 5 and all(np.abs(part).max() > 0.2 for part in made)
    text = "\n".join(sorted(lines))
    assert len(lines) == 4
    for name, words in (
        ("blip.wav", "lasts 0.30 s"),
        ("cover.jpg", "cannot be read"),
        ("opposed.wav", "is silent"),
        ("silent.wav", "is silent"),
    ):
        assert any(name in line and words in line for line in lines), text


def test_a_damaged_file_is_left_out_and_one_that_is_shorter_than_an_excerpt_goes_round(
    tmp_path: Path,
) -> None:
    loop = np.arange(8_000) / 8_000 - 0.5
    write_music(tmp_path / "loop.wav", loop, 8_000)
    noise = np.random.default_rng(0).uniform(-1, 1, 80_000)
    broken = write_music(tmp_path / "torn.flac", noise, 8_000)
    lines: list[str] = []
    found = find_music(tmp_path, lines.append)
    broken.write_bytes(broken.read_bytes()[:5_000])
    made = excerpts(found, 8_000, 3, 4, lines.append)
    assert len(lines) == 1 and "torn.flac" in lines[0]
    for part in made:
        np.testing.assert_array_equal(part[:8_000], part[8_000:16_000])


def test_a_folder_without_music_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        find_music(tmp_path / "missing", no_word)
    with pytest.raises(UserError, match="holds no music"):
        find_music(tmp_path, no_word)
    write_music(tmp_path / "silent.wav", np.zeros(44_100), 44_100)
    with pytest.raises(UserError, match="none of the 1 music files"):
        write_stimuli(tmp_path / "out", 44_100, [0], tmp_path, say=no_word)
    assert not list((tmp_path / "out").iterdir())


def test_the_command_writes_files_and_pictures_and_replaces_none_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "s")
    asked = ["stimulus", out, "--rate", "8000", "--seed", "4", "--count", "2"]
    assert main(asked) == 0
    names = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert names == ["stimulus-4.png", "stimulus-4.wav", "stimulus-5.png", "stimulus-5.wav"]
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()}
    (tmp_path / "s" / "stimulus-4.wav").unlink()
    assert main(asked) == 2
    assert "stimulus-4.png exists already; add --overwrite" in capsys.readouterr().err
    assert not (tmp_path / "s" / "stimulus-4.wav").exists()
    assert main([*asked, "--overwrite"]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "s").iterdir()}
    assert all(after[name] > before[name] for name in names)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--rate", "100"], "at 100 Hz is not possible"),
        (["--rate", "1000000"], "choose 8000 to 384000 Hz"),
        (["--seed", "-1"], "--seed is -1"),
        (["--count", "0"], "--count is 0"),
        (["--music", "nowhere"], "nowhere is no folder"),
        (["--rate", "fast"], "rate"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main(["stimulus", str(tmp_path / "s"), *options]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_the_picture_is_large_and_coloured(measured: tuple[np.ndarray, int], folder: Path) -> None:
    picture = image.imread(folder / f"stimulus-{measured[1]}.png")
    assert picture.shape[:2] == (900, 1400)
    assert len(np.unique(picture[..., 0])) > 100


def test_the_parts_in_the_picture_are_in_order_and_inside_the_file() -> None:
    parts = sections(44_100)
    edges = [edge for _, begin, end in parts for edge in (begin, end)]
    assert edges == sorted(edges) and edges[0] == 0.5
    assert edges[-1] == pytest.approx(stimulus_layout(44_100).total / 44_100 - 0.5)
    assert [name for name, _, _ in parts][1:5] == [name for name, *_ in stimulus_files.SECTIONS]


def test_the_spectrogram_shows_a_tone_at_its_frequency_and_level() -> None:
    rate = 44_100
    levels, times, edges = spectrogram(0.1 * sine(rate, 4.0, 1000.0) / 0.3, rate)
    assert levels.shape == (len(edges) - 1, len(times) - 1) and edges[0] == 40.0
    loudest = levels.argmax(axis=0)
    assert (edges[loudest] <= 1_020).all() and (edges[loudest + 1] >= 980).all()
    np.testing.assert_allclose(levels.max(axis=0), -20.0, atol=0.5)


def test_a_rate_that_the_music_cannot_have_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stimulus", str(tmp_path / "s"), "--rate", "44056"]) == 2
    caught = capsys.readouterr()
    assert "too little in common; choose a usual rate, such as 44100" in caught.err
    assert caught.out == "" and not (tmp_path / "s").exists()
