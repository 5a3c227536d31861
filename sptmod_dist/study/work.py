"""One training of a study from its sets to its evaluation, in a process of its own.

What it has to say to the worker goes into `said.json` in the training's state; what it prints, into
its log.
"""

from __future__ import annotations

import json
import os
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.grid import Training
from sptmod_dist.study.study_file import StudyFile

_SAID = "said.json"


def carry_out(
    study: StudyFile,
    folder: StudyFolder,
    training: Training,
    first: Training,
    gpu: str,
    threads: int,
) -> int:
    """Train, evaluate, and note what was learned.

    Args:
        first: the dataset's first training.
        gpu: its name for CUDA_VISIBLE_DEVICES; empty for none.
        threads: of this process.

    Returns:
        The exit code: that of `train`, or 1 or 2 for a fault that `said` tells of.
    """
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    import torch

    torch.set_num_threads(threads)
    state = folder.state(training.id)
    try:
        code, about = _carry_out(study, folder, training, first)
        _say(state, {"code": code, **about})
        return code
    except UserError as error:
        print(f"sptmod-dist: error: {error}", flush=True)
        _say(state, {"code": error.code, "why": str(error)})
        return error.code
    except Exception as error:
        traceback.print_exc()
        where = f"{type(error).__name__} ({' '.join(str(error).split()):.300})"
        _say(state, {"code": 1, "why": f"{where}; the traceback is in {folder.log(training.id)}"})
        return 1


def said(state: Path) -> dict[str, Any]:
    """What a training said at its end; nothing where it could not."""
    try:
        found = json.loads((state / _SAID).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def forget(state: Path) -> None:
    """Remove what an attempt before said."""
    (state / _SAID).unlink(missing_ok=True)


def _carry_out(
    study: StudyFile, folder: StudyFolder, training: Training, first: Training
) -> tuple[int, dict[str, Any]]:
    from sptmod_dist.study import calibrate, hyperparameters
    from sptmod_dist.study.shard_sets import prepare_sets
    from sptmod_dist.train import main

    prepare_sets(study, first, training.fold)
    config, test = training.config, None
    if not Path(config.data.test or "").is_dir():  # no item was left for it
        config = replace(config, data=replace(config.data, test=None))
    code = main.train(config, resume="auto")
    if code != main.FINISHED:
        return code, {}
    if study.evaluate and config.data.test:
        test = _evaluate(folder.run(training.id).path)
    hyperparameters.write(folder.run(training.id), training.values, test)
    return code, {"test_loss": test, "gpu_memory": calibrate.gpu_memory(), "device": _device()}


def _evaluate(run: Path) -> float:
    from sptmod_dist.infer.evaluate import evaluate

    found = evaluate(run)
    assert found.loss is not None, "a set of shards has windows"
    for item in found.folder.glob("*.wav"):  # of hundreds of trainings nobody listens to all
        item.unlink()
    return found.loss


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _say(state: Path, words: dict[str, Any]) -> None:
    with suppress(OSError), atomic_write(state / _SAID) as path:
        path.write_text(json.dumps(words) + "\n")
