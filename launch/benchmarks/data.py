"""How fast training data is read: ours in every mode and format, and what others would give.

Every loader has a process of its own and stays open; they take turns of a second, round after
round, each second round backwards, and the median over the rounds counts.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks import data_sets
from benchmarks.data_contenders import Source
from benchmarks.data_figures import (
    DEVICE,
    LOCAL,
    MAP,
    MOSAICML,
    PACKAGES,
    RAM,
    REMOTE,
    STREAM,
    WEBDATASET,
    Contender,
    Found,
    about,
)
from benchmarks.data_figures import sections as sections_of
from benchmarks.data_reader import Order
from benchmarks.data_sets import Case
from benchmarks.jobs import Jobs
from benchmarks.report import Section, cores
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.errors import UserError

MAIN = (LOCAL, RAM, WEBDATASET, MOSAICML, MAP)
"""Measured with other numbers of workers, too."""
_STORED = 7.5
"""Bytes of all stored forms together, over those of one that holds every sequence as float32."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    cases: tuple[Case, ...]
    batch_size: int
    seconds: float
    """Of a turn."""
    rounds: int
    other_rounds: int
    """With other numbers of workers."""


FULL = Plan(
    (
        Case("n3", "sptmod25", (32_768,) * 3, items=24, excerpts=4, packed=5),
        Case("n1", "sptmod25", (4_096,), items=2, excerpts=4, packed=107),
    ),
    batch_size=16,
    seconds=1.0,
    rounds=9,
    other_rounds=5,
)
QUICK = Plan(
    (Case("n3", "tiny", (2_048,) * 3, items=2, excerpts=1, packed=5),),
    batch_size=4,
    seconds=0.01,
    rounds=1,
    other_rounds=1,
)
WORKERS = [2, 0, 1]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that no other benchmark has."""
    parser.add_argument(
        "--workers", type=int, nargs="+", metavar="N",
        help="threads or processes that read ahead, as many for all loaders: the targets are for "
        "the first number, with the others the main loaders are measured (2 0 1; --quick: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=Path,
        help="keep the sets here and use those that are there (about 16 GB; otherwise "
        "half of it, in a temporary folder)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> list[Section]:
    """Make the sets and measure everything that reads them.

    Raises:
        UserError: an impossible option, no room for the sets, or processes that fail.
    """
    plan = QUICK if options.quick else FULL
    workers = list(dict.fromkeys(options.workers or WORKERS[: 1 if options.quick else None]))
    if min(workers) < 0:
        raise UserError(f"--workers is {min(workers)}, but must be at least 0")
    missing = {name: _missing(name) for name in PACKAGES}
    sections = []
    for case in plan.cases:
        with _folder(options.folder, case, plan) as folder:
            found = _measure(case, plan, _prepare(folder, case, missing), workers)
            sections += sections_of(case, plan.batch_size, found)
    text = f"{about(plan.batch_size, missing)}\n\n{sections[0].text}"
    return [replace(sections[0], text=text), *sections[1:]]


def _missing(name: str) -> list[str]:
    return [module for module in PACKAGES[name][1] if importlib.util.find_spec(module) is None]


@contextlib.contextmanager
def _folder(given: Path | None, case: Case, plan: Plan) -> Iterator[Path]:
    """Where a case's sets are, with room for them."""
    frames = round(data_sets.RATE * (16 + 8 * case.excerpts))
    sequences = case.items * len(data_sets.starts(frames, case))
    if sequences < plan.batch_size:
        raise UserError(f"{case.name} has {sequences} sequences, fewer than {plan.batch_size}")
    needed = int(_STORED * 8 * case.samples * sequences)
    with contextlib.ExitStack() as stack:
        if given is None:
            given = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-data-")))
        given.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(given).free
        if free < needed and not (given / case.name).exists():
            raise UserError(
                f"{given} has {free / 1e9:.1f} GB left and the sets take {needed / 1e9:.1f}: name "
                "a folder on another disk with --folder"
            )
        yield given / case.name


# Sets ------------------------------------------------------------------------------------------


def _prepare(
    folder: Path, case: Case, missing: Mapping[str, Sequence[str]]
) -> dict[str, Contender]:
    """All contenders with the sets that they read."""
    manifest = data_sets.record(folder / "recordings", case, cores())
    contenders = {}
    for name in FORMATS:
        for kind, packed in (("local", False), ("packed", True)):
            built = data_sets.build(folder / f"{kind}-{name}", manifest, case, name, packed)
            contenders[f"{kind}.{name}"] = Contender("local", built, data_sets.size_of(built))
    plain = contenders[LOCAL]
    contenders[REMOTE] = replace(plain, loader="remote")
    contenders[STREAM] = replace(plain, loader="stream")
    contenders[RAM] = replace(plain, loader="resident_ram")
    if torch.cuda.is_available():
        contenders[DEVICE] = replace(plain, loader="resident_device")
    if not missing[WEBDATASET]:
        contenders[WEBDATASET] = replace(plain, loader="webdataset")
    return contenders | _others(folder, manifest, case, with_mds=not missing[MOSAICML])


def _others(folder: Path, manifest: Manifest, case: Case, with_mds: bool) -> dict[str, Contender]:
    mapped = data_sets.write_recordings(folder / "arrays", manifest)
    found = {MAP: Contender("memory_map", mapped, data_sets.size_of(mapped))}
    if with_mds:
        mds = data_sets.write_mds(folder / "mds", manifest, case)
        found[MOSAICML] = Contender("mosaicml", mds, data_sets.size_of(mds))
    return found


# Time ------------------------------------------------------------------------------------------


def _measure(
    case: Case,
    plan: Plan,
    contenders: Mapping[str, Contender],
    workers: Sequence[int],
) -> Found:
    memory, first = dict[str, float](), dict[str, float]()
    rounds = dict[int, list[dict[str, float]]]()
    for number in workers:
        mine = number == workers[0]
        orders = {
            name: Order(_source(case, plan, contender, number), plan.seconds)
            for name, contender in contenders.items()
            if mine or name in MAIN
        }
        with Jobs({name: (_command(), 1) for name in orders}, limit=180) as jobs:
            for name, order in orders.items():  # this also brings all files into the page cache
                ((opened),) = jobs.run({name: replace(order, memory=True)})[name]
                if mine:
                    memory[name], first[name] = opened["memory"], opened["first"]
            count = plan.rounds if mine else plan.other_rounds
            rounds[number] = [_round(jobs, orders, index % 2 == 1) for index in range(count)]
    sequences = data_sets.sequences_of(contenders[LOCAL].folder)
    return Found(contenders, sequences, memory, first, rounds)


def _source(case: Case, plan: Plan, contender: Contender, workers: int) -> Source:
    folder = str(contender.folder)
    return Source(contender.loader, folder, case.samples, case.hop, plan.batch_size, workers)


def _command() -> list[str]:
    """Of a process that sees the GPUs that this one sees."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = ["-u", "CUDA_VISIBLE_DEVICES"] if seen is None else [f"CUDA_VISIBLE_DEVICES={seen}"]
    return ["env", *devices, sys.executable, "-m", "benchmarks.data_reader"]


def _round(jobs: Jobs, orders: Mapping[str, Order], backwards: bool) -> dict[str, float]:
    names = list(orders)[:: -1 if backwards else 1]
    return {name: jobs.run({name: orders[name]})[name][0]["speed"] for name in names}
