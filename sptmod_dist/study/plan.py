"""The plan of a study: its estimates in the study's folder, and their sum in words."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache

from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.study.estimate import (
    Audio,
    Calibration,
    Estimate,
    audio_of,
    estimate,
    shards_bytes,
    typical,
)
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.grid import Training
from sptmod_dist.study.machine import Machine
from sptmod_dist.study.study_file import StudyFile
from sptmod_dist.train.data import needs_of

FORMAT = "sptmod-study-plan-1"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a study will take on one machine."""

    machine: Machine
    jobs: int
    """Trainings at once."""
    estimates: dict[str, Estimate]
    """Of each training by its id."""
    faults: tuple[str, ...]
    """Shapes that could not be measured, and why."""
    shards: float
    """Bytes of all sets."""


def make_plan(
    study: StudyFile,
    trainings: Sequence[Training],
    machine: Machine,
    jobs: int | None,
    say: Say = print,
) -> Plan:
    """Measure the shapes that are not known yet, and estimate every training.

    Args:
        jobs: trainings at once at most; None: as many as fit.

    Raises:
        UserError: recordings are missing, faulty, or do not fit to the model.
    """
    folder = StudyFolder(study)
    firsts = {t.dataset.name: t for t in reversed(trainings)}

    @cache
    def look(dataset: str, fold: int) -> Audio:
        return audio_of(study, firsts[dataset], fold)

    require_recordings(trainings)
    calibration = Calibration(folder, machine, jobs or _most(machine))
    estimates, faults = {}, dict[str, str]()
    shapes: dict[str, Training] = {}
    for training in trainings:
        has = look(training.dataset.name, 0)
        shapes.setdefault(calibration.key(training.config, typical(has.validation)), training)
    for number, (key, training) in enumerate(shapes.items(), 1):
        samples = typical(look(training.dataset.name, 0).validation)
        if calibration.known(training.config, samples) is None:
            say(f"measuring shape {number} of {len(shapes)}: {training.configuration}")
        measured = calibration.measure(training.config, samples)
        if "fault" in measured:
            faults[key] = measured["fault"]
    for training in trainings:
        samples = typical(look(training.dataset.name, 0).validation)
        measured = calibration.measure(training.config, samples)
        if "fault" not in measured:
            has = look(training.dataset.name, training.fold)
            estimates[training.id] = estimate(study, training.config, has, measured)
    shards = shards_bytes(trainings, look)
    plan = Plan(machine, _jobs(machine, jobs, estimates), estimates, tuple(faults.values()), shards)
    _write(folder, trainings, plan)
    return plan


def read_plan(folder: StudyFolder) -> dict[str, Estimate]:
    """The estimates of the last plan; nothing where there is none."""
    found = folder.read_json(folder.plan)
    try:
        return {name: Estimate(**values) for name, values in found["estimates"].items()}
    except (KeyError, TypeError, AttributeError):
        return {}


def in_words(trainings: Sequence[Training], plan: Plan) -> str:
    """The plan for a reader."""
    found = list(plan.estimates.values())
    configurations = len({t.configuration for t in trainings})
    lines = [f"{len(trainings)} trainings: {configurations} configurations, each in several folds"]
    if plan.faults:
        lines += [f"not to be estimated: {fault}" for fault in plan.faults]
    if not found:
        return "\n".join(lines)
    seconds, runs = sum(e.seconds for e in found), sum(e.disk for e in found)
    longest = max(plan.estimates, key=lambda name: plan.estimates[name].seconds)
    gpu = max(e.gpu_memory for e in found)
    unit = "GPU" if plan.machine.gpus else "process"
    memory = f"memory   {_size(min(e.memory for e in found))} to "
    memory += f"{_size(max(e.memory for e in found))} a training"
    lines += [
        f"disk     {_size(plan.shards + runs)}: shards {_size(plan.shards)}, runs {_size(runs)}",
        memory + (f", up to {_size(gpu)} of the GPU's" if gpu else ""),
        f"time     {_time(seconds)} of a {unit} alone, {sum(e.iterations for e in found):,} "
        "iterations at most or as expected",
        f"longest  {longest}: {_time(plan.estimates[longest].seconds)}",
        f"at once  {plan.jobs} here ({_machine(plan.machine)}): about "
        f"{_time(_wall(plan, found))} in all",
    ]
    return "\n".join(lines)


def _wall(plan: Plan, found: Sequence[Estimate]) -> float:
    """The longest first, on so many places; trainings that share a GPU share its time."""
    places = [0.0] * (len(plan.machine.gpus) or plan.jobs)
    for each in sorted(found, key=lambda e: -e.seconds):
        places[places.index(min(places))] += each.seconds
    return max(places)


def require_recordings(trainings: Sequence[Training]) -> None:
    """Refuse a study whose recordings are missing or do not fit to its models.

    Raises:
        UserError: naming the manifest, or the dataset's setting.
    """
    for name in dict.fromkeys(training.dataset.name for training in trainings):
        _require_fit(next(t for t in trainings if t.dataset.name == name))


def _require_fit(first: Training) -> None:
    from sptmod_dist.data.recordings import Manifest

    manifest = Manifest.read(first.dataset.manifest)
    try:
        needs_of(first.config).geometry(
            manifest.sample_rate, manifest.controls, str(manifest.path)
        )
    except UserError as error:
        where = f"datasets.{first.dataset.name}.settings.model.n_params"
        raise UserError(f"{error} (in the study: {where})") from None


def _most(machine: Machine) -> int:
    return machine.cores


def _jobs(machine: Machine, asked: int | None, estimates: dict[str, Estimate]) -> int:
    """How many at once: as asked, or as many of the largest as fit."""
    if asked is not None:
        return asked
    most = _most(machine)
    if not estimates:
        return most
    by_memory = int(machine.memory // max(e.memory for e in estimates.values()))
    if machine.gpus:
        largest = max(e.gpu_memory for e in estimates.values()) or 1.0
        most = min(most, sum(max(1, int(gpu.memory // largest)) for gpu in machine.gpus))
    return max(1, min(most, by_memory))


def _write(folder: StudyFolder, trainings: Sequence[Training], plan: Plan) -> None:
    estimates = {name: asdict(found) for name, found in plan.estimates.items()}
    about = {"format": FORMAT, "jobs": plan.jobs, "faults": plan.faults, "shards": plan.shards}
    with atomic_write(folder.plan) as path:
        path.write_text(json.dumps({**about, "estimates": estimates}, indent=1) + "\n")
    with atomic_write(folder.plan.with_suffix(".csv")) as path, open(path, "w", newline="") as file:
        writer = csv.writer(file)
        columns = list(Estimate.__dataclass_fields__)
        writer.writerow(["training", *columns])
        for training in trainings:
            found = estimates.get(training.id)
            if found:
                writer.writerow([training.id, *(found[column] for column in columns)])


def _machine(machine: Machine) -> str:
    gpus = f"{len(machine.gpus)} x {machine.gpus[0].name}, " if machine.gpus else ""
    return f"{gpus}{machine.cores} cores, {_size(machine.memory)} free"


def _size(bytes_: float) -> str:
    for unit, least in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if bytes_ >= least:
            return f"{bytes_ / least:.1f} {unit}"
    return f"{bytes_ / 1e3:.0f} kB"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"
