"""A manifest is read back as it was written, and whatever is wrong in it is refused by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sptmod_dist import audio
from sptmod_dist.data import recordings
from sptmod_dist.data.recording_checks import first_clipping
from sptmod_dist.data.recordings import Manifest, load_item
from sptmod_dist.errors import UserError

RATE = 44_100
MANIFEST: dict[str, Any] = {
    "format": "sptmod-recordings-1",
    "sample_rate": RATE,
    "device": "a box",
    "controls": [{"name": "ratio", "minimum": 2, "maximum": 8, "scale": "log"}],
    "items": [
        {"id": "a", "input": "dry.wav", "output": "a.wav", "controls": {"ratio": 2},
         "split": "train"},
        {"id": "b", "input": "dry.wav", "output": "sub/b.wav", "controls": {"ratio": 4.0},
         "split": "test", "sidechain": "key.wav"},
    ],
}  # fmt: skip


def noise(channels: int = 1, samples: int = 1_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "recordings"
    (inside / "sub").mkdir(parents=True)
    for number, name in enumerate(["dry.wav", "a.wav", "sub/b.wav", "key.wav", "../outside.wav"]):
        audio.write(inside / name, noise(seed=number), RATE, "FLOAT")
    (inside / "link.wav").symlink_to("../outside.wav")
    return inside


def write(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda top: None) -> Path:
    top = copy.deepcopy(MANIFEST)
    change(top)
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(top), encoding="utf-8")
    return path


def test_a_manifest_survives_being_written_and_read(folder: Path) -> None:
    manifest = Manifest.read(write(folder))
    manifest.write(folder / "manifest.yaml")
    assert Manifest.read(folder / "manifest.yaml") == manifest
    assert [item.id for item in manifest.of_split("test")] == ["b"]
    assert str(folder) not in (folder / "manifest.yaml").read_text()


def test_the_example_in_the_description_of_the_format_is_read(folder: Path) -> None:
    lines = (recordings.__doc__ or "").splitlines()
    example = "\n".join(line[4:] for line in lines if line.startswith("    "))
    (folder / "m.yaml").write_text(example)
    for name in ("a.wav", "a-ratio2.wav"):
        audio.write(folder / name, noise(), RATE, "FLOAT")
    manifest = Manifest.read(folder / "m.yaml")
    assert [control.name for control in manifest.controls] == ["ratio"]
    assert manifest.items[0].settings == {"ratio": 2.0}


def test_json_is_read_as_well(folder: Path) -> None:
    (folder / "m.json").write_text(json.dumps(MANIFEST))
    assert Manifest.read(folder / "m.json").items == Manifest.read(write(folder)).items


def test_a_snapshot_has_no_controls(folder: Path) -> None:
    def snapshot(top: dict[str, Any]) -> None:
        top["controls"] = []
        for item in top["items"]:
            item["controls"] = {}

    manifest = Manifest.read(write(folder, snapshot))
    assert load_item(manifest, manifest.items[0]).vector == []


def change(key: str, value: Any, item: int | None = None) -> Callable[[dict[str, Any]], None]:
    def apply(top: dict[str, Any]) -> None:
        (top if item is None else top["items"][item])[key] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (change("format", "sptmod-recordings-2"), "format is 'sptmod-recordings-2'"),
        (change("sample_rate", "44100"), "sample_rate '44100'"),
        (change("sample_rate", True), "sample_rate True"),
        (change("sample_rate", 44.1), "sample_rate 44.1"),
        (change("sample_rate", 0), "sample_rate 0"),
        (change("device", None), "'device' is None"),
        (change("controls", {"ratio": 1}), "'controls' must be a list"),
        (change("controls", ["ratio"]), "control 1 must be keys and values"),
        (change("controls", MANIFEST["controls"] * 2), "'ratio' is listed twice"),
        (change("items", []), "'items' is empty"),
        (change("items", None), "'items' must be a list"),
        (change("items", ["a"]), "item 1 must be keys and values"),
        (change("itmes", []), "unknown key 'itmes': did you mean items"),
        (lambda top: top.pop("device"), "lacks the key 'device'"),
        (lambda top: top["items"][0].pop("output"), "item 1 lacks the key 'output'"),
        (change("outptu", "x", 0), "unknown key 'outptu'"),
        (change("split", "training", 0), "split 'training'.*train, validation, test"),
        (change("split", ["train"], 0), "split "),
        (change("id", 7, 0), "'id' is 7"),
        (change("id", "../a", 0), "id '../a' is no plain name"),
        (change("id", "a b", 0), "id 'a b' is no plain name"),
        (change("id", "b", 0), "id 'b' is given to two items"),
        (change("output", "sub/b.wav", 0), "output of 'a' .train. and of 'b' .test."),
        (change("output", "sub/../sub/b.wav", 0), "leads out of"),
        (change("output", "dry.wav", 0), "input and output are the same"),
        (change("input", "../outside.wav", 0), "leads out of the manifest's folder"),
        (change("input", "/etc/hostname", 0), "leads out of the manifest's folder"),
        (change("input", "link.wav", 0), "leads out of the manifest's folder"),
        (change("input", "nowhere.wav", 0), "'nowhere.wav' is not a file"),
        (change("input", "sub", 0), "'sub' is not a file"),
        (change("input", "x" * 5_000, 0), "is not a file"),
        (change("input", "a\0b", 0), "'input' is 'a.x00b'"),
        (change("input", "", 0), "'input' is ''"),
        (change("input", ["dry.wav"], 0), "'input' is "),
        (change("sidechain", "gone.wav", 1), "sidechain 'gone.wav' is not a file"),
        (change("controls", {}, 0), "item 'a': control 'ratio' has no value"),
        (change("controls", {"ratio": 9}, 0), "item 'a': control 'ratio' = 9 is outside"),
        (change("controls", {"ratio": "4"}, 0), "'4' is not a finite number"),
        (change("controls", {"ratio": float("nan")}, 0), "nan is not a finite number"),
        (change("controls", {"ratio": 4, "knee": 1}, 0), "unknown key 'knee'"),
        (change("controls", None, 0), "controls must be keys and values"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_sentence(
    folder: Path, edit: Callable[[dict[str, Any]], Any], words: str
) -> None:
    path = write(folder, edit)
    with pytest.raises(UserError, match=words) as caught:
        Manifest.read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.yaml", "", "lacks the key 'format'"),
        ("m.yaml", "format: a\nformat: b\n", "line 2: the key 'format' stands there twice"),
        ("m.json", '{"format": 1, "format": 2}', "line 1: the key 'format' stands there twice"),
        ("m.json", "{", "is not valid YAML in line 1"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_in_one_sentence(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        Manifest.read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)


def test_an_item_is_loaded_with_its_sidechain_its_controls_and_no_dc(folder: Path) -> None:
    audio.write(folder / "sub/b.wav", noise(seed=2) + 0.25, RATE, "FLOAT")
    manifest = Manifest.read(write(folder))
    recording = load_item(manifest, manifest.items[1])
    np.testing.assert_array_equal(recording.input, np.concatenate([noise(), noise(seed=3)]))
    wanted = noise(seed=2) - noise(seed=2).mean()
    np.testing.assert_allclose(recording.output, wanted, atol=1e-6)
    assert recording.vector == pytest.approx([0.5])
    assert recording.input.dtype == recording.output.dtype == np.float32


def flat(level: float, run: int) -> np.ndarray:
    signal = noise()
    signal[0, 441 : 441 + run] = level
    return signal


def with_value(value: float) -> np.ndarray:
    return flat(value, 1)


@pytest.mark.parametrize(
    ("name", "samples", "rate", "words"),
    [
        ("a.wav", noise(), 48_000, "48000 Hz.*44100 Hz"),
        ("a.wav", noise(2), RATE, "2 channels.*1"),
        ("a.wav", noise(samples=999), RATE, "999 samples.*1000"),
        ("a.wav", with_value(np.nan), RATE, "NaN or infinite sample at 0.010 s"),
        ("dry.wav", with_value(-np.inf), RATE, "NaN or infinite sample at 0.010 s"),
        ("a.wav", flat(1.0, 4), RATE, "clipped at 0.010 s"),
        ("a.wav", flat(-1.0, 5), RATE, "clipped at 0.010 s"),
        ("dry.wav", flat(1.5, 4), RATE, "clipped"),
        ("a.wav", np.zeros((1, 1_000), np.float32), RATE, "silent"),
        ("a.wav", np.full((1, 1_000), 0.3, np.float32), RATE, "silent"),
        ("dry.wav", np.zeros((1, 1_000), np.float32), RATE, "silent"),
        ("key.wav", noise(samples=999), RATE, "999 samples.*1000"),
        ("key.wav", with_value(np.nan), RATE, "NaN"),
    ],
)
def test_an_unfit_recording_is_refused_and_its_file_named(
    folder: Path, name: str, samples: np.ndarray, rate: int, words: str
) -> None:
    audio.write(folder / name, samples, rate, "FLOAT")
    manifest = Manifest.read(write(folder))
    with pytest.raises(UserError, match=words) as caught:
        load_item(manifest, manifest.items[1 if name == "key.wav" else 0])
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_wave_over_full_scale_is_found_clipped_at_either_rail(
    tmp_path: Path, subtype: str
) -> None:
    wave = np.sin(np.arange(2_000) / 30)[None].astype(np.float32)
    for signal in (1.5 * wave, 1.2 * wave + 0.5, 1.2 * wave - 0.5):
        audio.write(tmp_path / "a.wav", signal, RATE, subtype)
        assert first_clipping(audio.read(tmp_path / "a.wav")[0]) is not None


@pytest.mark.parametrize("hertz", [40.0, 1_000.0, 11_025.0])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_sound_normalised_to_0_db_is_not_taken_for_clipped(
    tmp_path: Path, hertz: float, subtype: str
) -> None:
    wave = np.sin(2 * np.pi * hertz / RATE * np.arange(RATE))[None].astype(np.float32)
    audio.write(tmp_path / "a.wav", wave / np.abs(wave).max(), RATE, subtype)
    assert first_clipping(audio.read(tmp_path / "a.wav")[0]) is None
    assert first_clipping(3 * wave) is None  # a float file beyond full scale, whole
