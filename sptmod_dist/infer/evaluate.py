"""Evaluation: a run's effect, streamed over recordings that it never saw, beside what is simpler.

Each item runs from start to end as in use (ST). Its ESR stands beside that of the best static gain,
chosen for each item with the target known: a hard baseline for a compressor. Results go to
RUN/evaluation. It knows runs and sets of items, not how either is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from sptmod_dist import audio
from sptmod_dist.data.controls import Setting, shown
from sptmod_dist.data.geometry import Geometry
from sptmod_dist.data.places import is_pipe
from sptmod_dist.data.remote import open_source
from sptmod_dist.data.shard_index import Item
from sptmod_dist.data.shards import Sequence, ShardSet
from sptmod_dist.errors import UserError
from sptmod_dist.figures.level_curves import CurvePair, draw
from sptmod_dist.infer.evaluation import (
    LEVELS,
    LISTENING,
    Errors,
    Evaluation,
    ItemResult,
    chosen,
    write_json,
)
from sptmod_dist.infer.load import Model, load_model
from sptmod_dist.infer.stream import stream_whole
from sptmod_dist.losses import Loss
from sptmod_dist.metrics import (
    best_static_gain,
    energy,
    error_energy,
    frame_levels,
    level_curve,
)


def evaluate(
    run: Path,
    shards: str | Path | None = None,
    out: Path | None = None,
    checkpoint: Literal["best", "last"] = "best",
) -> Evaluation:
    """Measure a run on a set of whole items and write evaluation.json, a plot and an example.

    Args:
        run: the run's folder.
        shards: a validation or test set; the run's own test set (`data.test`) if None.
        out: where results go; RUN/evaluation if None. Earlier results there are replaced.
        checkpoint: which of the run's.

    Raises:
        UserError: no such run or set, or a set that was made for another model.
    """
    model = load_model(run, checkpoint)
    items = _open(model, run, shards)
    out = out or run / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    results = tuple(_over_items(model, items, out))
    evaluation = Evaluation(out, model.source.name, results)
    write_json(out / "evaluation.json", evaluation, items.fingerprint)
    return evaluation


def _open(model: Model, run: Path, shards: str | Path | None) -> ShardSet:
    data = model.config.data
    where = shards or data.test
    if not where:
        raise UserError(f"{run} names no test set (data.test): give a set with --shards")
    if shards is None and is_pipe(where):  # a run may come from anybody
        raise UserError(
            f"data.test of {run} is a command, which is not run out of a run's folder: give the "
            "set with --shards"
        )
    items = ShardSet.of(open_source(where, data.cache_folder, data.cache_gigabytes))
    items.require(_needed(model, items.geometry))
    items.item(0)  # refuses a set of pieces before anything is written
    return items


def _needed(model: Model, has: Geometry) -> Geometry:
    """Whole items serve any lengths; rate, channels and controls must be the model's."""
    return replace(
        has,
        sample_rate=model.sample_rate,
        input_channels=model.architecture.input_channels,
        sidechain_channels=model.architecture.sidechain_channels,
        controls=model.controls,
    )


class _Levels(NamedTuple):
    """Frame levels [K] of what steers, of the target and of the model."""

    input: np.ndarray
    target: np.ndarray
    model: np.ndarray


def _over_items(model: Model, items: ShardSet, out: Path) -> Iterator[ItemResult]:
    """Stream every item once, for all that is made of it; the plot comes last."""
    loss, levels = Loss(model.config.loss), {}
    example = chosen(items.items, LISTENING)[0].id
    for number, item in enumerate(items.items):
        recording = items.item(number)
        prediction = _predict(model, recording)
        if item.id == example:
            _write_example(out, item.id, recording, prediction, model.sample_rate)
        levels[item.id] = _levels(recording, prediction, model.sample_rate)
        yield _result(loss, item, recording, prediction)
    draw(out / "level_curve.png", _curves(items.items, levels))


def _predict(model: Model, recording: Sequence) -> np.ndarray:
    """The streamed output [C, T]."""
    x, controls = (torch.from_numpy(a)[None] for a in (recording.input, recording.controls))
    return stream_whole(model.effect, x, controls)[0].float().numpy()


def _result(loss: Loss, item: Item, recording: Sequence, prediction: np.ndarray) -> ItemResult:
    target = recording.output
    plain = recording.input[: len(target)]
    static = best_static_gain(plain, target)
    terms = loss(*(torch.from_numpy(a)[None] for a in (prediction, target)))
    errors = Errors(
        unprocessed=error_energy(plain, target),
        static_gain=static.error,
        model=error_energy(prediction, target),
        target=energy(target),
    )
    values = {name: float(value) for name, value in terms._asdict().items()}
    return ItemResult(item.id, item.settings, target.shape[-1], static.gain, values, errors)


def _levels(recording: Sequence, prediction: np.ndarray, rate: int) -> _Levels:
    audio_channels = len(recording.output)
    steering = recording.input[audio_channels:]  # the sidechain, where there is one
    if not len(steering):
        steering = recording.input
    return _Levels(*(frame_levels(a, rate) for a in (steering, recording.output, prediction)))


def _curves(items: Iterable[Item], levels: Mapping[str, _Levels]) -> dict[str, CurvePair]:
    """Both curves for each setting of the controls, over all its items together."""
    by_setting: dict[str, list[_Levels]] = {}
    for item in chosen(items, LEVELS):
        by_setting.setdefault(_in_words(item.settings), []).append(levels[item.id])
    curves = {}
    for setting, parts in by_setting.items():
        steering, target, model = (np.concatenate(column) for column in zip(*parts, strict=True))
        curves[setting] = CurvePair(level_curve(steering, target), level_curve(steering, model))
    return curves


def _in_words(settings: Mapping[str, Setting]) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in settings.items())


def _write_example(
    out: Path, name: str, recording: Sequence, prediction: np.ndarray, rate: int
) -> None:
    """Three files to listen to, in floats: nothing is clipped."""
    safe = re.sub(r"[^\w.+=-]", "_", name)  # a set may come from anywhere
    plain = recording.input[: len(recording.output)]
    for what, signal in (
        ("input", plain),
        ("target", recording.output),
        ("prediction", prediction),
    ):
        audio.write(out / f"{safe}-{what}.wav", signal, rate, "FLOAT")
