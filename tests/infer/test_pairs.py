"""Folders of pairs: found by name or manifest, checked before the work, evaluated as a set is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import yaml
from tiny_run import RATE, SNAPSHOT, make_run

from sptmod_dist.audio import write
from sptmod_dist.cli import main
from sptmod_dist.data.controls import Control
from sptmod_dist.errors import UserError
from sptmod_dist.infer.evaluate import evaluate
from sptmod_dist.infer.load import Model, load_model
from sptmod_dist.infer.pairs import Pairs, with_defaults
from sptmod_dist.model import TCNConfig

RATIO = Control("ratio", 2, 8, "log", ":1", default=4)
MODE = Control("mode", positions=("fast", "slow"), scale="list")
LENGTH = 9000


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "snapshot", SNAPSHOT)
    make_run(folder / "steered", replace(SNAPSHOT, sidechain_channels=1))
    make_run(folder / "two", replace(SNAPSHOT, n_params=2), [RATIO, MODE])
    return folder


def music(seed: int = 0, channels: int = 1, length: int = LENGTH) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, length)).astype(np.float32)


def put(folder: Path, name: str, audio: np.ndarray | None = None, rate: int = RATE) -> Path:
    folder.mkdir(exist_ok=True)
    write(folder / name, music() if audio is None else audio, rate, "FLOAT")
    return folder / name


def write_pairs(folder: Path) -> Path:
    for name, ends, suffix in (
        ("drums", ("input", "output"), "wav"),
        ("a b", ("dry", "wet"), "aiff"),
    ):
        for end in ends:
            put(folder, f"{name}-{end}.{suffix}", music(len(name)) * (0.5 if end[0] in "ow" else 1))
    put(folder, "drums-sidechain.wav", music(9))
    (folder / "notes.txt").write_text("mine")
    return folder


def write_manifest(folder: Path, controls: bool = True, splits: bool = True) -> Path:
    items = []
    for number, split in enumerate(("train", "test")):
        names = {what: put(folder, f"{number}-{what}.wav", music(number)).name for what in "xy"}
        item = {"id": split, "input": names["x"], "output": names["y"]}
        item |= {"controls": {"mode": "slow", "ratio": 2}} if controls else {}
        items.append(item | ({"split": split} if splits else {}))
    listed = [MODE.to_dict(), RATIO.to_dict()] if controls else []  # in another order
    top = {"format": "sptmod-recordings-1", "sample_rate": RATE, "device": "d"}
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump({**top, "controls": listed, "items": items}))
    return path


def test_pairs_are_found_by_their_names(runs: Path, tmp_path: Path) -> None:
    pairs = Pairs(load_model(runs / "snapshot"), write_pairs(tmp_path / "pairs"), {})
    assert [subject.id for subject in pairs.subjects] == ["a b", "drums"]
    x, y, controls = pairs.read(1)
    assert x.shape == y.shape == (1, LENGTH) and controls.shape == (0,)
    np.testing.assert_allclose(y, 0.5 * (x - x.mean()), atol=1e-6)  # without its offset
    assert pairs.source == "the pairs of pairs" and pairs.fingerprint is None


def test_a_model_with_a_sidechain_takes_the_files_of_that_name(runs: Path, tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs")
    with pytest.raises(UserError, match="a b-dry.aiff has no sidechain beside it"):
        Pairs(load_model(runs / "steered"), folder, {})
    for name in ("a b-dry.aiff", "a b-wet.aiff"):
        (folder / name).unlink()
    x = Pairs(load_model(runs / "steered"), folder, {}).read(0).input
    np.testing.assert_array_equal(x[1], music(9)[0])


def test_settings_are_those_given_and_the_defaults(runs: Path, tmp_path: Path) -> None:
    model, folder = load_model(runs / "two"), write_pairs(tmp_path / "pairs")
    pairs = Pairs(model, folder, {"mode": "slow"})
    assert pairs.subjects[0].settings == {"ratio": 4, "mode": "slow"}
    np.testing.assert_allclose(pairs.read(0).controls, [0.5, 1.0])
    with pytest.raises(UserError, match="'mode' has no default: give --control mode=VALUE"):
        Pairs(model, folder, {"ratio": 2.0})
    with pytest.raises(UserError, match="ratio.* outside its range"):
        Pairs(model, folder, {"ratio": 20.0, "mode": "slow"})
    with pytest.raises(UserError, match="no control 'knee'"):
        Pairs(model, folder, {"knee": 20.0, "mode": "slow"})


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_manifest_says_what_belongs_together_and_how_it_was_set(
    runs: Path, tmp_path: Path, as_folder: bool
) -> None:
    path = write_manifest(tmp_path / "pairs")
    pairs = Pairs(load_model(runs / "two"), path.parent if as_folder else path, {})
    assert [subject.id for subject in pairs.subjects] == ["test"]  # the other one was learned
    np.testing.assert_array_equal(pairs.read(0).controls, [0.0, 1.0])  # in the model's order
    assert pairs.source == "the test split of the recordings of pairs/manifest.yaml"
    with pytest.raises(UserError, match="--control mode: .*says the settings of each item"):
        Pairs(load_model(runs / "two"), path, {"mode": "fast"})


def test_a_manifest_without_splits_or_controls_serves_whole(runs: Path, tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "pairs", controls=False, splits=False)
    pairs = Pairs(load_model(runs / "two"), path, {"mode": "fast"})
    assert [subject.id for subject in pairs.subjects] == ["train", "test"]
    assert pairs.subjects[0].settings == {"ratio": 4, "mode": "fast"}


def two_of_a_name(folder: Path) -> None:
    put(folder, "drums-input.aiff")


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no pairs": (lambda f: shutil.rmtree(f) or f.mkdir(), "holds no pairs: name the files NAME-"),
    "no folder": (shutil.rmtree, "cannot be read|No such file|does not exist"),
    "no output": (lambda f: (f / "drums-output.wav").unlink(), "drums-input.wav has no output"),
    "no input": (lambda f: (f / "drums-input.wav").unlink(), "drums-output.wav has no input"),
    "two of a name": (two_of_a_name, "drums-input.* have one name"),
    "two inputs": (
        lambda f: (put(f, "drums-dry.wav"), put(f, "drums-wet.wav")), "are inputs of one name"
    ),
    "another rate": (lambda f: put(f, "a b-wet.aiff", rate=48_000), "48000 Hz .* 44100"),
    "stereo": (lambda f: put(f, "a b-dry.aiff", music(0, 2)), "2 channels and the model takes 1"),
    "another length": (lambda f: put(f, "a b-wet.aiff", music(0, 1, 8999)), "8999 samples"),
    "nan": (lambda f: put(f, "a b-wet.aiff", music() * np.float32(np.nan)), "NaN or infinite"),
    "silence": (lambda f: put(f, "a b-wet.aiff", 0 * music()), "is silent"),
    "no audio": (lambda f: (f / "a b-wet.aiff").write_text("x"), "cannot be read as audio"),
    "a manifest of another rate": (
        lambda f: write_manifest(f).write_text(
            write_manifest(f, controls=False).read_text().replace(str(RATE), "48000")
        ),
        "states 48000 Hz and the model works at 44100",
    ),
    "a manifest with controls": (write_manifest, "item 'test': there is no control"),
}


def test_clipped_pairs_are_measured_and_named(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, flat = write_pairs(tmp_path / "pairs"), np.clip(9 * music(1), -1, 1)
    flat *= 0.5
    flat[0, 500:504] = 1
    put(folder, "drums-output.wav", flat)
    put(folder, "b_|-input.wav", flat), put(folder, "b_|-output.wav")
    found = evaluate(runs / "snapshot", out=tmp_path / "out", pairs=folder)
    assert len(found.items) == 3 and len(found.notes) == 2
    words = f"drums-output.wav is flat at full scale at {500 / RATE:.3f} s"
    assert words in found.summary() and found.notes[1].startswith(words)
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Note: drums-output.wav is flat" in report and "Note: b\\_\\|-input.wav is" in report
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["notes"] == [*found.notes]


def test_a_manifest_that_may_clip_has_no_notes(runs: Path, tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "pairs", controls=False)
    put(path.parent, "1-y.wav", np.clip(9 * music(1), -1, 1))
    model = load_model(runs / "snapshot")
    assert "1-y.wav is flat" in Pairs(model, path, {}).notes[0]
    path.write_text(path.read_text() + "may_clip: true\n")
    assert Pairs(model, path, {}).notes == ()


@pytest.mark.parametrize("case", ["another rate", "stereo", "another length", "nan", "silence"])
def test_every_file_is_checked_before_the_work(
    runs: Path, tmp_path: Path, case: str
) -> None:
    folder = write_pairs(tmp_path / "pairs")
    spoil, words = HOSTILE[case]
    spoil(folder)
    with pytest.raises(UserError, match=words):
        Pairs(load_model(runs / "snapshot"), folder, {})


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_folder_of_pairs_is_refused_in_one_sentence(
    runs: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pairs(tmp_path / "pairs")
    spoil, words = HOSTILE[case]
    spoil(folder)
    with pytest.raises(UserError, match=words) as refusal:
        evaluate(runs / "snapshot", out=tmp_path / "out", pairs=folder)
    assert "\n" not in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) in (["pairs"], [])


def test_the_command_evaluates_pairs(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_pairs(tmp_path / "pairs"), tmp_path / "out"
    options = ["--pairs", str(folder), "--control", "mode=slow", "--checkpoint", "last"]
    assert main(["evaluate", str(runs / "two"), *options, "--out", str(out)]) == 0
    assert "best static gain" in capsys.readouterr().out
    report = json.loads((out / "evaluation.json").read_text())
    assert report["checkpoint"] == "step-10" and report["set_fingerprint"] is None
    assert {item["settings"]["mode"] for item in report["items"]} == {"slow"}
    assert {"error-ratio.png", "error-mode.png", "a_b-input.wav"} < set(report["files"])


def test_one_pair_serves_and_a_model_without_states(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    put(folder, "$\\frac$-input.wav"), put(folder, "$\\frac$-output.wav")  # no formula
    dollar = Control("$\\a", positions=("$\\b$", "x$"), scale="list", default="x$")
    tcn = TCNConfig(n_params=1, channels=(4,), kernel_sizes=(3,), dilations=(2,), film_hidden=())
    found = evaluate(make_run(tmp_path / "tcn", tcn, [dollar]), pairs=folder)
    assert [item.id for item in found.items] == ["$\\frac$"]
    assert found.items[0].windows is not None
    assert {"gain-only.png", "error-__a.png"} < {path.name for path in found.folder.iterdir()}


@pytest.mark.parametrize(
    "options, words",
    [
        (["--pairs", "a", "--shards", "b"], "two sources"),
        (["--control", "mode=slow"], "--pairs, which is missing"),
        (["--pairs", "a", "--control", "mode"], "give NAME=VALUE"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    runs: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(runs / "two"), *options]) == 2
    assert words in capsys.readouterr().err


def test_words_of_a_command_line_are_positions_or_numbers_as_the_control_has_them() -> None:
    mode = Control("mode", scale="list", positions=("1", "01"))
    gain = Control("gain", -20, 20, default=0)
    model = cast(Model, SimpleNamespace(controls=(mode, gain)))
    assert with_defaults(model, {"mode": "01", "gain": "3"}) == {"mode": "01", "gain": 3.0}
    assert with_defaults(model, {"mode": "1"}) == {"mode": "1", "gain": 0.0}
