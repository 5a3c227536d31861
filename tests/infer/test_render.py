"""A rendered file is the streamed model, in the source's rate, length and format, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_run import RATE, SNAPSHOT, make_run

from sptmod_dist.audio import BLOCK, read
from sptmod_dist.cli import main
from sptmod_dist.data.controls import Control
from sptmod_dist.errors import UserError
from sptmod_dist.infer import render as module
from sptmod_dist.infer.load import load_model
from sptmod_dist.infer.render import render
from sptmod_dist.infer.stream import stream_whole

RATIO = Control("ratio", 2, 8, "log", ":1")
STEERED = replace(SNAPSHOT, n_params=1, sidechain_channels=1)
LENGTH = 7001


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "snapshot")
    make_run(folder / "stereo", replace(SNAPSHOT, input_channels=2))
    make_run(folder / "ratio", replace(SNAPSHOT, n_params=1), [RATIO])
    make_run(folder / "steered", STEERED, [RATIO])
    make_run(folder / "unfinished", kinds=())
    return folder


def music(channels: int = 1, length: int = LENGTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.4, 0.4, (channels, length)).astype(np.float32)


def write(path: Path, audio: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, audio.T, rate, subtype)
    return path


def streamed(run: Path, audio: np.ndarray, vector: list[float], which: str = "best") -> np.ndarray:
    model = load_model(run, which)  # type: ignore[arg-type]
    controls = torch.tensor(vector).reshape(1, -1)
    return stream_whole(model.effect, torch.from_numpy(audio)[None], controls)[0].numpy()


def test_a_rendered_file_is_the_streamed_model(runs: Path, tmp_path: Path) -> None:
    audio = music()
    source, target = write(tmp_path / "in.wav", audio), tmp_path / "out.wav"
    report = render(runs / "ratio", source, target, {"ratio": 4.0})
    np.testing.assert_allclose(read(target)[0], streamed(runs / "ratio", audio, [0.5]), atol=1e-6)
    assert (report.frames, report.subtype, report.clipped) == (LENGTH, "FLOAT", 0)
    assert "out.wav: 0.16 s, 44100 Hz, FLOAT" in report.summary()


def test_the_sidechain_steers(runs: Path, tmp_path: Path) -> None:
    audio, steering = music(seed=1), music(seed=2)
    source, sidechain = write(tmp_path / "in.wav", audio), write(tmp_path / "side.wav", steering)
    render(runs / "steered", source, tmp_path / "out.wav", {"ratio": 2.0}, sidechain)
    expected = streamed(runs / "steered", np.concatenate([audio, steering]), [0.0])
    np.testing.assert_allclose(read(tmp_path / "out.wav")[0], expected, atol=1e-6)


def test_best_and_last_are_two_checkpoints(runs: Path, tmp_path: Path) -> None:
    source, audio = write(tmp_path / "in.wav", music()), music()
    run = runs / "snapshot"
    render(run, source, tmp_path / "best.wav", {})
    render(run, source, tmp_path / "last.wav", {}, checkpoint="last")
    for which in ("best", "last"):
        expected = streamed(run, audio, [], which)
        np.testing.assert_allclose(read(tmp_path / f"{which}.wav")[0], expected, atol=1e-6)
    assert not np.allclose(read(tmp_path / "best.wav")[0], read(tmp_path / "last.wav")[0])


def test_a_file_longer_than_a_chunk_is_rendered_without_a_seam(runs: Path, tmp_path: Path) -> None:
    audio = music(2, 150_001)
    source = write(tmp_path / "in.wav", audio)
    render(runs / "stereo", source, tmp_path / "out.wav", {})
    expected = streamed(runs / "stereo", audio, [])
    np.testing.assert_allclose(read(tmp_path / "out.wav")[0], expected, atol=1e-6)


@pytest.mark.parametrize("rate", [22_050, 48_000, 96_000])
@pytest.mark.parametrize("length", [1, 479, 48_000])
def test_another_rate_is_kept_and_so_is_the_length(
    runs: Path, tmp_path: Path, rate: int, length: int
) -> None:
    source = write(tmp_path / "in.wav", music(length=length), rate)
    report = render(runs / "snapshot", source, tmp_path / "out.wav", {})
    audio, written_rate = read(tmp_path / "out.wav")
    assert (audio.shape, written_rate) == ((1, length), rate)
    assert "resampled to the model's 44100 Hz and back" in report.summary()


def test_a_tone_at_another_rate_stays_in_its_place(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an effect that does nothing, 48 kHz to 44.1 kHz and back moves no sample."""
    monkeypatch.setattr(module, "stream_blocks", lambda effect, blocks, controls: blocks)
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(48_000) / 48_000)[None].astype(np.float32)
    source = write(tmp_path / "in.wav", tone, 48_000)
    render(runs / "snapshot", source, tmp_path / "out.wav", {})
    middle = slice(500, -500)  # away from the ends, where the filter meets the silence outside
    np.testing.assert_allclose(
        read(tmp_path / "out.wav")[0][:, middle], tone[:, middle], atol=10 ** (-80 / 20)
    )


@pytest.mark.parametrize(
    "subtype, target, expected",
    [
        ("PCM_16", "out.wav", "PCM_16"),
        ("PCM_24", "out.wav", "PCM_24"),
        ("PCM_32", "out.wav", "PCM_32"),
        ("FLOAT", "out.WAV", "FLOAT"),
        ("DOUBLE", "out.wav", "FLOAT"),
        ("PCM_U8", "out.wav", "PCM_24"),
        ("PCM_16", "out.flac", "PCM_16"),
        ("PCM_32", "out.flac", "PCM_24"),
        ("FLOAT", "out.flac", "PCM_24"),
    ],
)
def test_the_sample_format_is_kept_where_it_can_be(
    runs: Path, tmp_path: Path, subtype: str, target: str, expected: str
) -> None:
    source = write(tmp_path / "in.wav", music(), subtype=subtype)
    report = render(runs / "snapshot", source, tmp_path / target, {})
    written = soundfile.info(tmp_path / target)
    assert report.subtype == written.subtype == expected
    assert written.frames == LENGTH


@pytest.mark.parametrize("subtype, clipped", [("PCM_16", 3), ("FLOAT", 0)])
def test_samples_beyond_full_scale_are_clipped_counted_and_reported(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subtype: str, clipped: int
) -> None:
    loud = torch.tensor([[[0.5, 1.5, -1.5, 1.001, 1.0, -1.0]]])
    monkeypatch.setattr(module, "stream_blocks", lambda effect, blocks, controls: [loud])
    source = write(tmp_path / "in.wav", music(length=6), subtype=subtype)
    report = render(runs / "snapshot", source, tmp_path / "out.wav", {})
    held = loud.clamp(-1, 1) if clipped else loud
    np.testing.assert_allclose(read(tmp_path / "out.wav")[0], held[0], atol=1e-4)
    assert report.clipped == clipped
    assert ("3 samples (50 %) lay beyond full scale" in report.summary()) == bool(clipped)


def test_an_existing_target_is_replaced_only_when_asked(runs: Path, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.wav", music()), tmp_path / "out.wav"
    target.write_text("precious")
    with pytest.raises(UserError, match="out.wav exists: add --overwrite"):
        render(runs / "snapshot", source, target, {})
    assert target.read_text() == "precious"
    render(runs / "snapshot", source, target, {}, overwrite=True)
    assert soundfile.info(target).frames == LENGTH


SITUATION = {"source": "in.wav", "target": "out.wav"}
BAD_SAMPLE = np.where(np.arange(LENGTH) == LENGTH - 1, np.nan, music())
REFUSALS: list[tuple[str, dict, str]] = [
    ("no such run", {"run": "nowhere"}, "nowhere is no run"),
    ("run without checkpoint", {"run": "unfinished"}, "no checkpoint"),
    ("missing source", {"source": "missing.wav"}, "missing.wav does not exist"),
    ("no audio", {"source": "text.wav"}, "text.wav cannot be read"),
    ("empty file", {"source": "empty.wav"}, "empty.wav"),
    ("no samples", {"source": "header.wav"}, "header.wav holds no samples"),
    ("folder as source", {"source": "folder"}, "folder is no plain file"),
    ("target is a link to nothing", {"target": "dangling.wav"}, "is a link or no plain file"),
    ("stereo for a mono model", {"source": "stereo.wav"}, "has 2 channels: this model takes 1"),
    ("not finite at the end", {"source": "nan.wav"}, "nan.wav holds samples that are not finite"),
    ("unknown control", {"settings": {"ratoi": 4.0}}, "no control 'ratoi'.*ratio"),
    ("missing control", {"settings": {}}, "control 'ratio' has no value"),
    ("too low", {"settings": {"ratio": 1.9}}, "'ratio' = 1.9 is outside.*2 to 8"),
    ("not a number", {"settings": {"ratio": float("nan")}}, "ratio"),
    ("control for a snapshot", {"run": "snapshot"}, "no control 'ratio'"),
    ("target is the source", {"target": "in.wav"}, "in.wav is also read from"),
    ("target is the source, twisted", {"target": "folder/../in.wav"}, "is also read from"),
    ("target links to the source", {"target": "link.wav"}, "link.wav is also read from"),
    ("no such folder", {"target": "nowhere/out.wav"}, "folder .*nowhere .*does not exist"),
    ("target is a folder", {"target": "folder.wav"}, "folder.wav is a folder"),
    ("no extension", {"target": "out"}, "extension ''.*\\.wav or \\.flac"),
    ("unknown extension", {"target": "out.mp3"}, "extension '.mp3'.*\\.wav or \\.flac"),
    ("sidechain is missing", {"run": "steered"}, "give its file with --sidechain"),
    ("sidechain for none", {"sidechain": "side.wav"}, "no sidechain: leave out"),
    ("no such sidechain", {"run": "steered", "sidechain": "missing.wav"}, "does not exist"),
    ("stereo sidechain", {"run": "steered", "sidechain": "stereo.wav"}, "stereo.wav has 2 chan"),
    ("short sidechain", {"run": "steered", "sidechain": "short.wav"}, "short.wav has a length"),
    ("sidechain's rate", {"run": "steered", "sidechain": "48k.wav"}, "48k.wav has a rate"),
    ("target is the sidechain", {"sidechain": "side.wav", "target": "side.wav"}, "is also read"),
]


@pytest.mark.parametrize("case, words", [pytest.param(c, w, id=n) for n, c, w in REFUSALS])
def test_what_cannot_be_rendered_is_refused_in_words(
    runs: Path, tmp_path: Path, case: Mapping, words: str
) -> None:
    write(tmp_path / "in.wav", music())
    write(tmp_path / "side.wav", music())
    write(tmp_path / "short.wav", music(length=LENGTH - 1))
    write(tmp_path / "48k.wav", music(), 48_000)
    write(tmp_path / "stereo.wav", music(2))
    write(tmp_path / "nan.wav", BAD_SAMPLE)
    write(tmp_path / "header.wav", music(length=0))
    (tmp_path / "text.wav").write_text("no audio at all")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "link.wav").symlink_to(tmp_path / "in.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.wav").mkdir()
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    source, target = (tmp_path / case.get(key, name) for key, name in SITUATION.items())
    sidechain = tmp_path / case["sidechain"] if "sidechain" in case else None
    settings = case.get("settings", {"ratio": 4.0})
    with pytest.raises(UserError, match=words) as refusal:
        render(runs / case.get("run", "ratio"), source, target, settings, sidechain)
    assert "\n" not in str(refusal.value)
    assert before == {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}


def test_a_wav_file_beyond_four_gigabytes_is_refused(runs: Path, tmp_path: Path) -> None:
    header = module.info(write(tmp_path / "in.wav", music(), subtype="PCM_24"))
    long = replace(header, frames=2**31)
    assert module._subtype(long, tmp_path / "out.flac") == "PCM_24"
    with pytest.raises(UserError, match="choose .flac"):
        module._subtype(long, tmp_path / "out.wav")


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_memory_does_not_grow_with_the_file(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    """What has been read but not yet written stays under a few blocks, in 16 of them."""
    held = most = 0
    read_blocks, write_blocks = module.read_blocks, module.write_blocks

    def counted(blocks: Iterator[np.ndarray], sign: int) -> Iterator[np.ndarray]:
        nonlocal held, most
        for block in blocks:
            held += sign * block.shape[1]
            most = max(most, held)
            yield block

    monkeypatch.setattr(module, "read_blocks", lambda path: counted(read_blocks(path), 1))
    monkeypatch.setattr(
        module,
        "write_blocks",
        lambda path, blocks, *rest: write_blocks(path, counted(blocks, -1), *rest),
    )
    source = write(tmp_path / "in.wav", music(length=16 * BLOCK), rate)
    render(runs / "snapshot", source, tmp_path / "out.wav", {})
    assert held == 0
    assert 0 < most <= 4 * BLOCK


def test_the_command_takes_settings_as_people_type_them(runs: Path, tmp_path: Path) -> None:
    audio, steering = music(seed=1), music(seed=2)
    source, sidechain = write(tmp_path / "in.wav", audio), write(tmp_path / "side.wav", steering)
    render(runs / "steered", source, tmp_path / "one.wav", {"ratio": 2.0}, sidechain)
    words = ["render", str(runs / "steered"), str(source), str(tmp_path / "other.wav")]
    assert main([*words, "--sidechain", str(sidechain), "--control", "ratio=2"]) == 0
    assert np.array_equal(read(tmp_path / "one.wav")[0], read(tmp_path / "other.wav")[0])
