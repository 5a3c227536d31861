"""A study foreseen and measured; and the published study's time, from steps measured here.

The smoke study runs as a user runs it. The published study is not run: a step of every shape that
fits is measured (on a GPU all 57; on a CPU few, the others by a model of their work), and summed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.report import Figure, Section
from sptmod_dist.errors import UserError
from sptmod_dist.model.config import sptmod25
from sptmod_dist.study import children, published
from sptmod_dist.study.calibrate import Rehearsal
from sptmod_dist.study.machine import Machine, this_machine
from sptmod_dist.study.tables import Cell
from sptmod_dist.train.config import TrainConfig

LAUNCH = Path(__file__).parent.parent
ON_CPU = ((1, 1, 4096), (1, 2, 16384), (2, 1, 8192), (3, 2, 4096), (1, 1, 32768))
"""Shapes (N, B, L) that a CPU measures."""
AT_ONCE = (1, 2, 4, 8, 16)
"""Trainings on one GPU."""
_HUNDRED_THOUSAND = 1e5
_WORK = 20.0  # seconds that trainings at once are timed


def add_options(parser: argparse.ArgumentParser) -> None:
    """What to leave out."""
    parser.add_argument("--no_smoke", action="store_true", help="leave the smoke study out")


def run(options: argparse.Namespace) -> list[Section]:
    """Run the smoke study, then time the published one's steps."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    machine = this_machine()
    sections = [] if options.no_smoke else [_smoke(options.quick)]
    sections.append(_published(machine, options.quick))
    if machine.gpus:
        sections.append(_at_once(machine, options.quick))
    return sections


# The smoke study ---------------------------------------------------------------------------------


def _smoke(quick: bool) -> Section:
    with tempfile.TemporaryDirectory(prefix="bench-study-") as place:
        study = _write(Path(place), quick)
        _call([str(LAUNCH / "study_smoke.py"), "--study", str(study), "--recordings"])
        _call(["-m", "sptmod_dist", "study", "run", str(study)])
        folder = Path(place) / "study"
        plan = json.loads((folder / "plan.json").read_text())["estimates"]
        found = {
            path.parent.name: json.loads(path.read_text())
            for path in folder.glob("state/*/result.json")
        }
    text = f"{len(found)} trainings of `study_smoke.yaml`, two at once; medians over them."
    return Section("A study foreseen", list(_foreseen(plan, found)), text)


def _foreseen(plan: Mapping[str, Any], found: Mapping[str, Any]) -> list[Figure]:
    figures = []
    for what, unit, scale in (("seconds", "s", 1.0), ("memory", "MB", 1e-6)):
        pairs = [(plan[name][what] * scale, each[what] * scale) for name, each in found.items()]
        ratios = [measured / foreseen for foreseen, measured in pairs]
        note = f"{min(ratios):.2f} … {max(ratios):.2f}"
        names = ("estimated", "measured")
        figures += [
            Figure(f"study.{what}.{name}", statistics.median(column), unit, None, "lower")
            for name, column in zip(names, zip(*pairs, strict=True), strict=True)
        ]
        ratio = statistics.median(ratios)
        figures.append(Figure(f"study.{what}.ratio", ratio, "1", None, "lower", note))
    computing = [each["computing"] for each in found.values()]
    note = "of a core, which other programs cannot lengthen"
    middle = statistics.median(computing)
    return [*figures, Figure("study.seconds.computing", middle, "s", None, "lower", note)]


def _write(place: Path, quick: bool) -> Path:
    about = yaml.safe_load((LAUNCH / "configs" / "study_smoke.yaml").read_text())
    about["folder"] = str(place / "study")
    about["datasets"]["toy"]["manifest"] = str(place / "recordings" / "manifest.yaml")
    if quick:
        about |= {"splits": {"count": 1, "ratios": "6/3/3"}, "exclude": [{"N": 2}, {"B": 4}]}
    path = place / "study.yaml"
    path.write_text(yaml.safe_dump(about))
    return path


def _call(arguments: Sequence[str]) -> None:
    paths = [str(LAUNCH.parent), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, *arguments], env=variables, capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"the smoke study failed: {' '.join(done.stderr.split())[-500:]}")


# The published study -----------------------------------------------------------------------------


def _published(machine: Machine, quick: bool) -> Section:
    cells = list(published.cells("snapshot", "median_hours"))
    wanted = cells if machine.gpus else ON_CPU
    measured = {cell: _step(cell, machine) for cell in (wanted[:2] if quick else wanted)}
    seconds = {cell: measured.get(cell) or _modelled(measured, cell) for cell in cells}
    # The mean over 2 datasets x 57 configurations x 10 splits, each as long.
    hours = 20 * sum(seconds.values()) * _HUNDRED_THOUSAND / 3600
    theirs = published.hours()
    unit = machine.gpus[0].name if machine.gpus else f"{machine.cores} CPU cores"
    note = f"on {unit}; {len(measured)} shapes measured, {len(cells)} summed"
    figures = [
        Figure(f"study.step.n{n}b{b}l{length}", 1e3 * value, "ms", None, "lower", "an iteration")
        for (n, b, length), value in measured.items()
    ]
    figures += [
        Figure("study.paper.hours_per_100000", hours, "h", None, "lower", note),
        Figure("study.paper.published_hours", theirs, "h", None, "lower", "to within 5 %, L40"),
        Figure(
            "study.paper.iterations_in_published_hours",
            theirs / hours * _HUNDRED_THOUSAND,
            "iterations",
            None,
            "higher",
            "of each training, here, in the authors' hours",
        ),
    ]
    text = (
        "SPTMod25, all 1,140 trainings, validation not included. The authors' hours end where the "
        "loss came within 5 % of its least; after how many iterations is not published, so ours "
        "are for 100,000 iterations of each training."
    )
    return Section("The published study", figures, text)


def _step(cell: Cell, machine: Machine) -> float:
    """Seconds an iteration, measured in a process of its own."""
    n, batch, length = cell
    config = TrainConfig(model=sptmod25(2), lengths=(length,) * n, batch_size=batch)

    def timed() -> dict[str, Any]:
        import torch

        if machine.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = machine.gpus[0].id
        torch.set_num_threads(machine.cores if not machine.gpus else 1)
        rehearsal = Rehearsal(config)
        groups = [sum(rehearsal.group()) for _ in range(6 if machine.gpus else 3)]
        return {"seconds": statistics.median(groups[1:]) / n}

    return float(children.ask(timed)["seconds"])


def _modelled(measured: Mapping[Cell, float], cell: Cell) -> float:
    """By work: rows that look back, and samples that are learned, each at its measured price."""
    table = np.array([_work(each) for each in measured])
    known = np.array([value * each[0] for each, value in measured.items()])
    prices = np.maximum(np.linalg.lstsq(table, known, rcond=None)[0], 0.0)
    return float(np.dot(_work(cell), prices)) / cell[0]


def _work(cell: Cell) -> list[float]:
    """Of one group: rows, and millions of samples."""
    n, batch, length = cell
    return [float(batch), batch * n * length / 1e6]


# Many trainings on one GPU -----------------------------------------------------------------------


def _at_once(machine: Machine, quick: bool) -> Section:
    """How many of (1, 16, 16384) go on one GPU, and what they do together."""
    figures: list[Figure] = []
    alone = 0.0
    for count in AT_ONCE[:2] if quick else AT_ONCE:
        try:
            rate = _together(count, machine, 2.0 if quick else _WORK)
        except UserError:  # out of memory: no more fit
            break
        alone = alone or rate
        note = f"{rate / alone:.2f} of one alone"
        name = f"study.at_once.{count}"
        figures.append(Figure(name, rate, "iterations/s", None, "higher", note))
    text = f"SPTMod25 at (1, 16, 16384) on one {machine.gpus[0].name}, all trainings together."
    return Section("Trainings at once on one GPU", figures, text)


def _together(count: int, machine: Machine, seconds: float) -> float:
    """Iterations a second of so many trainings together."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(count), context.SimpleQueue()
    jobs = [
        context.Process(target=_job, args=(barrier, rates, machine.gpus[0].id, seconds))
        for _ in range(count)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    if any(job.exitcode for job in jobs):
        raise UserError(f"{count} trainings do not fit on one GPU")
    return sum(rates.get() for _ in jobs)


def _job(barrier: Any, rates: Any, gpu: str, seconds: float) -> None:
    import time

    os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    rehearsal = Rehearsal(TrainConfig(model=sptmod25(2), lengths=(16384,), batch_size=16))
    try:
        for _ in range(3):
            rehearsal.group()
        barrier.wait(120)
    except BaseException:
        barrier.abort()
        raise
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        rehearsal.group()
        count += 1
    rates.put(count / (time.perf_counter() - begun))
