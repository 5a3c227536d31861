"""Pictures are written whole, in their size, whatever the numbers are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from sptmod_dist.figures import control_errors, gain
from sptmod_dist.figures.control_errors import Axis, Panel
from sptmod_dist.figures.gain import draw_gain
from sptmod_dist.figures.level_curves import MOST_SETTINGS, CurvePair, fill
from sptmod_dist.metrics import LevelCurve

SECONDS = np.arange(400) / 100
NAN = np.full(400, np.nan)


def gains(**by_name: np.ndarray) -> dict[str, np.ndarray]:
    return by_name


@pytest.mark.parametrize(
    "device, model",
    [(-10 * np.sin(SECONDS), -9 * np.sin(SECONDS)), (NAN, NAN), (0 * SECONDS, NAN)],
    ids=["moving", "inaudible", "a broken model"],
)
def test_a_gain_is_drawn_whatever_it_is(
    tmp_path: Path, device: np.ndarray, model: np.ndarray
) -> None:
    path = tmp_path / "gain.png"
    gain.draw(path, "a title", SECONDS, device - 200, {"device": device, "model": model})
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[:2] == (600, 1000) and path.stat().st_size < 200_000
    assert [entry.name for entry in tmp_path.iterdir()] == ["gain.png"]


def test_gaps_stay_gaps_and_a_still_gain_looks_still() -> None:
    axes = Figure().add_subplot()
    device = np.where(SECONDS < 2, -6.0, np.nan)
    draw_gain(axes, SECONDS, {"device": device, "model": device + 0.1})
    first, second = axes.get_lines()[:2]
    np.testing.assert_array_equal(first.get_ydata(), device)
    assert (first.get_label(), second.get_label()) == ("device", "model")
    low, high = axes.get_ylim()
    assert high - low >= 3 and low < -6 < high


def test_single_frames_at_an_onset_do_not_squeeze_the_rest() -> None:
    axes = Figure().add_subplot()
    device = -6 * np.abs(np.sin(SECONDS))
    device[7] = 80
    draw_gain(axes, SECONDS, {"device": device})
    assert axes.get_ylim()[1] < 10


def test_level_curves_fill_axes_of_somebody_else() -> None:
    axes = Figure().add_subplot()
    curve = LevelCurve(np.linspace(-60, 0, 61), np.linspace(-50, -20, 61))
    fill(axes, {f"ratio {n}": CurvePair(curve, curve) for n in range(9)})
    assert len(axes.get_lines()) == 2 * MOST_SETTINGS + 1
    assert "6 of 9 settings" in axes.get_title()


PLACES = [0.0, 0.5, 0.5, 1.0]
TICKS = [(0.0, "2"), (1.0, "8")]
ERRORS: dict[str, Callable[[], dict[str, list[float | None]]]] = {
    "some": lambda: {"model": [1.0, 2.0, None, 4.0], "static": [9.0, 9.0, 9.0, None]},
    "none": lambda: {"model": [None] * 4, "static": [None] * 4},
    "zeros": lambda: {"model": [0.0] * 4, "static": [0.0] * 4},
}


@pytest.mark.parametrize("errors", ERRORS)
def test_errors_against_a_control_are_drawn_whatever_they_are(tmp_path: Path, errors: str) -> None:
    panels = [Panel("a, dB", ERRORS[errors](), from_zero=True), Panel("b, dB", ERRORS[errors]())]
    control_errors.draw(tmp_path / "e.png", Axis("ratio (:1)", PLACES, TICKS), panels)
    assert matplotlib.image.imread(tmp_path / "e.png").shape[:2] == (700, 800)


def test_the_line_goes_through_the_means_of_the_items() -> None:
    axes = Figure().add_subplot()
    panel = Panel("a", {"model": [1.0, 2.0, 4.0, 5.0]})
    control_errors._fill(axes, Axis("x", PLACES, TICKS), panel)
    dots, line = axes.get_lines()
    np.testing.assert_array_equal(dots.get_ydata(), [1, 2, 4, 5])
    np.testing.assert_array_equal(line.get_xydata(), [[0, 1], [0.5, 3], [1, 5]])


def test_a_curve_of_one_level_is_a_dot() -> None:
    axes = Figure().add_subplot()
    one, two = (LevelCurve(np.arange(n) - 9.0, np.arange(n) - 9.0) for n in (1, 2))
    fill(axes, {"one": CurvePair(one, one), "two": CurvePair(two, two)})
    assert [line.get_marker() for line in axes.get_lines()[1:]] == ["o", "o", "None", "None"]
