"""The training itself: epochs, groups, iterations (DAFx25, section 2.4, read top-down).

Every rank runs this same program on its own rows of the same global batches. State lives inside a
group and nowhere else; a stop, a checkpoint and a resume happen between groups.
"""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from sptmod_dist import __version__
from sptmod_dist.data.loader import Group, GroupLoader
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from sptmod_dist.losses import Loss
from sptmod_dist.model.spn import StatePredictionNetwork, dropout_factors
from sptmod_dist.model.sptmod import SPTMod
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.config import TrainConfig, to_dict
from sptmod_dist.train.engine import Engine
from sptmod_dist.train.monitor import Monitor
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.validation import Validator

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class TrainingError(UserError):
    """A training that cannot go on."""


@dataclass
class Progress:
    """Where a training stands, always at a group's boundary."""

    epoch: int = 0
    group: int = 0
    """The next group of the epoch."""
    iteration: int = 0
    """Iterations done."""
    validated_at: int = 0
    """The iteration of the last validation."""
    best: float = math.inf
    """The least ST validation loss."""
    best_iteration: int = 0


class Interrupt:
    """Remembers a signal that asks to stop; the training looks at it between groups."""

    def __init__(self) -> None:
        self.asked = False
        self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Trainer:
    """One training on this rank.

    Args:
        config: every setting.
        engine: this process among the others.
        run: where results go.
        train, validation: the data; their geometry is the model's.
    """

    def __init__(
        self,
        config: TrainConfig,
        engine: Engine,
        run: RunFolder,
        train: ShardSet,
        validation: ShardSet,
    ) -> None:
        self.config, self.engine, self.run = config, engine, run
        self.progress = Progress()
        self.dtype = DTYPES[config.precision]
        self.schedule = Schedule(config.model, config.lengths)
        self.loss = Loss(config.loss)
        self.data: dict[str, Any] = {
            "sample_rate": train.geometry.sample_rate,
            "controls": [control.to_dict() for control in train.geometry.controls],
            "fingerprints": {"train": train.fingerprint, "validation": validation.fingerprint},
        }
        self.loader = GroupLoader(
            train,
            config.batch_size,
            engine.rank,
            engine.world_size,
            config.seed,
            workers=config.data.workers,
            pin_memory=engine.device.type == "cuda",
        )
        self.validator = Validator(
            engine,
            validation,
            self.schedule,
            self.loss,
            config.validation.windows_at_once,
            self.dtype,
        )
        self._build_networks()

    def _build_networks(self) -> None:
        torch.manual_seed(self.config.seed)
        effect = SPTMod(self.config.model).to(self.dtype)
        spn = StatePredictionNetwork(self.config.model) if self.config.model.spn else None
        if spn is not None:
            spn.to(self.dtype)
        self.engine.wrap(effect, spn, self.config.optimizer.learning_rate)

    def fit(self) -> bool:
        """Train to the end, or until a signal asks to stop.

        Returns:
            Whether the training is finished; it can be resumed where it is not.

        Raises:
            UserError: the data cannot be read, the loss is not finite, or the ranks disagree.
        """
        progress = self.progress
        self.monitor = self._make_monitor()
        self._interrupt, self._saved = Interrupt(), time.monotonic()
        try:
            while not self.finished:
                for group in self._groups():
                    self._end_of_group(self._learn(group))
                    if self._stopping or self.finished:
                        break
                else:
                    progress.epoch, progress.group = progress.epoch + 1, 0
                if self._stopping:
                    self._save("step")
                    return False
                if self.finished or self._validation_is_due:
                    self._validate()
            return True
        finally:
            self._interrupt.release()
            self.monitor.close()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: enough iterations, or too many without a better ST."""
        stopping, progress = self.config.stopping, self.progress
        stale = progress.validated_at - progress.best_iteration
        return progress.iteration >= stopping.max_iterations or stale >= stopping.patience

    @property
    def _validation_is_due(self) -> bool:
        since = self.progress.iteration - self.progress.validated_at
        return since >= self.config.validation.every

    def _groups(self) -> Iterator[Group]:
        """This rank's groups from the cursor to the epoch's end, agreed on with the other ranks."""
        progress = self.progress
        groups = self.loader.groups(progress.epoch, start=progress.group)
        for index in range(progress.group, self.loader.n_groups):
            group, error = None, None
            with self.monitor.clock.measure("data"):
                try:
                    group = next(groups)
                except UserError as refusal:
                    error = refusal
            ids = group.sequence_ids if group else ()
            self.engine.agree(f"epoch {progress.epoch}, group {index}, sequences {ids}", error)
            assert group is not None
            yield group

    def _learn(self, group: Group) -> Tensor:
        """One group: N iterations, each a step of Adam.

        Shape: loss terms and gradient norms of each iteration, [N, 5 + 2].
        """
        x, y, controls = (
            tensor.to(self.engine.device, self.dtype, non_blocking=True)
            for tensor in (group.input, group.output, group.controls)
        )
        keep = self._dropout(group)
        state, figures = None, []  # a group starts: reset
        for sub in self.schedule.split(x, y, controls):
            step = forward(self.engine.effect, self.engine.spn, sub, state, keep)
            terms = self.loss(step.prediction, sub.target)
            norms = self.engine.step(terms.total, step.seam)
            state = step.state.detach()  # no gradient crosses a boundary
            figures.append(torch.cat([torch.stack(terms).detach(), norms]))
        return torch.stack(figures)

    def _dropout(self, group: Group) -> Tensor | None:
        """This rank's rows of the global batch's factors, a function of seed, epoch and group."""
        key = f"spn dropout {self.config.seed} {group.epoch} {group.index}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")
        keep = dropout_factors(self.config.model, self.config.batch_size, seed)
        rows = slice(group.rows.start, group.rows.stop)
        return None if keep is None else keep[rows].to(self.engine.device, self.dtype)

    def _end_of_group(self, figures: Tensor) -> None:
        """Advance the cursor and exchange what all must know; the one stop of the device a group.

        A stop that one rank was asked for, a checkpoint that rank 0's clock asks for and the mean
        losses travel in one small exchange, so that every rank decides the same.
        """
        self.progress.group += 1
        self.progress.iteration += len(self.schedule.lengths)
        due = time.monotonic() - self._saved > 60 * self.config.checkpoint.minutes
        mine = [float(self._interrupt.asked), float(due)]
        head = torch.tensor(mine, dtype=torch.float64, device=figures.device)
        table = self.engine.share(torch.cat([head, figures.flatten().double()]))
        self._stopping = bool(table[:, 0].any())
        means = table[:, 2:].mean(0).unflatten(0, figures.shape)
        self._refuse_non_finite(means)
        self.monitor.group(self.progress.iteration, means)
        if table[0, 1]:
            self._save("step")

    def _refuse_non_finite(self, means: Tensor) -> None:
        if means.isfinite().all():
            return
        bad = int((~means.isfinite()).any(1).nonzero()[0])
        at = self.progress.iteration - len(means) + bad + 1
        raise TrainingError(
            f"the loss or a gradient is not finite at iteration {at}: nothing of it was saved; "
            "lower optimizer.learning_rate, or look at the data with 'sptmod-dist shards verify'"
        )

    def _validate(self) -> None:
        progress = self.progress
        with self.monitor.clock.measure("validation"):
            result = self.validator.run()
        progress.validated_at = progress.iteration
        better = result.st["total"] < progress.best
        if better:
            progress.best, progress.best_iteration = result.st["total"], progress.iteration
        self.monitor.validation(progress.iteration, progress.epoch, result, better)
        if better:
            self._save("best")
        self._save("step")

    # Checkpoints -------------------------------------------------------------------------------

    def _save(self, kind: str) -> None:
        """Rank 0 writes a checkpoint `step-…` or `best-…`; a full disk does not stop training."""
        self._saved = time.monotonic()
        if not self.engine.is_main:
            return
        weights, moments = self.engine.export()
        name = f"{kind}-{self.progress.iteration:08d}"
        try:
            checkpoint.save(
                self.run.checkpoints, name, Checkpoint(weights, moments, self._state())
            )
            keep = self.config.checkpoint.keep if kind == "step" else 1
            checkpoint.prune(self.run.checkpoints, kind, keep)
        except OSError as error:
            self.monitor.say(f"no checkpoint was written ({error}); the one before it stays")

    def _state(self) -> dict[str, Any]:
        versions = {"sptmod_dist": __version__, "torch": str(torch.__version__)}
        progress = asdict(self.progress)
        if math.isinf(self.progress.best):
            progress["best"] = None  # JSON has no infinity
        config = to_dict(self.config)
        return {"progress": progress, "config": config, "data": self.data, "versions": versions}

    def resume(self, saved: Checkpoint) -> None:
        """Go on where a checkpoint was written.

        Raises:
            TrainingError: listing every setting that differs and changes the training.
        """
        differences = list(_differences(saved.state, self._state()))
        if differences:
            raise TrainingError(
                f"the checkpoint belongs to another training: {'; '.join(differences)}; give these "
                "settings back, or start a new run under another name"
            )
        self.engine.load(saved.weights, saved.moments)
        progress = dict(saved.state["progress"])
        if progress["best"] is None:
            progress["best"] = math.inf
        self.progress = Progress(**progress)

    def _make_monitor(self) -> Monitor:
        config = self.config
        seconds = config.batch_size * self.schedule.hop / self.data["sample_rate"]
        return Monitor(
            self.run,
            self.engine.rank,
            self.progress.iteration,
            config.stopping.max_iterations,
            config.monitor.every,
            seconds / len(config.lengths),
            config.optimizer.learning_rate,
        )


# Settings that may differ between a checkpoint and the training that takes it up: none of them
# changes what an iteration computes. The data are compared by their fingerprints.
FREE = {
    "name",
    "runs_dir",
    "data",
    "validation",
    "stopping",
    "checkpoint",
    "monitor",
    "distributed",
}


def _differences(saved: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    pairs = {"": (saved["config"], asked["config"]), "data.": (saved["data"], asked["data"])}
    for prefix, (old, new) in pairs.items():
        for key in sorted({*old, *new}):
            if not (prefix == "" and key in FREE):
                yield from _compare(f"{prefix}{key}", old.get(key), new.get(key))


def _compare(key: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _compare(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield f"{key} was {old} and is {new}"
