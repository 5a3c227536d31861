"""The figures of an item: zeros for the device itself, known ones for known distortions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from metrics.compressors import compressed

from sptmod_dist.data.shards import Sequence
from sptmod_dist.infer.eval_items import Subject
from sptmod_dist.infer.eval_measures import Levels, measure
from sptmod_dist.infer.eval_names import FIGURES
from sptmod_dist.infer.evaluation import ItemResult, Windows
from sptmod_dist.losses import Loss, LossTerms

RATE = 16_000
LOSS = Loss()


def item(channels: int = 1, sidechain: int = 0, **how: float) -> Sequence:
    """The tone steps through a compressor, after 3 s of noise that rises."""
    noise = np.random.default_rng(2).uniform(-1, 1, (1, 3 * RATE)) * np.geomspace(1e-4, 1, 3 * RATE)
    x, y = compressed(RATE, **how)
    x, y = np.concatenate([noise, x], axis=1), np.concatenate([0.5 * noise, y], axis=1)
    plain, target = (np.tile(a, (channels, 1)).astype(np.float32) for a in (x, y))
    side = np.tile(plain[:1], (sidechain, 1))  # a key that steps as the audio does
    return Sequence(np.concatenate([plain, side]), target, np.zeros(0, np.float32))


def measured(
    recording: Sequence, prediction: np.ndarray, windows: Windows | None = None
) -> tuple[ItemResult, Levels]:
    return measure(Subject("x", {}), recording, prediction, LOSS, RATE, windows)


def figures(recording: Sequence, prediction: np.ndarray) -> dict[str, float | None]:
    return measured(recording, prediction)[0].figures["model"]


@pytest.mark.parametrize("channels, sidechain", [(1, 0), (2, 0), (1, 1)])
def test_the_device_itself_has_zeros_everywhere(channels: int, sidechain: int) -> None:
    recording = item(channels, sidechain)
    found = figures(recording, recording.output)
    assert list(found) and set(found) == set(FIGURES)
    assert found == dict.fromkeys(FIGURES, 0.0)


def test_one_decibel_is_one_decibel_of_gain_and_of_loudness() -> None:
    recording, factor = item(), 10 ** (1 / 20)
    found = figures(recording, (factor * recording.output).astype(np.float32))
    assert found["gain_error_db"] == pytest.approx(1, abs=1e-4)
    assert found["gain_error_p95_db"] == pytest.approx(1, abs=1e-4)
    assert found["lufs_difference"] == pytest.approx(1, abs=1e-3)
    for kind in ("esr", "esr_pre_emphasised", "esr_a_weighted"):
        assert found[kind] == pytest.approx((factor - 1) ** 2, rel=1e-4)
    assert found["attack_error_ms"] == pytest.approx(0, abs=0.01)
    assert found["release_error_ms"] == pytest.approx(0, abs=0.01)


def test_a_gain_that_comes_5_ms_later_is_a_timing_error_of_5_ms() -> None:
    found = figures(item(), item(delay=0.005).output)
    assert found["attack_error_ms"] == pytest.approx(5, abs=1)
    assert found["release_error_ms"] == pytest.approx(5, abs=1)


def test_the_steps_are_those_of_the_sidechain_where_there_is_one() -> None:
    on, off = item(sidechain=1), item(sidechain=1)
    off.input[1] = 0
    assert figures(on, item(delay=0.005).output)["attack_error_ms"] == pytest.approx(5, abs=1)
    assert figures(off, item(delay=0.005).output)["attack_error_ms"] is None


def test_a_rumble_and_a_hiss_weigh_as_they_are_heard() -> None:
    recording = item()
    time = np.arange(recording.output.shape[1]) / RATE
    tones = {hertz: 0.01 * np.sin(2 * np.pi * hertz * time) for hertz in (50, 3000)}
    low, high = (
        figures(recording, (recording.output + tone).astype(np.float32)) for tone in tones.values()
    )
    assert low["esr"] == pytest.approx(high["esr"], rel=1e-3)
    ratio = high["esr_a_weighted"] / low["esr_a_weighted"]
    assert 10 * math.log10(ratio) == pytest.approx(1.2 + 30.2, abs=0.2)  # the standard's weights
    gain = abs(np.array([1 - 0.85 * np.exp(-2j * np.pi * hertz / RATE) for hertz in tones])) ** 2
    emphasis = high["esr_pre_emphasised"] / low["esr_pre_emphasised"]
    assert emphasis == pytest.approx(gain[1] / gain[0], rel=1e-2)


def test_the_floors_are_the_input_and_the_best_gain_on_it() -> None:
    recording = item()
    result, levels = measured(recording, recording.output)
    x, y = recording.input.astype(np.float64), recording.output.astype(np.float64)
    gain = float((x * y).sum() / (x * x).sum())
    assert result.gain == pytest.approx(gain, rel=1e-6)
    for way, audio in (("unprocessed", x), ("static_gain", gain * x)):
        assert result.figures[way]["esr"] == pytest.approx(((audio - y) ** 2).sum() / (y**2).sum())
        terms = LOSS(*(torch.tensor(a, dtype=torch.float32)[None] for a in (audio, y)))
        assert result.figures[way]["loss"] == pytest.approx(terms.total.item(), rel=1e-4)
        assert result.figures[way]["attack_error_ms"] is None
    assert np.array_equal(levels.target, levels.model)


def test_an_item_shorter_than_a_window_of_the_loss_has_none() -> None:
    short = Sequence(*(a[..., :2000] for a in item()[:2]), np.zeros(0, np.float32))
    result, _ = measured(short, short.output)
    assert result.loss == {} and result.figures["model"]["loss"] is None
    assert result.figures["model"]["esr"] == 0 and result.error == 0
    assert result.figures["model"]["lufs_difference"] is None


def test_a_model_that_gives_nan_has_no_figures_and_is_the_worst() -> None:
    recording = item()
    result, _ = measured(recording, recording.output * np.float32(np.nan))
    known = [v for v in result.figures["model"].values() if v is not None and math.isfinite(v)]
    assert known == [1.0]  # the share of the steps that it misses


def test_the_loss_over_the_whole_item_is_taken_from_whoever_has_it() -> None:
    terms = dict.fromkeys(LossTerms._fields, 7.0)
    result, _ = measured(item(), item().output, Windows({}, {}, terms))
    assert result.loss == terms and result.figures["model"]["loss"] == 7
    assert result.figures["unprocessed"]["loss"] != 7
