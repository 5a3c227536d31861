"""Evaluation: a run's effect, streamed over recordings that it never saw, beside what is simpler.

Each item runs from start to end as in use (ST). Beside the model stand the best static gain, chosen
for each item with the target known: a hard baseline for a compressor; and the input as it is.
Results go to RUN/evaluation. It knows runs and items, not how either is made or what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from sptmod_dist import audio
from sptmod_dist.data.controls import Setting
from sptmod_dist.data.shards import Sequence as Audio
from sptmod_dist.errors import UserError
from sptmod_dist.infer.eval_aliasing import measure_aliasing
from sptmod_dist.infer.eval_figures import LEVEL_CURVE, draw_figures
from sptmod_dist.infer.eval_folder import JSON_NAME, evaluation_folder, safe_name
from sptmod_dist.infer.eval_items import ShardItems, Subjects
from sptmod_dist.infer.eval_measures import Levels, measure
from sptmod_dist.infer.eval_report import write_report
from sptmod_dist.infer.eval_tables import write_csv, write_json
from sptmod_dist.infer.eval_windows import Windowed
from sptmod_dist.infer.evaluation import (
    LISTENING,
    Aliasing,
    Evaluation,
    ItemResult,
    chosen,
)
from sptmod_dist.infer.load import Model, load_model
from sptmod_dist.infer.pairs import Pairs
from sptmod_dist.infer.stream import stream_whole
from sptmod_dist.losses import Loss

REPORT, ITEMS = "report.md", "items.csv"


def evaluate(
    run: Path,
    shards: str | Path | None = None,
    out: Path | None = None,
    checkpoint: Literal["best", "last"] = "best",
    pairs: Path | None = None,
    settings: Mapping[str, Setting] | None = None,
) -> Evaluation:
    """Measure a run on whole items and write a report, tables, figures and an example.

    Args:
        run: the run's folder.
        shards: a validation or test set; the run's own test set (`data.test`) if None.
        out: where results go; RUN/evaluation if None. Earlier results there are replaced, other
            files are not touched.
        checkpoint: which of the run's.
        pairs: in place of a set, a folder of pairs or a manifest.
        settings: of controls, for pairs that have no manifest.

    Raises:
        UserError: no such run, set or folder, or one that does not fit to the model.
    """
    if pairs is not None and shards is not None:
        raise UserError("--pairs and --shards are two sources: give one of them")
    if settings and pairs is None:
        raise UserError("--control says the settings of --pairs, which is missing; give both")
    model = load_model(run, checkpoint)
    subjects: Subjects
    if pairs is None:
        subjects = ShardItems(model, run, shards)
    else:
        subjects = Pairs(model, pairs, settings or {})
    return evaluate_items(model, subjects, out or run / "evaluation")


def evaluate_items(model: Model, subjects: Subjects, out: Path) -> Evaluation:
    """Measure a loaded model on items and write everything to `out`, whole or not at all."""
    with evaluation_folder(out, (JSON_NAME, REPORT, ITEMS, LEVEL_CURVE)) as folder:
        results, levels = _over_items(model, subjects, folder)
        aliasing = measure_aliasing(model, subjects.subjects)
        evaluation = Evaluation(
            out,
            model.source.name,
            tuple(_with_aliasing(result, aliasing) for result in results),
            subjects.source,
            subjects.fingerprint,
            model.sample_rate,
            model.controls,
            aliasing,
            tuple(subjects.notes),
        )
        captions = draw_figures(folder, evaluation, levels)
        write_report(folder / REPORT, evaluation, captions)
        write_csv(folder / ITEMS, evaluation)
        names = sorted([*(path.name for path in folder.iterdir()), JSON_NAME])
        write_json(folder / JSON_NAME, evaluation, names)
    return evaluation


def _over_items(
    model: Model, subjects: Subjects, folder: Path
) -> tuple[list[ItemResult], dict[str, Levels]]:
    """Read every item once, for all that is made of it."""
    loss = Loss(model.config.loss)
    windowed = Windowed(model, loss)
    results, levels = [], {}
    example = chosen(subjects.subjects, LISTENING)[0].id
    for number, subject in enumerate(subjects.subjects):
        recording = subjects.read(number)
        streamed = _stream(model, recording)
        prediction = streamed[0].float().numpy()
        if not np.isfinite(prediction).all():
            raise UserError(
                f"the model's output for item '{subject.id}' is not finite, so there is nothing to "
                "measure: take another checkpoint or run"
            )
        if subject.id == example:
            _write_example(folder, subject.id, recording, prediction, model.sample_rate)
        windows = windowed.measure(recording, streamed)
        result, levels[subject.id] = measure(
            subject, recording, prediction, loss, model.sample_rate, windows
        )
        results.append(result)
    return results, levels


def _stream(model: Model, recording: Audio) -> torch.Tensor:
    """The streamed output [1, C, T]."""
    x, controls = (
        torch.from_numpy(a)[None].to(model.config.dtype)
        for a in (recording.input, recording.controls)
    )
    return stream_whole(model.effect, x, controls)


def _with_aliasing(result: ItemResult, found: tuple[Aliasing, ...]) -> ItemResult:
    """The item with what tones become under its own setting, where that was probed."""
    there = (one.worst_db for one in found if one.settings == result.settings)
    return replace(result, aliasing_db=next(there, None))


def _write_example(
    out: Path, name: str, recording: Audio, prediction: np.ndarray, rate: int
) -> None:
    """Three files to listen to, in floats: nothing is clipped."""
    plain = recording.input[: len(recording.output)]
    for what, signal in (
        ("input", plain),
        ("target", recording.output),
        ("prediction", prediction),
    ):
        audio.write(out / f"{safe_name(name)}-{what}.wav", signal, rate, "FLOAT")
