"""The demo is the same bytes each time, is made once, and keeps its splits apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sptmod_dist import audio
from sptmod_dist.data import demo
from sptmod_dist.data.demo import CLIPS, RATE, RATIOS, make_demo
from sptmod_dist.data.devices import PedalboardCompressor
from sptmod_dist.data.recordings import Manifest, load_item
from sptmod_dist.errors import UserError

SHIPPED = demo.CLIPS_FOLDER
NAMES = [name for names in CLIPS.values() for name in names]


def no_word(line: str) -> None:
    pass


def test_every_shipped_clip_is_mono_44_1_khz_and_has_its_licence_stated() -> None:
    files = sorted(path.stem for path in SHIPPED.glob("*.flac"))
    readme = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert files == sorted(NAMES)
    for name in files:
        header = soundfile.info(SHIPPED / f"{name}.flac")
        assert (header.samplerate, header.channels, header.subtype) == (RATE, 1, "PCM_16")
        row = next(line for line in readme.splitlines() if f"`{name}.flac`" in line)
        assert "CC0" in row and "freesound.org" in row
        assert f"| {next(split for split in CLIPS if name in CLIPS[split])} |" in row
    assert sum(path.stat().st_size for path in SHIPPED.glob("*.flac")) < 5_000_000


def test_no_clip_belongs_to_two_splits() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_a_missing_pedalboard_is_one_sentence_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pedalboard", None)
    with pytest.raises(UserError, match=r'pip install "sptmod-dist\[devices\]"'):
        make_demo(tmp_path / "demo", SHIPPED, no_word)
    assert not (tmp_path / "demo").exists()


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    pytest.importorskip("pedalboard")
    folder = tmp_path / "clips"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        clip = np.random.default_rng(number).uniform(-0.5, 0.5, (1, 4_410))
        audio.write(folder / f"{name}.flac", clip.astype(np.float32), RATE, "PCM_16")
    return folder


def fingerprint(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def times(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}


def test_the_demo_is_the_same_bytes_each_time_and_made_once(tmp_path: Path, clips: Path) -> None:
    lines: list[str] = []
    first = make_demo(tmp_path / "one", clips, lines.append)
    second = make_demo(tmp_path / "two", clips, no_word)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")
    assert len(lines) > 3
    made = times(tmp_path / "one")
    assert make_demo(tmp_path / "one", clips, lines.append) == first
    assert times(tmp_path / "one") == made and "ready" in lines[-1]
    assert [item.id for item in second.items] == [item.id for item in first.items]


def test_the_demo_holds_what_it_promises(tmp_path: Path, clips: Path) -> None:
    manifest = make_demo(tmp_path / "demo", clips, no_word)
    assert Manifest.read(tmp_path / "demo" / "manifest.yaml") == manifest
    ids = {split: [item.id for item in manifest.of_split(split)] for split in CLIPS}
    assert ids["train"] == [f"train-ratio{ratio:g}" for ratio in RATIOS]
    for split in ("validation", "test"):
        wanted = {f"clip-{name}-ratio{ratio:g}" for name in CLIPS[split] for ratio in RATIOS}
        assert {name for name in ids[split] if name.startswith("clip-")} == wanted
    assert {f"levels-ratio{ratio:g}" for ratio in RATIOS} <= set(ids["test"])
    for item in manifest.items:
        recording = load_item(manifest, item)
        assert np.abs(recording.output).max() <= 1.0
        assert len(recording.vector) == 1


def damage_cut(folder: Path, clips: Path) -> None:
    path = folder / "levels.wav"
    path.write_bytes(path.read_bytes()[:-100])


def damage_lost(folder: Path, clips: Path) -> None:
    (folder / "train.wav").unlink()


def damage_marker(folder: Path, clips: Path) -> None:
    (folder / "demo.json").write_text("[]")


def damage_interrupted(folder: Path, clips: Path) -> None:
    (folder / "manifest.yaml").unlink()


def damage_clip(folder: Path, clips: Path) -> None:
    audio.write(clips / f"{NAMES[0]}.flac", np.full((1, 999), 0.25, np.float32), RATE, "PCM_16")


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_lost, damage_marker, damage_interrupted, damage_clip]
)
def test_a_demo_that_is_not_whole_or_out_of_date_is_made_again(
    tmp_path: Path,
    clips: Path,
    damage: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo, "RATIOS", (4.0,))
    make_demo(tmp_path / "demo", clips, no_word)
    before = fingerprint(tmp_path / "demo")
    damage(tmp_path / "demo", clips)
    lines: list[str] = []
    make_demo(tmp_path / "demo", clips, lines.append)
    assert "Making" in lines[0]
    after = fingerprint(tmp_path / "demo")
    assert set(after) == set(before)
    assert (after == before) == (damage is not damage_clip)


def test_recordings_of_somebody_else_are_left_alone(tmp_path: Path, clips: Path) -> None:
    (tmp_path / "manifest.yaml").write_text("mine")
    with pytest.raises(UserError, match="not the demo's"):
        make_demo(tmp_path, clips, no_word)
    assert (tmp_path / "manifest.yaml").read_text() == "mine"


@pytest.mark.parametrize("fault", ["missing", "stereo", "rate"])
def test_an_unfit_clip_is_refused_by_name(tmp_path: Path, clips: Path, fault: str) -> None:
    path = clips / f"{NAMES[-1]}.flac"
    path.unlink()
    if fault != "missing":
        signal = np.full((2 if fault == "stereo" else 1, 100), 0.1, np.float32)
        audio.write(path, signal, 48_000 if fault == "rate" else RATE)
    with pytest.raises(UserError, match=path.name):
        make_demo(tmp_path / "demo", clips, no_word)
    assert not (tmp_path / "demo" / "manifest.yaml").exists()


def test_the_device_forgets_each_item_before_the_next() -> None:
    pytest.importorskip("pedalboard")
    device = PedalboardCompressor()
    loud = np.ones((1, 4_410), np.float32)
    quiet = np.full((1, 4_410), 0.1, np.float32)
    alone = device.process(quiet, RATE, 4.0)
    device.process(loud, RATE, 4.0)
    np.testing.assert_array_equal(device.process(quiet, RATE, 4.0), alone)


def test_the_device_holds_the_static_curve_of_its_ratio() -> None:
    pytest.importorskip("pedalboard")
    assert PedalboardCompressor().threshold_db == -30.0
    tone = np.sin(2 * np.pi * 1000 / RATE * np.arange(2 * RATE))[None].astype(np.float32)
    peaks = [
        20 * np.log10(np.abs(PedalboardCompressor().process(tone, RATE, ratio)[:, RATE:]).max())
        for ratio in (2.0, 4.0)
    ]
    # a tone at 0 dB is 30 dB over the threshold; the detector settles some dB below its peak
    assert -15 <= peaks[0] < -10 and -22.5 <= peaks[1] < -16
