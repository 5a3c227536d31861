"""An evaluation for programs: `evaluation.json`, and `items.csv` with a row an item.

The columns are `id`, `control.NAME`, `samples`, `seconds`, `gain` (the best static one),
`WAY.FIGURE` (see `eval_names`), `wt.TERM`, `st.TERM`, `st_minus_wt` and `model.aliasing_db`.
Numbers that do not exist are null and empty cells, never NaN. It knows results, not how they were
measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sptmod_dist import __version__
from sptmod_dist.data.controls import exact
from sptmod_dist.data.csv_rows import csv_text
from sptmod_dist.infer.eval_bins import bins
from sptmod_dist.infer.eval_names import FIGURES, WAYS
from sptmod_dist.infer.evaluation import (
    Aliasing,
    Evaluation,
    ItemResult,
    Windows,
    means,
    pooled_esrs,
    windows_means,
)
from sptmod_dist.losses import LossTerms

FORMAT = "sptmod-evaluation-2"


def write_json(path: Path, evaluation: Evaluation, files: Sequence[str]) -> None:
    """Write all figures.

    Args:
        path: of the file; its folder takes it whole.
        evaluation: the results.
        files: the names of all files of this evaluation, by which the next one replaces them.
    """
    report = {
        "format": FORMAT,
        "version": __version__,
        "evaluated": evaluation.source,
        "notes": list(evaluation.notes),
        "checkpoint": evaluation.checkpoint,
        "set_fingerprint": evaluation.fingerprint,
        "sample_rate": evaluation.sample_rate,
        "listening_items": [item.id for item in evaluation.listening],
        "esr": evaluation.pooled.esr,
        "loss": evaluation.loss,
        **_over(evaluation.items),
        "pooled": pooled_esrs(evaluation.listening),
        "worst_first": [item.id for item in evaluation.worst_first],
        "controls": list(_controls(evaluation)),
        "aliasing": [_aliasing(found) for found in evaluation.aliasing],
        "files": list(files),
        "items": [_item(item) for item in evaluation.items],
    }
    path.write_text(json.dumps(_finite(report), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """Write a row an item, every figure each way, then WT and ST."""
    controls = [control.name for control in evaluation.controls]
    head = ["id", *(f"control.{name}" for name in controls), "samples", "seconds", "gain"]
    head += [f"{way}.{name}" for way in WAYS for name in FIGURES]
    head += [f"{kind}.{term}" for kind in ("wt", "st") for term in LossTerms._fields]
    head += ["st_minus_wt", "model.aliasing_db"]
    rows = [list(_cells(item, controls, evaluation.sample_rate)) for item in evaluation.items]
    path.write_text(csv_text([head, *rows]), encoding="utf-8", newline="")


def _cells(item: ItemResult, controls: Sequence[str], rate: int) -> Iterator[object]:
    yield item.id
    yield from (exact(item.settings[name]) for name in controls)
    yield from (item.samples, item.samples / rate, item.gain)
    for way in WAYS:
        yield from (_cell(item.figures[way].get(name)) for name in FIGURES)
    windows = item.windows
    for terms in (windows.wt, windows.st) if windows else ({}, {}):
        yield from (_cell(terms.get(name)) for name in LossTerms._fields)
    yield _cell(windows.gap if windows else None)
    yield _cell(item.aliasing_db)


def _cell(value: float | None) -> object:
    return "" if value is None or not math.isfinite(value) else value


def _over(items: Sequence[ItemResult]) -> dict[str, Any]:
    """What holds for many items."""
    return {"means": means(items), **_windows(windows_means(items))}


def _windows(windows: Windows | None) -> dict[str, Any]:
    if windows is None:
        return {"wt": None, "st": None, "st_minus_wt": None}
    return {"wt": windows.wt, "st": windows.st, "st_minus_wt": windows.gap}


def _controls(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    for control in evaluation.controls:
        parts = [
            {
                "range": part.label,
                "items": [item.id for item in part.items],
                **_over(part.items),
                "pooled": pooled_esrs(part.items),
            }
            for part in bins(control, evaluation.items)
        ]
        yield {"control": control.to_dict(), "parts": parts}


def _aliasing(found: Aliasing) -> dict[str, Any]:
    tones = {str(hertz): spurs and spurs._asdict() for hertz, spurs in found.tones.items()}
    return {"settings": found.settings, "tones": tones}


def _item(item: ItemResult) -> dict[str, Any]:
    return {
        "id": item.id,
        "settings": item.settings,
        "samples": item.samples,
        "gain": item.gain,
        "loss": item.loss,
        "errors": asdict(item.errors),
        "esr": item.errors.esr,
        "figures": item.figures,
        **_windows(item.windows),
        "aliasing_db": item.aliasing_db,
    }


def _finite(value: Any) -> Any:
    """The same with null for what JSON cannot hold: NaN and infinity."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
