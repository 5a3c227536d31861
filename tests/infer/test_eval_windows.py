"""WT and ST of an evaluation are those of training's validation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import RATE, make_toy

from sptmod_dist.data.shards import Sequence, ShardSet
from sptmod_dist.infer.eval_windows import Windowed
from sptmod_dist.infer.evaluate import evaluate
from sptmod_dist.infer.evaluation import windows_means
from sptmod_dist.infer.load import load_model
from sptmod_dist.losses import Loss
from sptmod_dist.train.main import train


@pytest.fixture(scope="module", params=[True, False], ids=["spn", "no spn"])
def toy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    model = {} if request.param else {"model": {"spn": None}}
    train(make_toy(folder, stopping={"max_iterations": 6}, **model))
    return folder


def last_validation(folder: Path) -> dict[str, dict[str, float]]:
    lines = (folder / "runs" / "toy" / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[-1])


def test_both_are_those_of_the_last_validation(toy: Path, tmp_path: Path) -> None:
    found = evaluate(
        toy / "runs" / "toy", toy / "shards" / "validation", tmp_path / "out", "last"
    )
    windows, expected = windows_means(found.items), last_validation(toy)
    assert windows is not None
    for term, value in windows.wt.items():
        assert value == pytest.approx(expected["wt"][term], rel=1e-5)
        assert windows.st[term] == pytest.approx(expected["st"][term], rel=1e-5)
    assert found.loss == pytest.approx(expected["st_whole"]["total"], rel=1e-5)
    assert found.sample_rate == RATE
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert report["st_minus_wt"] == pytest.approx(windows.gap)


def test_an_item_shorter_than_a_window_has_no_wt(toy: Path) -> None:
    model = load_model(toy / "runs" / "toy", "last")
    windowed = Windowed(model, Loss(model.config.loss))
    x, y, controls = ShardSet.open(toy / "shards" / "validation").item(0)
    length = model.config.model.plan(64).input_length + 32 + 48
    whole = Sequence(x[:, :length], y[:, :length], controls)
    assert windowed.measure(whole, torch.from_numpy(whole.output)[None]) is not None
    short = Sequence(x[:, : length - 1], y[:, : length - 1], np.asarray(controls))
    assert windowed.measure(short, torch.from_numpy(short.output)[None]) is None
