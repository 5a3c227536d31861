"""How a study stands: a state a training, counts, and what is left to be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sptmod_dist.study.claims import is_taken
from sptmod_dist.study.estimate import Estimate
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.grid import Training
from sptmod_dist.train.tables import columns, plain

STATES = ("finished", "failed", "running", "begun", "waiting")


@dataclass(frozen=True)
class Standing:
    """How one training stands."""

    id: str
    configuration: str
    state: str
    """One of `STATES`; `begun` was stopped or killed, and goes on when a worker takes it."""
    iteration: int = 0
    best_st: float | None = None
    why: str = ""


def standing(folder: StudyFolder, training: Training) -> Standing:
    """How a training stands."""
    result, run = folder.result(training.id), folder.run(training.id)
    said = run.status() or {}
    if result is not None:
        state, why = result.state, result.why
    elif is_taken(folder.state(training.id)):
        state, why = "running", ""
    else:
        state, why = ("begun" if run.path.exists() else "waiting"), ""
    iteration, best = said.get("iteration"), said.get("best_st")
    return Standing(
        training.id,
        training.configuration,
        state,
        iteration if type(iteration) is int else 0,
        best if isinstance(best, float) else None,
        why,
    )


def in_words(
    standings: Sequence[Standing], estimates: Mapping[str, Estimate], every: bool = False
) -> str:
    """A line a configuration, the counts, and why trainings failed.

    Args:
        every: a line a training instead.
    """
    rows = _each(standings) if every else _by_configuration(standings)
    counts = Counter(s.state for s in standings)
    words = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    lines = [rows, "", f"{len(standings)} trainings: {words}"]
    left = [estimates[s.id].seconds for s in standings if _is_left(s) and s.id in estimates]
    if left:
        lines.append(f"left: about {sum(left) / 3600:,.2f} hours of one process or GPU alone")
    failed = [plain(f"{s.id}: {s.why}") for s in standings if s.state == "failed"]
    if failed:
        lines += ["", *failed, "`sptmod-dist study retry STUDY` lets them be tried again"]
    return "\n".join(lines)


def _is_left(one: Standing) -> bool:
    return one.state in ("running", "begun", "waiting")


def _by_configuration(standings: Sequence[Standing]) -> str:
    groups: dict[str, list[Standing]] = {}
    for one in standings:
        groups.setdefault(one.configuration, []).append(one)
    rows = []
    for name, group in groups.items():
        counts = Counter(one.state for one in group)
        best = min((one.best_st for one in group if one.best_st is not None), default=None)
        shown = [str(counts[state]) if counts[state] else "." for state in STATES]
        rows.append([name, *shown, "-" if best is None else f"{best:.4f}"])
    titles = ["configuration", *STATES, "best ST"]
    return columns([titles, *rows], to_the_right=range(1, len(titles)))


def _each(standings: Sequence[Standing]) -> str:
    rows = [
        [s.id, s.state, str(s.iteration), "-" if s.best_st is None else f"{s.best_st:.4f}"]
        for s in standings
    ]
    return columns([["training", "state", "iteration", "best ST"], *rows], to_the_right=(2, 3))
