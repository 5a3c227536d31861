"""Finished trainings made of known numbers, as a worker leaves them; nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from sptmod_dist.study.folder import Result, StudyFolder
from sptmod_dist.study.grid import Training

MODEL = {
    "n_params": 1,
    "channels": [3, 4],
    "kernel_sizes": [3, 3],
    "dilations": [1, 1],
    "pooling_size": 16,
    "film_hidden": [3],
    "hidden_size": 4,
    "spn": {
        "channels": [3],
        "kernel_sizes": [4],
        "dilations": [1],
        "strides": [1],
        "poolings": [4],
        "film_hidden": [3],
    },
}


def study_of(place: Path, **changes: object) -> Path:
    """A study's file whose trainings could run, were there recordings."""
    base = {
        "format": "sptmod-study-1",
        "name": "made",
        "folder": str(place / "study"),
        "datasets": {"toy": {"manifest": str(place / "recordings" / "manifest.yaml")}},
        "splits": {"count": 3, "ratios": "3/3/1"},
        "grid": {"N": [1, 2], "B": [2, 4], "L": [64, 128]},
        "settings": {
            "model": MODEL,
            "loss": {"windows": [16, 32]},
            "validation": {"every": 4},
            "stopping": {"max_iterations": 12},
        },
    }
    path = place / "study.yaml"
    kept = {key: value for key, value in {**base, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False))
    return path


def finish(
    folder: StudyFolder,
    training: Training,
    checks: Sequence[tuple[int, float, float]],
    seconds: float,
    test_loss: float | None,
) -> None:
    """Write what a finished training leaves.

    Args:
        checks: iteration, ST and WT of each validation.
        seconds: of all its iterations together.
    """
    run = folder.run(training.id)
    run.path.mkdir(parents=True)
    (run.path / "config.yaml").write_text("# sptmod-dist run: every setting\n")
    lines = [
        {"iteration": at, "epoch": 0, "wt": {"total": wt}, "st": {"total": st}, "st_whole": {}}
        for at, st, wt in checks
    ]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    last, least = checks[-1][0], min(checks, key=lambda check: check[1])
    run.write_summary({
        "iterations": last, "epochs": 1, "best_st": least[1], "best_iteration": least[0],
    })  # fmt: skip
    run.write_status({
        "state": "finished", "why": "", "iteration": last, "epoch": 1, "best_iteration": least[0],
        "best_st": least[1], "seconds": seconds, "processes": 1, "updated": "",
    })  # fmt: skip
    state = folder.state(training.id)
    state.mkdir(parents=True, exist_ok=True)
    folder.write_result(training.id, Result("finished", test_loss=test_loss))
