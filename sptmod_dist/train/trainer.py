"""The training itself: epochs, groups, iterations (DAFx25, section 2.4, read top-down).

Every rank runs this same program on its own rows of the same global batches. State lives inside a
group and nowhere else; a stop, a checkpoint and a resume happen between groups.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
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
from sptmod_dist.train.checkpoint import Checkpoint, CheckpointError
from sptmod_dist.train.config import DTYPES, TrainConfig, to_dict
from sptmod_dist.train.engine import Engine, SharedError
from sptmod_dist.train.monitor import Monitor
from sptmod_dist.train.progress import Progress, differences
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.validation import Validator


class TrainingError(UserError):
    """A training that cannot go on."""


class Interrupt:
    """Remembers a signal that asks to stop; the training looks at it between groups.

    A launcher may send a second signal on the heels of the first; a second Ctrl-C that comes later
    is a person who will not wait.
    """

    def __init__(self) -> None:
        self.asked_at: float | None = None
        self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self.asked_at is not None and now - self.asked_at > 1:
            raise KeyboardInterrupt
        self.asked_at = self.asked_at or now

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Trainer:
    """One training on this rank; `connect` brings it together with the others.

    Args:
        config: every setting.
        engine: this process among the others.
        run: where results go.
        train, validation: the data; their geometry is the model's.

    Raises:
        UserError: processes that do not divide the batch, or fewer sequences than it takes.
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
        self._stopping = False
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

    def connect(self) -> None:
        """Build the networks and spread them; every rank must call this.

        Raises:
            SharedError: the ranks were given different settings or data.
        """
        settings = {**to_dict(self.config), "data": self.data}  # folders may differ, data may not
        about = json.dumps(settings, sort_keys=True)
        digest = hashlib.sha256(about.encode()).hexdigest()[:16]
        self.engine.agree(f"the start, with settings and data of digest {digest}")
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
                    self._end_of_group(group, self._learn(group))
                    if self._stopping or self.finished:
                        break
                else:
                    progress.epoch, progress.group = progress.epoch + 1, 0
                if self._stopping:
                    self._save("step")
                    return False
                if self._validation_is_due:
                    self._validate()
            if progress.validated_at < progress.iteration:
                self._validate()  # the end of training, wherever in an epoch
            return True
        finally:
            self.monitor.close()
            self._interrupt.release()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: enough iterations, or too many without a better ST."""
        stopping, progress = self.config.stopping, self.progress
        stale = progress.validated_at - progress.best_iteration
        return progress.iteration >= stopping.max_iterations or stale >= stopping.patience

    @property
    def _validation_is_due(self) -> bool:
        since = self.progress.iteration - self.progress.validated_at
        return since >= self.config.validation.every and not self.finished

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

        Shape: loss terms and both gradient norms of each iteration, [N, terms + 2].
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

    def _end_of_group(self, group: Group, figures: Tensor) -> None:
        """Advance the cursor and exchange what all must know.

        A stop that one rank was asked for, a checkpoint that rank 0's clock asks for and the mean
        losses travel in one small exchange, so that every rank decides the same.
        """
        self.progress.group += 1
        self.progress.iteration += len(self.schedule.lengths)
        due = time.monotonic() - self._saved > 60 * self.config.checkpoint.minutes
        mine = [float(self._interrupt.asked_at is not None), float(due)]
        head = torch.tensor(mine, dtype=torch.float64, device=figures.device)
        table = self.engine.share(torch.cat([head, figures.flatten().double()]))
        self._stopping = bool(table[:, 0].any())
        self._refuse_non_finite(group, table[:, 2:])
        means = table[:, 2:].mean(0).unflatten(0, figures.shape)
        self.monitor.group(self.progress.iteration, means)
        if table[0, 1]:
            self._save("step")

    def _refuse_non_finite(self, group: Group, table: Tensor) -> None:
        """The same on every rank: a row a rank, [W, …]."""
        bad = [rank for rank, row in enumerate(table) if not row.isfinite().all()]
        if bad:
            raise SharedError(
                f"the loss or a gradient is not finite by iteration {self.progress.iteration} "
                f"(epoch {group.epoch}, group {group.index}, rank {', '.join(map(str, bad))}): "
                "nothing of it was saved; start a run with a lower optimizer.learning_rate"
            )

    def _validate(self) -> None:
        progress = self.progress
        with self.monitor.clock.measure("validation"):
            result = self.validator.run()
        st = result.st["total"]
        if not math.isfinite(st + result.wt["total"] + result.st_whole["total"]):
            raise SharedError(
                f"the validation loss is not finite at iteration {progress.iteration}: nothing of "
                "it was saved; start a run with a lower optimizer.learning_rate"
            )
        progress.validated_at = progress.iteration
        better = progress.best is None or st < progress.best
        if better:
            progress.best, progress.best_iteration = st, progress.iteration
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
        name = f"{kind}-{self.progress.iteration:08d}"
        try:
            saved = Checkpoint(*self.engine.export(), self._state())
            checkpoint.save(self.run.checkpoints, name, saved)
            keep = self.config.checkpoint.keep if kind == "step" else 1
            checkpoint.prune(self.run.checkpoints, kind, keep)
        except OSError as error:
            self.monitor.say(f"no checkpoint was written ({error}); the one before it stays")

    def _state(self) -> dict[str, Any]:
        return {
            "progress": self.progress.to_dict(),
            "config": to_dict(self.config),
            "data": self.data,
            "versions": {"sptmod_dist": __version__, "torch": str(torch.__version__)},
        }

    def resume(self, path: Path, saved: Checkpoint) -> None:
        """Go on where a checkpoint was written.

        Raises:
            TrainingError: listing every setting that differs and changes the training.
            CheckpointError: what it holds does not fit together.
        """
        found = list(differences(saved.state, self._state()))
        if found:
            raise TrainingError(
                f"{path} belongs to another training: {'; '.join(found)}; give these settings "
                "back, or start a new run under another name"
            )
        try:
            self.progress = Progress.from_dict(saved.state["progress"])
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}: take another checkpoint") from None
        if self.progress.group > self.loader.n_groups:
            raise CheckpointError(f"{path}: progress.group is past the epoch's end")
        if self.progress.iteration and not saved.moments:
            raise CheckpointError(f"{path} has lost the optimizer's moments: take another one")
        self.engine.load(saved.weights, saved.moments)

    def forget_best(self) -> None:
        """Without the best checkpoint its record is worth nothing: the next validation sets it."""
        self.progress.best, self.progress.validated_at = None, 0

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
