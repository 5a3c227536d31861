"""What a fit has learned: figures, examples and words.

All of it from the test pieces, which training never heard. It knows runs and evaluations, not how
either is made.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import numpy as np

from sptmod_dist import audio
from sptmod_dist.cli import PROGRAM
from sptmod_dist.data.recordings import Item, Manifest
from sptmod_dist.files import atomic_write
from sptmod_dist.fit.folder import FitFolder
from sptmod_dist.infer.evaluate import evaluate
from sptmod_dist.infer.evaluation import Evaluation
from sptmod_dist.infer.load import load_model
from sptmod_dist.infer.render import render_with
from sptmod_dist.metrics import LevelCurve, frame_levels, level_curve, ratio

MOST_LEVELS = 6
WELL, PARTLY = 0.15, 0.7
"""Shares of the best volume knob's error below which a device counts as learned, or in part."""
NOTHING = 1e-4
"""-40 dB: a volume knob that comes so close leaves nothing to learn."""


def tell(folder: FitFolder, manifest: Manifest, best_esr: float | None) -> str:
    """Evaluate the run, render the test pieces, and keep in words what came of it.

    Args:
        folder: of the fit; its run is trained.
        manifest: of the pieces.
        best_esr: what the recording's own noise would leave of the error of a perfect model;
            None: unknown.

    Returns:
        The words, which `learned.txt` holds then.
    """
    evaluation = evaluate(folder.run)
    device, model = _render(folder, manifest)
    lines = [
        evaluation.summary(),
        "",
        *_levels(device, model),
        "",
        _verdict(evaluation),
        *_bound(evaluation, best_esr),
        *_next(folder, manifest),
    ]
    with atomic_write(folder.learned) as path:
        path.write_text("\n".join(lines) + "\n")
    return "\n".join(lines)


def _render(folder: FitFolder, manifest: Manifest) -> tuple[LevelCurve, LevelCurve]:
    """The test pieces as files to listen to, and the level curves of the device and the model."""
    folder.examples.mkdir(exist_ok=True)
    trained = load_model(folder.run)
    levels: list[list[np.ndarray]] = []
    for item in manifest.of_split("test"):
        rendered = example(folder, item)
        render_with(trained, item.input, rendered, {})
        files = (item.input, item.output, rendered)
        levels.append([frame_levels(audio.read(file)[0], manifest.sample_rate) for file in files])
    dry, wet, model = (np.concatenate(column) for column in zip(*levels, strict=True))
    return level_curve(dry, wet), level_curve(dry, model)


def example(folder: FitFolder, item: Item) -> Path:
    """Where a test piece through the model is."""
    return folder.examples / f"{item.id}-model.wav"


def _levels(device: LevelCurve, model: LevelCurve) -> list[str]:
    """A table of some levels in and what they become."""
    count = len(device.input_db)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_LEVELS)).round().astype(int))
    rows = [("level in, dB", device.input_db), ("device", device.output_db)]
    rows.append(("model", model.output_db))
    return [f"{name:<12}" + "".join(f"{row[n]:8.1f}" for n in chosen) for name, row in rows]


def _verdict(evaluation: Evaluation) -> str:
    errors = evaluation.pooled
    knob, model = errors.esr["static_gain"], errors.esr["model"]
    if knob < NOTHING:
        return (
            f"The device does hardly more than a volume knob, which comes to {_db(knob)} of it by "
            "itself: is it switched on, and loud enough at its input?"
        )
    figures = f"{_db(model)} of error against {_db(knob)} of the best volume knob"
    share = ratio(model, knob)
    if share < WELL:
        return f"The device is learned: {figures}, on audio that training never heard."
    if share < PARTLY:
        return (
            f"The device is learned in part: {figures}, on audio that training never heard. Train "
            "longer (--minutes), or a larger model (--model.preset sptmod25)."
        )
    return (
        f"Little is learned: {figures}. Look at what the check said, train longer (--minutes), or "
        "a larger model (--model.preset sptmod25)."
    )


def _bound(evaluation: Evaluation, best_esr: float | None) -> list[str]:
    if best_esr is None or not best_esr > 0:
        return []
    words = f"The noise of the recording lets no model come below {_db(best_esr)}."
    if evaluation.pooled.esr["model"] < 2 * best_esr:
        words += " This one is nearly there: only a quieter recording would help."
    return [words]


def _next(folder: FitFolder, manifest: Manifest) -> list[str]:
    first = manifest.of_split("test")[0]
    return [
        "",
        f"Listen to {example(folder, first)} beside {first.output}; the level curve is "
        f"{folder.run / 'evaluation' / 'level_curve.png'}.",
        "Use it:",
        f"  {PROGRAM} render {shlex.quote(str(folder.run))} YOURS.wav OUT.wav",
    ]


def _db(esr: float) -> str:
    return f"{10 * math.log10(max(esr, 1e-20)):.1f} dB"
