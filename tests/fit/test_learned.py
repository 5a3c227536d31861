"""What was learned is said as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sptmod_dist.fit import learned
from sptmod_dist.infer.evaluation import Errors, Evaluation, ItemResult
from sptmod_dist.metrics import LevelCurve


def evaluation(knob: float, model: float) -> Evaluation:
    item = ItemResult("test-0", {}, 1000, 0.5, {"total": 1.0}, Errors(1.0, knob, model, 1.0))
    return Evaluation(Path("out"), "best", (item,))


@pytest.mark.parametrize(
    ("knob", "model", "words"),
    [
        (0.2, 0.01, "The device is learned: -20.0 dB of error against -7.0 dB"),
        (0.2, 0.1, "learned in part: -10.0 dB of error against -7.0 dB"),
        (0.2, 0.25, "Little is learned: -6.0 dB of error against -7.0 dB"),
        (1e-6, 1e-7, "hardly more than a volume knob, which comes to -60.0 dB"),
        (0.0, 0.0, "hardly more than a volume knob"),
    ],
)
def test_the_verdict_is_by_the_share_of_the_best_volume_knobs_error(knob, model, words):
    assert words in learned._verdict(evaluation(knob, model))


@pytest.mark.parametrize(
    ("best_esr", "words"),
    [(None, ""), (0.0, ""), (1e-4, "below -40.0 dB."), (0.008, "This one is nearly there")],
)
def test_the_noise_of_the_recording_is_a_bound(best_esr, words):
    lines = learned._bound(evaluation(0.2, 0.01), best_esr)
    assert words in "".join(lines) and bool(lines) == bool(words)
    assert ("nearly there" in "".join(lines)) == (best_esr == 0.008)


def test_levels_are_shown_from_the_lowest_to_the_highest():
    levels = np.arange(-60.0, 0.0)
    table = learned._levels(LevelCurve(levels, levels / 2), LevelCurve(levels, levels / 4))
    rows = [line.split()[-learned.MOST_LEVELS :] for line in table]
    figures = np.array(rows, float)
    assert figures[0, 0] == -60 and figures[0, -1] == -1
    assert np.abs(figures[1] - figures[0] / 2).max() < 0.1
    assert np.abs(figures[2] - figures[0] / 4).max() < 0.1
