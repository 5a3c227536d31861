"""Files come back as written, resampling keeps tones, and bad files are refused in words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sptmod_dist import audio
from sptmod_dist.errors import UserError


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, samples)).astype(np.float32)


def in_blocks(signal: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (signal[:, i : i + size] for i in range(0, signal.shape[1], size))


def tone(rate: int, seconds: float, hertz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hertz / rate * np.arange(round(rate * seconds)))[None].astype("f4")


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "FLOAT", 0.0),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_16", 2**-15),
        ("a.flac", "PCM_24", 2**-23),
        ("a.WAV", "PCM_32", 2**-23),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_back(
    tmp_path: Path, name: str, subtype: str, error: float, channels: int
) -> None:
    signal = noise(channels, 70_000)  # more than a block
    assert audio.write(tmp_path / name, signal, 48_000, subtype) == 0
    back, rate = audio.read(tmp_path / name)
    assert (back.dtype, back.shape, rate) == (np.float32, signal.shape, 48_000)
    assert np.abs(back - signal).max() <= error
    header = audio.info(tmp_path / name)
    assert (header.channels, header.frames, header.subtype) == (channels, 70_000, subtype)


def test_a_file_written_in_blocks_equals_one_written_whole(tmp_path: Path) -> None:
    signal = noise(2, 10_000)
    audio.write(tmp_path / "whole.wav", signal, 44_100)
    audio.write_blocks(tmp_path / "blocks.wav", in_blocks(signal, 777), 44_100, 2)
    assert (tmp_path / "whole.wav").read_bytes() == (tmp_path / "blocks.wav").read_bytes()
    assert [b.shape[1] for b in audio.read_blocks(tmp_path / "blocks.wav", 4000)] == [
        4000,
        4000,
        2000,
    ]


def test_integer_formats_clip_and_say_how_often_and_float_formats_keep_all(tmp_path: Path) -> None:
    signal = np.array([[0.5, 1.5, -2.0, 1.0]], np.float32)
    assert audio.write(tmp_path / "a.wav", signal, 44_100, "PCM_16") == 2
    assert audio.read(tmp_path / "a.wav")[0][0].tolist() == pytest.approx([0.5, 1, -1, 1], abs=1e-4)
    assert audio.write(tmp_path / "b.wav", signal, 44_100, "FLOAT") == 0
    np.testing.assert_array_equal(audio.read(tmp_path / "b.wav")[0], signal)


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", noise(1, 100), 44_100)
    before = (tmp_path / "a.wav").read_bytes()

    def broken() -> Iterator[np.ndarray]:
        yield noise(1, 50)
        raise UserError("the input ended")

    with pytest.raises(UserError, match="the input ended"):
        audio.write_blocks(tmp_path / "a.wav", broken(), 44_100, 1)
    assert (tmp_path / "a.wav").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(
    ("name", "subtype", "words"),
    [
        ("a.txt", "PCM_16", "suffix '.txt'"),
        ("a", "PCM_16", "suffix ''"),
        ("a.flac", "FLOAT", "FLAC has no sample format FLOAT"),
        ("missing/a.wav", "PCM_16", "does not exist"),
    ],
)
def test_an_impossible_place_or_format_is_refused(
    tmp_path: Path, name: str, subtype: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        audio.write(tmp_path / name, noise(1, 10), 44_100, subtype)
    assert not list(tmp_path.iterdir())


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / "bad.wav"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("RIFF, they said")
    elif kind == "no samples":
        soundfile.write(path, np.zeros((0, 1)), 44_100)
    elif kind == "headerless":
        path = path.with_suffix(".raw")
        path.write_bytes(b"\0" * 100)
    elif kind == "a rate of 1 Hz":
        soundfile.write(path, np.zeros((10, 1)), 1)
    elif kind.endswith("cut short"):
        path = path.with_suffix(f".{kind[:4].strip()}")
        soundfile.write(path, noise(1, 50_000)[0], 44_100)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "folder",
        "empty",
        "text",
        "no samples",
        "headerless",
        "flac cut short",
        "wav cut short",
        "a rate of 1 Hz",
        "mp3 cut short",
    ],
)
def test_a_file_that_is_no_audio_is_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    path = bad_file(tmp_path, kind)
    with pytest.raises(UserError) as caught:
        audio.read(path)
    message = str(caught.value)
    assert str(path) in message and message.endswith(".") and "\n" not in message


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_that_was_streamed_and_states_no_length_is_read(tmp_path: Path, stated: int) -> None:
    path = tmp_path / "streamed.wav"
    soundfile.write(path, noise(1, 1000)[0], 44_100, "PCM_16")
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = stated.to_bytes(4, "little")
    path.write_bytes(data)
    assert audio.info(path).frames == 1000


RATES = [(44_100, 48_000), (48_000, 44_100), (96_000, 44_100), (22_050, 44_100), (8_000, 44_100)]


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("size", [1_000, 16_384, 50_001])
def test_resampling_in_blocks_equals_resampling_the_whole(
    rates: tuple[int, int], size: int
) -> None:
    signal = noise(2, 50_001)
    whole = audio.resample(signal, *rates)
    joined = np.concatenate(list(audio.resample_blocks(in_blocks(signal, size), *rates)), axis=1)
    assert whole.shape == (2, -(-50_001 * rates[1] // rates[0]))
    np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 147, 1_000])
@pytest.mark.parametrize("size", [1, 7, 2_000])
def test_resampling_in_blocks_equals_the_whole_for_short_signals(samples: int, size: int) -> None:
    signal = noise(1, samples)
    joined = np.concatenate(
        list(audio.resample_blocks(in_blocks(signal, size), 44_100, 48_000)), axis=1
    )
    np.testing.assert_allclose(joined, audio.resample(signal, 44_100, 48_000), rtol=0, atol=1e-6)


def test_resampling_in_blocks_holds_no_more_than_a_few_blocks() -> None:
    given = made = 0

    def source() -> Iterator[np.ndarray]:
        nonlocal given
        for _ in range(200):
            given += 4_410
            yield np.zeros((1, 4_410), np.float32)

    for block in audio.resample_blocks(source(), 44_100, 48_000):
        made += block.shape[1]
        assert given * 160 / 147 - made < 60_000


@pytest.mark.parametrize("rates", RATES)
def test_a_tone_keeps_its_level_and_place_when_resampled(rates: tuple[int, int]) -> None:
    made = audio.resample(tone(rates[0], 0.5, 1000.0), *rates)
    wanted = tone(rates[1], 0.5, 1000.0)
    inner = slice(rates[1] // 10, -rates[1] // 10)  # the ends ring: silence lies beyond them
    assert np.abs(made[:, inner] - wanted[:, inner]).max() < 1e-4  # -80 dB


def test_what_the_new_rate_cannot_hold_is_removed() -> None:
    made = audio.resample(tone(48_000, 0.5, 15_000.0), 48_000, 22_050)
    assert np.abs(made[:, 3_000:-3_000]).max() < 1e-4


def test_there_and_back_gives_the_same_music_band() -> None:
    signal = audio.resample(noise(1, 8_000), 16_000, 44_100)  # noise below 8 kHz
    back = audio.resample(audio.resample(signal, 44_100, 48_000), 48_000, 44_100)
    inner = slice(2_000, 20_000)
    assert np.abs(back[:, inner] - signal[:, inner]).max() < 1e-4


def test_equal_rates_change_nothing() -> None:
    signal = noise(1, 100)
    assert audio.resample(signal, 44_100, 44_100) is signal
    blocks = list(audio.resample_blocks(in_blocks(signal, 30), 8_000, 8_000))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), signal)


def test_rates_without_a_common_measure_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(UserError, match="44101 Hz"):
        audio.resample(noise(1, 10), 44_100, 44_101)


def test_torchaudio_imports_beside_any_torch_also_when_it_comes_first() -> None:
    program = (
        "from sptmod_dist.audio import import_torchaudio as load; import torch; "
        "t = load(); assert load() is t; "
        "print(t.functional.resample(torch.ones(1, 4410), 44100, 48000).shape[-1])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "4800", done.stderr


def test_dc_is_removed_from_each_channel() -> None:
    signal = noise(2, 1_000) * 0.1 + np.array([[0.3], [-0.2]], np.float32)
    assert np.abs(audio.remove_dc(signal).mean(axis=1, dtype=np.float64)).max() < 1e-8
