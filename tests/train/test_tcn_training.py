"""Whatever takes a run takes one of the gain TCN: training, resuming, evaluating, rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models import TCN
from toy import make_toy, toy_config

from sptmod_dist import audio, settings
from sptmod_dist.cli import main
from sptmod_dist.errors import UserError
from sptmod_dist.infer.load import load_model
from sptmod_dist.infer.stream import stream_whole
from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.main import train
from sptmod_dist.train.run_folder import RunFolder

MODEL: dict[str, Any] = settings.to_plain(TCN) | {"n_params": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tcn")
    assert train(make_toy(folder, name="whole", model=MODEL)) == 0
    return folder


def last(folder: Path, name: str) -> Checkpoint:
    found = RunFolder(folder / "runs" / name).last_checkpoint()
    assert found is not None
    return found[1]


def test_resumed_equals_uninterrupted(folder: Path) -> None:
    short = toy_config(folder, name="parts", model=MODEL, stopping={"max_iterations": 9})
    assert train(short) == 0
    assert train(toy_config(folder, name="parts", model=MODEL), "auto") == 0
    whole, parts = last(folder, "whole"), last(folder, "parts")
    assert set(whole.weights) == set(parts.weights)
    assert all(torch.equal(whole.weights[name], parts.weights[name]) for name in whole.weights)
    assert all(torch.equal(whole.moments[name], parts.moments[name]) for name in whole.moments)


def test_it_is_evaluated_and_rendered_as_any_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = str(folder / "runs" / "whole"), folder / "out.wav"
    assert main(["evaluate", run]) == 0
    assert "ESR" in capsys.readouterr().out
    source = folder / "recordings" / "test0-in.wav"
    assert main(["render", run, str(source), str(out), "--control", "drive=2"]) == 0
    model = load_model(run)
    x = torch.from_numpy(audio.read(source)[0])[None]
    wanted = stream_whole(model.effect, x, torch.tensor([[1 / 9]]))
    torch.testing.assert_close(torch.from_numpy(audio.read(out)[0])[None], wanted)


def test_another_one_is_not_gone_on_with(folder: Path) -> None:
    other = toy_config(folder, name="whole", model=MODEL | {"film_hidden": [5]})
    with pytest.raises(UserError, match=r"model\.film_hidden"):
        train(other, "auto")
