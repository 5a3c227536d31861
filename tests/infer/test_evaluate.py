"""An evaluation's figures are those of the streamed audio; its files hold that audio."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from tiny_run import RATE, SNAPSHOT, make_run

from sptmod_dist.audio import read, write
from sptmod_dist.data.controls import Control
from sptmod_dist.data.geometry import Needs
from sptmod_dist.data.recordings import Item, Manifest
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.errors import UserError
from sptmod_dist.figures import level_curves
from sptmod_dist.figures.level_curves import MOST_SETTINGS, CurvePair, draw
from sptmod_dist.infer.eval_names import FIGURES
from sptmod_dist.infer.eval_report import write_report
from sptmod_dist.infer.eval_tables import write_csv, write_json
from sptmod_dist.infer.evaluate import evaluate
from sptmod_dist.infer.evaluation import Errors, Evaluation, ItemResult
from sptmod_dist.infer.load import load_model
from sptmod_dist.infer.stream import stream_whole
from sptmod_dist.losses import Loss, LossConfig
from sptmod_dist.metrics import LevelCurve, best_static_gain, esr, frame_levels, level_curve
from sptmod_dist.train import checkpoint

RATIO = Control("ratio", 2, 8, "log", ":1")
STEERED = replace(SNAPSHOT, n_params=1, sidechain_channels=1)
IDS = ("clip-a-ratio2", "clip-a-ratio8", "levels-ratio2", "levels-ratio8")
LENGTH = 120_001


def compressed(audio: np.ndarray, ratio: float) -> np.ndarray:
    return np.sign(audio) * np.abs(audio) ** (1 / ratio) * 0.5


def music(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    fade = np.geomspace(0.01, 0.9, LENGTH)
    return (generator.uniform(-1, 1, (1, LENGTH)) * fade).astype(np.float32)


def make_sets(folder: Path, ids: Sequence[str], rate: int = RATE, sidechain: bool = False) -> Path:
    """The sets of a device with one control, read out of the ids: `NAME-ratioR`."""
    folder.mkdir()
    items = []
    for seed, name in enumerate(ids):
        ratio = float(name.rpartition("ratio")[2])
        dry, side, wet = (folder / f"{name}-{what}.wav" for what in ("dry", "side", "wet"))
        write(dry, music(seed), rate, "FLOAT")
        write(side, music(100 + seed), rate, "FLOAT")
        write(wet, compressed(music(seed), ratio), rate, "FLOAT")
        split = "train" if name.startswith("train") else "test"
        items.append(Item(name, dry, side if sidechain else None, wet, {"ratio": ratio}, split))
    manifest = Manifest(folder / "manifest.yaml", rate, "a curve", (RATIO,), tuple(items))
    manifest.write(manifest.path)
    needs = Needs((4096,), 4096, 1, int(sidechain), 1)
    build_sets(Manifest.read(manifest.path), folder / "sets", needs, say=lambda line: None)
    return folder / "sets" / "test"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Evaluation]:
    folder = tmp_path_factory.mktemp("evaluated")
    test_set = make_sets(folder / "recordings", IDS, sidechain=True)
    run = make_run(folder / "run", STEERED, [RATIO], test_set=test_set)
    return run, folder / "recordings", evaluate(run)


def expected_of(run: Path, recordings: Path, name: str) -> tuple[np.ndarray, ...]:
    """Input, target and prediction of an item, from the recordings themselves."""
    dry, side, wet = (read(recordings / f"{name}-{w}.wav")[0] for w in ("dry", "side", "wet"))
    wet = wet - wet.mean(axis=1, keepdims=True)  # recordings lose their DC offset
    x = torch.from_numpy(np.concatenate([dry, side]))[None]
    vector = [[RATIO.normalise(float(name.rpartition("ratio")[2]))]]
    prediction = stream_whole(load_model(run).effect, x, torch.tensor(vector))[0].numpy()
    return dry, wet, prediction


def test_every_figure_is_that_of_the_streamed_audio(evaluated: tuple) -> None:
    run, recordings, evaluation = evaluated
    assert tuple(item.id for item in evaluation.items) == IDS
    loss = Loss(LossConfig(windows=(256,)))
    for item in evaluation.items:
        x, y, prediction = expected_of(run, recordings, item.id)
        terms = loss(torch.from_numpy(prediction)[None], torch.from_numpy(y)[None])
        static = best_static_gain(x, y)
        assert item.errors.esr["model"] == pytest.approx(esr(prediction, y), rel=1e-4)
        assert item.errors.esr["unprocessed"] == pytest.approx(esr(x, y), rel=1e-4)
        assert item.errors.esr["static_gain"] == pytest.approx(static.esr, rel=1e-4)
        assert item.gain == pytest.approx(static.gain, rel=1e-4)
        assert item.loss["total"] == pytest.approx(terms.total.item(), rel=1e-4)
        assert item.samples == LENGTH


def test_pooled_figures_are_ratios_of_sums_over_the_listening_items(evaluated: tuple) -> None:
    run, recordings, evaluation = evaluated
    assert [item.id for item in evaluation.listening] == list(IDS[:2])
    pairs = [expected_of(run, recordings, name)[1:] for name in IDS[:2]]
    targets, predictions = zip(*pairs, strict=True)
    expected = esr(np.concatenate(predictions), np.concatenate(targets))
    assert evaluation.pooled.esr["model"] == pytest.approx(expected, rel=1e-4)


def test_the_example_is_the_first_listening_item(evaluated: tuple) -> None:
    run, recordings, evaluation = evaluated
    wavs = sorted(path.name for path in evaluation.folder.glob("*.wav"))
    assert wavs == [f"{IDS[0]}-{what}.wav" for what in ("input", "prediction", "target")]
    audio = expected_of(run, recordings, IDS[0])
    for what, expected in zip(("input", "target", "prediction"), audio, strict=True):
        written, rate = read(evaluation.folder / f"{IDS[0]}-{what}.wav")
        np.testing.assert_allclose(written, expected, atol=1e-6)
        assert rate == RATE


def test_the_report_is_plain_json_without_paths(evaluated: tuple) -> None:
    run, _, evaluation = evaluated
    assert evaluation.folder == run / "evaluation"
    text = (evaluation.folder / "evaluation.json").read_text()
    report = json.loads(text)
    assert report["esr"] == evaluation.pooled.esr
    assert report["checkpoint"] == "best-10"
    assert [item["id"] for item in report["items"]] == list(IDS)
    assert report["format"] == "sptmod-evaluation-2"
    names = {path.name for path in evaluation.folder.iterdir()}
    assert set(report["files"]) == names
    assert {"report.md", "items.csv", "level_curve.png", "error-ratio.png"} < names
    assert {"gain-worst.png", "gain-median.png", "gain-best.png"} < names
    assert str(run.parent) not in text


def test_the_plot_is_small_and_not_empty(evaluated: tuple) -> None:
    path = evaluated[2].folder / "level_curve.png"
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[:2] == (600, 700)
    assert path.stat().st_size < 150_000
    assert pixels.std() > 0.05


def test_level_curves_come_from_the_level_items_for_each_setting(
    evaluated: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, CurvePair] = {}
    monkeypatch.setattr(
        level_curves, "draw", lambda path, curves, names: (drawn.update(curves), path.touch())
    )
    evaluate(evaluated[0], out=tmp_path / "elsewhere", checkpoint="last")
    assert list(drawn) == ["ratio 2", "ratio 8"]
    side, _ = read(evaluated[1] / "levels-ratio2-side.wav")  # what steers
    wet, _ = read(evaluated[1] / "levels-ratio2-wet.wav")
    expected = level_curve(frame_levels(side, RATE), frame_levels(wet - wet.mean(), RATE))
    assert len(expected.input_db) > 10
    np.testing.assert_allclose(drawn["ratio 2"].target, expected, atol=0.05)
    assert len(drawn["ratio 8"].model.input_db) > 10
    assert (tmp_path / "elsewhere" / "evaluation.json").is_file()


def result(name: str, model: float, static: float = 2.0, target: float = 8.0) -> ItemResult:
    errors = Errors(unprocessed=4.0, static_gain=static, model=model, target=target)
    none: dict[str, float | None] = dict.fromkeys(FIGURES)
    figures = {way: none | {"loss": 2 * model, "esr": e} for way, e in errors.esr.items()}
    return ItemResult(name, {}, 10, 0.5, {"total": 2 * model}, errors, {}, figures)


def test_the_summary_is_a_table_with_the_three_ways_as_columns() -> None:
    items = (result("clip-a", 0.5), result("clip-bb", 0.3), result("levels", 7.7))
    lines = Evaluation(Path("out"), "best-10", items).summary().splitlines()
    rows = {cells[0]: cells[1:] for cells in (re.split(r" {2,}", line) for line in lines[:-8])}
    assert rows[""] == ["model", "best static gain", "unprocessed"]
    assert rows["loss"] == ["5.6667"] * 3
    assert rows["ESR, pooled"] == ["0.0500", "0.2500", "0.5000"]
    assert rows["attack error, ms"] == ["-", "-", "-"]
    assert "ESR 0.0500 against 0.2500 of the best static gain: 0.200 of it" in lines
    worst = [line.split() for line in lines[-4:-1]]
    assert worst == [["15.4000", "levels"], ["1.0000", "clip-a"], ["0.6000", "clip-bb"]]


def test_without_listening_items_all_count() -> None:
    evaluation = Evaluation(Path("out"), "best-10", (result("x", 0.5), result("y", 1.5)))
    assert evaluation.pooled.model == 2.0
    assert evaluation.loss == 2.0


def test_figures_that_do_not_exist_are_null_and_empty_and_dashes(tmp_path: Path) -> None:
    items = (result("x", math.nan, target=0.0), result("y", 1.0))
    evaluation = Evaluation(tmp_path, "best-10", items)
    write_json(tmp_path / "evaluation.json", evaluation, [])
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["esr"]["model"] is None and report["worst_first"] == ["x", "y"]
    assert report["loss"] is None  # not that of the others
    assert report["items"][0]["figures"]["model"]["esr"] is None
    write_csv(tmp_path / "items.csv", evaluation)
    (first, _) = csv.DictReader((tmp_path / "items.csv").open())
    assert first["model.loss"] == first["model.esr"] == first["wt.total"] == ""
    write_report(tmp_path / "report.md", evaluation, {})
    for words in (evaluation.summary(), (tmp_path / "report.md").read_text()):
        assert not re.search(r"\b(nan|inf|none)\b", words.lower())


@pytest.mark.parametrize("settings", [[""], [f"ratio {n}" for n in range(20)]])
def test_any_number_of_settings_can_be_drawn(tmp_path: Path, settings: list[str]) -> None:
    curve = LevelCurve(np.linspace(-60, 0, 61), np.linspace(-50, -20, 61))
    empty = LevelCurve(np.zeros(0), np.zeros(0))
    draw(tmp_path / "plot.png", {setting: CurvePair(curve, empty) for setting in settings})
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    assert MOST_SETTINGS < 20


@pytest.mark.parametrize(
    "case, words",
    [
        ("no run", "is no run"),
        ("no test set", "names no test set .data.test.: give a set with --shards"),
        ("missing set", "missing"),
        ("training set", "sequences, no whole recordings"),
        ("another rate", "sample_rate 22050.* instead of 44100"),
        ("no sidechain", "sidechain_channels 0.* instead of 1"),
        ("another range", "controls"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_words(
    evaluated: tuple, tmp_path: Path, case: str, words: str
) -> None:
    run, recordings, _ = evaluated
    shards: Path | None = recordings / "sets" / "test"
    if case == "no run":
        run = tmp_path / "nowhere"
    elif case == "no test set":
        run, shards = make_run(tmp_path / "run", STEERED, [RATIO]), None
    elif case == "missing set":
        shards = tmp_path / "missing"
    elif case == "training set":
        make_sets(tmp_path / "sets", ["train-ratio2"], sidechain=True)
        shards = tmp_path / "sets" / "sets" / "train"
    elif case == "another rate":
        shards = make_sets(tmp_path / "sets", IDS[:1], 22_050, sidechain=True)
    elif case == "no sidechain":
        shards = make_sets(tmp_path / "sets", IDS[:1])
    elif case == "another range":
        run = make_run(tmp_path / "run", STEERED, [replace(RATIO, maximum=9)])
    out = tmp_path / "out"
    with pytest.raises(UserError, match=words) as refusal:
        evaluate(run, shards, out)
    assert "\n" not in str(refusal.value)
    assert not out.exists()


def test_a_model_that_gives_no_numbers_is_not_measured(
    evaluated: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, recordings, _ = evaluated

    def broken(*arguments: Any) -> torch.Tensor:
        streamed = stream_whole(*arguments).clone()
        streamed[..., -5:] = torch.nan
        return streamed

    monkeypatch.setattr("sptmod_dist.infer.evaluate.stream_whole", broken)
    with pytest.raises(UserError, match="output for item '.*' is not finite"):
        evaluate(run, recordings / "sets" / "test", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_averaged_weights_are_what_is_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", STEERED, [RATIO])
    plain = load_model(run).effect.state_dict()
    for path in (run / "checkpoints").iterdir():
        saved = checkpoint.load(path)
        halves = {name: weight / 2 for name, weight in saved.weights.items()}
        checkpoint.save(path.parent, path.name, replace(saved, averages=halves))
    found = load_model(run).effect.state_dict()
    assert all(torch.equal(found[name], weight / 2) for name, weight in plain.items())
