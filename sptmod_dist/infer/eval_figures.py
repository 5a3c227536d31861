"""The pictures of an evaluation: what is shown of which item, and under which name.

It chooses; the drawing itself is in `figures`. It knows results and levels, not models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sptmod_dist.data.controls import Control, Setting, shown
from sptmod_dist.figures import control_errors, gain, level_curves
from sptmod_dist.figures.level_curves import CurvePair
from sptmod_dist.infer.eval_folder import safe_name
from sptmod_dist.infer.eval_measures import Levels
from sptmod_dist.infer.eval_names import short, written
from sptmod_dist.infer.evaluation import LEVELS, Evaluation, ItemResult, chosen, in_words
from sptmod_dist.metrics import FRAME_SECONDS, frame_samples, gain_of_levels, level_curve

LEVEL_CURVE = "level_curve.png"
STRETCH_SECONDS = 4.0
"""Of an item, whose gain is drawn."""


def draw_figures(
    folder: Path, evaluation: Evaluation, levels: Mapping[str, Levels]
) -> dict[str, str]:
    """Draw all pictures of an evaluation.

    Args:
        folder: for the PNG files.
        evaluation: the results.
        levels: of every item, by its id.

    Returns:
        Captions by file name, in the order of a report.
    """
    _draw_curves(folder / LEVEL_CURVE, evaluation.items, levels)
    captions = {LEVEL_CURVE: "Output level over input level: the device and the model"}
    for name, item in _shown(evaluation.worst_first).items():
        captions[f"gain-{name}.png"] = _draw_gain(
            folder / f"gain-{name}.png",
            f"the {name} item",
            item,
            levels[item.id],
            frame_samples(evaluation.sample_rate) / evaluation.sample_rate,
        )
    for number, control in enumerate(evaluation.controls, 1):
        name = f"error-{safe_name(control.name)}.png"
        if name in captions:  # of two names that differ in what no file's name can hold
            name = f"error-{number}-{safe_name(control.name)}.png"
        _draw_errors(folder / name, control, evaluation.items)
        captions[name] = f"Errors against {control.name}: a dot an item, lines for their means"
    return captions


def _draw_curves(path: Path, items: Sequence[ItemResult], levels: Mapping[str, Levels]) -> None:
    """Both curves for each setting of the controls, over all its items together."""
    by_setting: dict[tuple[Setting, ...], list[Levels]] = {}
    chosen_items = chosen(items, LEVELS)
    for item in chosen_items:
        by_setting.setdefault(tuple(item.settings.values()), []).append(levels[item.id])
    names = list(chosen_items[0].settings)
    curves = {}
    for values, parts in by_setting.items():
        joined = Levels(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        label = _label(names, values, short)
        curves[_label(names, values, shown) if label in curves else label] = CurvePair(
            level_curve(joined.steering, joined.target), level_curve(joined.steering, joined.model)
        )
    level_curves.draw(path, curves, " / ".join(names) if len(names) > 1 else "")


def _label(
    names: Sequence[str], values: Sequence[Setting], write: Callable[[Setting], str]
) -> str:
    """One control with its name; of several the values alone."""
    words = [write(value) for value in values]
    return f"{names[0]} {words[0]}" if len(names) == 1 else " / ".join(words)


def _shown(worst_first: Sequence[ItemResult]) -> dict[str, ItemResult]:
    """The worst, the median and the best item, each once."""
    if len(worst_first) == 1:
        return {"only": worst_first[0]}
    middle = (len(worst_first) - 1) // 2
    places = {"worst": 0, "median": middle, "best": len(worst_first) - 1}
    first = {place: name for name, place in reversed(places.items())}
    return {name: worst_first[at] for name, at in places.items() if first[at] == name}


def _draw_gain(path: Path, which: str, item: ItemResult, levels: Levels, frame: float) -> str:
    """Draw the gain of an item where the device's moves most, by frames of so many seconds; returns
    the caption."""
    device, model = (gain_of_levels(levels.input, out) for out in (levels.target, levels.model))
    part = _liveliest(device)
    seconds = (np.arange(len(device)) + 0.5) * frame
    error = written(item.figures["model"]["gain_error_db"], 2)
    title = f"{which}: {_short(item.id)}, gain error {error} dB"
    gains = {"device": device[part], "model": model[part]}
    gain.draw(path, title, seconds[part], levels.input[part], gains)
    setting = f" ({in_words(item.settings)})" if item.settings else ""
    return f"Gain over time, {which}: {item.id}{setting}"


def _liveliest(device: np.ndarray) -> slice:
    """The stretch in which a gain is spread most."""
    length = round(STRETCH_SECONDS / FRAME_SECONDS)
    if len(device) <= length:
        return slice(None)
    heard = np.isfinite(device)
    gain, count = np.where(heard, device, 0.0), heard.astype(float)
    n, total, squares = (_sums(a, length) for a in (count, gain, np.square(gain)))
    spread = np.maximum(squares - np.square(total) / np.maximum(n, 1), 0)
    start = int(np.argmax(spread))
    return slice(start, start + length)


def _sums(values: np.ndarray, length: int) -> np.ndarray:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return sums[length:] - sums[:-length]


def _draw_errors(path: Path, control: Control, items: Sequence[ItemResult]) -> None:
    places = [control.normalise(item.settings[control.name]) for item in items]
    unit = f" ({control.unit})" if control.unit else ""
    axis = control_errors.Axis(f"{control.name}{unit}", places, list(_ticks(control)))
    ways = {"model": "model", "static_gain": "best static gain"}
    gains, esrs = (
        {title: [_value(item, way, name) for item in items] for way, title in ways.items()}
        for name in ("gain_error_db", "esr")
    )
    in_db = {title: [_decibels(value) for value in values] for title, values in esrs.items()}
    panels = [
        control_errors.Panel("gain error, dB", gains, from_zero=True),
        control_errors.Panel("ESR, dB", in_db),
    ]
    control_errors.draw(path, axis, panels)


def _value(item: ItemResult, way: str, name: str) -> float | None:
    value = item.figures[way][name]
    return value if value is not None and math.isfinite(value) else None


def _decibels(esr: float | None) -> float | None:
    if esr is None:
        return None
    return max(10 * math.log10(max(esr, 1e-30)), control_errors.LOWEST_ESR_DB)


def _ticks(control: Control) -> Iterator[tuple[float, str]]:
    """Every position of a switch; five settings of a range, rounded for people."""
    if control.positions:
        yield from ((control.normalise(place), shown(place)) for place in control.positions)
        return
    for n in range(5):
        yield n / 4, short(control.at(n / 4))


def _short(name: str, most: int = 32) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
