"""Tones go through a model under each setting, settled, and what they leave is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_run import RATE, SNAPSHOT, make_run

from sptmod_dist.data.controls import Control
from sptmod_dist.infer import eval_aliasing as module
from sptmod_dist.infer.eval_aliasing import MOST_SETTINGS, measure_aliasing
from sptmod_dist.infer.eval_items import Subject
from sptmod_dist.infer.load import Model, load_model

RATIO = Control("ratio", 2, 8, "log", ":1")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    config = replace(SNAPSHOT, n_params=1, sidechain_channels=1)
    return load_model(make_run(tmp_path / "run", config, [RATIO]))


def subjects(*ratios: float) -> list[Subject]:
    return [Subject(f"{n}", {"ratio": ratio}) for n, ratio in enumerate(ratios)]


def test_each_setting_is_probed_once_with_every_tone(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gain that shakes by a tenth of the normalised control, and starts with a bang."""
    calls: list[tuple[int, int]] = []

    def shake(effect: object, x: torch.Tensor, controls: torch.Tensor) -> torch.Tensor:
        calls.append((len(controls), x.shape[-1]))
        assert x.shape[1] == 2 and torch.equal(x[:, 0], x[:, 1])
        time = torch.arange(x.shape[-1], dtype=torch.float64) / RATE
        wave = torch.cos(2 * torch.pi * 300 * time) * controls[:, :, None] / 10
        return x[:, :1] * (1 + wave + 9 * (time < 1.9))

    monkeypatch.setattr(module, "stream_whole", shake)
    found = measure_aliasing(model, subjects(4, 8, 4, 8, 2))
    assert [one.settings["ratio"] for one in found] == [4, 8, 2]
    assert [list(one.tones) for one in found] == [[997, 4999, 10_007]] * 3
    worst = [one.worst_db for one in found]
    assert worst[:2] == pytest.approx([-20 - 6.02 - 3.01, -20 - 3.01], abs=0.01)
    assert worst[2] is not None and worst[2] < -120
    assert calls == [(3, 3 * RATE)] * 3


def test_a_model_is_probed_as_it_streams(model: Model) -> None:
    (found,) = measure_aliasing(model, subjects(4))
    for spurs in found.tones.values():
        assert spurs is not None and -140 < spurs.aliasing_db < 20


def test_many_settings_are_thinned_evenly(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "stream_whole", lambda effect, x, controls: x[:, :1].expand(len(controls), -1, -1)
    )
    found = measure_aliasing(model, subjects(*(2 + n / 10 for n in range(50))))
    ratios = [one.settings["ratio"] for one in found]
    assert len(ratios) == MOST_SETTINGS and ratios[0] == 2 and ratios[-1] == 6.9


def test_silence_has_no_aliasing(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "stream_whole", lambda effect, x, c: torch.zeros(len(c), 1, x.shape[-1])
    )
    (found,) = measure_aliasing(model, subjects(4))
    assert found.worst_db is None
