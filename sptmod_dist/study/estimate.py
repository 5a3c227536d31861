"""What a study will take: disk, memory and time of every training, from measurements of each shape.

A shape is all that time and memory depend on: model, lengths, batch, arithmetic. Each is measured
once on a kind of machine, in a process of its own, and remembered in the study's folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from sptmod_dist import audio
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.errors import UserError
from sptmod_dist.files import atomic_write
from sptmod_dist.model.lengths import GroupLengths
from sptmod_dist.study import children
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.grid import Training
from sptmod_dist.study.machine import Machine
from sptmod_dist.study.shard_sets import fold_of
from sptmod_dist.study.study_file import StudyFile
from sptmod_dist.tbptt import Schedule
from sptmod_dist.train.config import TrainConfig, to_dict

_FLAC = 3.1  # bytes a sample at most
_LOGS = 2e6  # bytes of TensorBoard, metrics and logs of a run
_BESIDES = 120e6  # bytes of memory for TensorBoard, for the evaluation and all pictures
_AROUND = 3.5  # seconds of a core for the start, for pictures and for the evaluation's report


@dataclass(frozen=True)
class Audio:
    """How much there is in the splits of one fold."""

    train: tuple[int, ...]
    """Samples of each item."""
    validation: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Estimate:
    """What one training takes."""

    iterations: int
    seconds: float
    per_iteration: float
    """Seconds, without validation."""
    memory: float
    """Bytes of the machine's."""
    gpu_memory: float
    disk: float


class Calibration:
    """What was measured of each shape on this kind of machine.

    Args:
        folder: of the study, which remembers it.
        machine: where trainings run.
        jobs: how many run at once, which share the cores.
    """

    def __init__(self, folder: StudyFolder, machine: Machine, jobs: int) -> None:
        self._folder, self._machine = folder, machine
        self.threads = machine.threads(jobs)
        gpu = machine.gpus[0].name if machine.gpus else f"CPU {os.uname().machine}"
        self._where = [gpu, self.threads, torch.__version__]
        self._known = folder.read_json(folder.calibration)
        self._faults: dict[str, dict[str, Any]] = {}  # of this plan

    def key(self, config: TrainConfig, items: Items) -> str:
        """What a shape is remembered under."""
        tree = to_dict(config)
        parts = ("model", "lengths", "batch_size", "precision", "kernels", "loss", "distributed")
        about = [[tree[part] for part in parts], tree["optimizer"]["average"]]
        about += [tree["validation"]["windows_at_once"], *items, self._where]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:24]

    def known(self, config: TrainConfig, items: Items) -> dict[str, Any] | None:
        """What was measured of a shape, if it was."""
        key = self.key(config, items)
        return self._known.get(key) or self._faults.get(key)

    def measure(self, config: TrainConfig, items: Items) -> dict[str, Any]:
        """Measure a shape, unless it is known."""
        found = self.known(config, items)
        if found is None:
            found = self._measured(config, items)
            if "fault" in found:  # it may have been chance: the next plan tries again
                self._faults[self.key(config, items)] = found
                return found
            self._known = self._folder.read_json(self._folder.calibration)
            self._known[self.key(config, items)] = found
            with atomic_write(self._folder.calibration) as path:
                path.write_text(json.dumps(self._known, indent=1) + "\n")
        return found

    def _measured(self, config: TrainConfig, items: Items) -> dict[str, Any]:
        def rehearse() -> dict[str, Any]:
            from sptmod_dist.study.calibrate import measure

            if self._machine.gpus:
                os.environ["CUDA_VISIBLE_DEVICES"] = self._machine.gpus[0].id
            torch.set_num_threads(self.threads)
            return measure(config, *items, self._folder.path)

        try:
            return children.ask(rehearse, self._folder.log("calibration"))
        except UserError as error:  # such as out of memory: this shape's own trouble
            return {"fault": f"{config.name}: {error}"}


def audio_of(study: StudyFile, first: Training, fold: int) -> Audio:
    """The lengths of a fold's items.

    Raises:
        UserError: the manifest is missing or faulty.
    """
    manifest: Manifest = fold_of(first.dataset, study.splits, fold)
    lengths = {
        split: tuple(audio.info(item.output).frames for item in manifest.of_split(split))
        for split in ("train", "validation", "test")
    }
    return Audio(**lengths)


class Items(NamedTuple):
    """Samples of the items that are streamed."""

    mean: int
    """Of validation items: what time depends on."""
    longest: int
    """Of validation and test items: what memory depends on."""

    @classmethod
    def of(cls, has: Audio) -> Items:
        """Of a fold."""
        samples = has.validation or (1,)
        return cls(round(sum(samples) / len(samples)), max(samples + has.test))


def estimate(
    study: StudyFile, config: TrainConfig, has: Audio, measured: dict[str, Any]
) -> Estimate:
    """What a training takes.

    Args:
        has: the audio of its fold.
        measured: of its shape.
    """
    schedule, n = Schedule(config.model, config.lengths), len(config.lengths)
    iterations = expected_iterations(study, config)
    groups = math.ceil(iterations / n)
    group = measured["first"] + (n - 1) * measured["later"]
    checks = _validations(config, schedule, has, iterations)
    items = len(has.validation)
    each = items * measured["validation"] + 2 * measured["checkpoint"]
    test = len(has.test) * measured["validation"] if study.evaluate else 0.0
    resident = 4.0 * _rows(config) * sum(has.train)
    batch = 4.0 * _rows(config) * config.batch_size * schedule.sequence_length
    in_ram = config.data.resident == "ram" or config.data.resident == "device"
    on_gpu = bool(measured["gpu_memory"]) and config.data.resident == "device"
    return Estimate(
        iterations=iterations,
        seconds=_AROUND + measured["warm_up"] + groups * group + checks * each + test,
        per_iteration=group / n,
        memory=measured["memory"] + _BESIDES + 2 * batch + resident * (in_ram and not on_gpu),
        gpu_memory=measured["gpu_memory"] + resident * on_gpu,
        disk=(config.checkpoint.keep + 1) * 12.0 * measured["parameters"] + _LOGS,
    )


def expected_iterations(study: StudyFile, config: TrainConfig) -> int:
    """As many as the study expects, or as are allowed."""
    most = config.stopping.max_iterations
    return min(most, study.expected_iterations or most)


def shards_bytes(
    trainings: Sequence[Training], look: Callable[[str, int], Audio]
) -> float:
    """What the sets of all folds take, each of which stands once."""
    total = 0.0
    for name, fold in dict.fromkeys((t.dataset.name, t.fold) for t in trainings):
        config = next(t.config for t in trainings if t.dataset.name == name)
        has = look(name, fold)
        samples = sum(has.train) + sum(has.validation) + sum(has.test)
        total += samples * _rows(config) * (FORMATS[config.data.sample_format].width or _FLAC)
    return total


def _validations(
    config: TrainConfig, lengths: GroupLengths, has: Audio, iterations: int
) -> int:
    """How many there will be: at ends of epochs, `validation.every` iterations apart at least."""
    sequences = sum(map(lengths.n_sequences, has.train))
    epoch = max(1, sequences // config.batch_size) * len(config.lengths)
    apart = math.ceil(config.validation.every / epoch) * epoch
    return math.ceil(iterations / apart)


def _rows(config: TrainConfig) -> int:
    return 2 * config.model.input_channels + config.model.sidechain_channels
