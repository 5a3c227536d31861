"""What each finished training of a study came to, read from its run.

`metrics.jsonl` has a line a validation: iteration, WT, ST. Plain numbers come out; what they mean
together is the matter of `tables.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.grid import Training
from sptmod_dist.train.run_folder import RunFolder

NEAR = 1.05
"""A loss within 5 % of the least: when the published study stops the clock."""


@dataclass(frozen=True)
class Check:
    """One validation."""

    iteration: int
    st: float
    wt: float


@dataclass(frozen=True)
class Outcome:
    """One finished training."""

    id: str
    configuration: str
    dataset: str
    others: tuple[tuple[str, str], ...]
    """Keys of the grid besides N, B and L, with their values in words."""
    n: int
    b: int
    length: int
    """L, of the first sub-sequence."""
    fold: int
    seed: int
    checks: tuple[Check, ...]
    seconds_per_iteration: float
    """Measured: wall time of the training, validation included, over its iterations."""
    test_loss: float | None

    @property
    def best(self) -> Check:
        """The validation with the least ST."""
        return min(self.checks, key=lambda check: check.st)

    @property
    def iterations_to_near(self) -> int:
        """Iterations until ST was first within 5 % of its least."""
        least = self.best.st
        return next(check.iteration for check in self.checks if check.st <= NEAR * least)

    @property
    def hours(self) -> float:
        """Of training until then."""
        return self.iterations_to_near * self.seconds_per_iteration / 3600


def outcomes_of(folder: StudyFolder, trainings: Sequence[Training]) -> list[Outcome]:
    """The trainings that are finished and can be read, in the study's order."""
    found = [_outcome(folder, training) for training in trainings]
    return [outcome for outcome in found if outcome is not None]


def _outcome(folder: StudyFolder, training: Training) -> Outcome | None:
    result, run = folder.result(training.id), folder.run(training.id)
    summary, status = run.summary(), run.status()
    if result is None or result.state != "finished" or summary is None or status is None:
        return None
    checks = checks_of(run)
    iterations, seconds = status.get("iteration"), status.get("seconds")
    if not (checks and _is_number(iterations) and iterations and _is_number(seconds)):
        return None
    values = training.values
    others = tuple(
        (key, _in_words(value))
        for key, value in values.items()
        if key not in ("dataset", "N", "B", "L", "fold", "seed", "batch_size", "lengths")
    )
    return Outcome(
        id=training.id,
        configuration=training.configuration,
        dataset=training.dataset.name,
        others=others,
        n=values["N"],
        b=values["B"],
        length=values["L"],
        fold=training.fold,
        seed=training.seed,
        checks=checks,
        seconds_per_iteration=seconds / iterations,
        test_loss=result.test_loss,
    )


def checks_of(run: RunFolder) -> tuple[Check, ...]:
    """The validations of a run in their order; a line that cannot be read is left out."""
    found: dict[int, Check] = {}
    try:
        lines = run.metrics.read_text().splitlines()
    except OSError:
        return ()
    for line in lines:
        try:
            entry = json.loads(line)
            check = Check(entry["iteration"], entry["st"]["total"], entry["wt"]["total"])
        except (ValueError, KeyError, TypeError):
            continue
        if type(check.iteration) is int and _is_number(check.st) and _is_number(check.wt):
            found[check.iteration] = check
    return tuple(found[iteration] for iteration in sorted(found))


def _in_words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
