"""The training itself: epochs, groups, iterations (DAFx25, section 2.4, read top-down).

Every rank runs this same program on its own rows of the same global batches. State lives inside a
group and nowhere else; a stop, a checkpoint and a resume happen between groups.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sptmod_dist import __version__
from sptmod_dist.data.loader import Group
from sptmod_dist.errors import UserError
from sptmod_dist.losses import Loss
from sptmod_dist.model.spn import StatePredictionNetwork, dropout_factors
from sptmod_dist.model.sptmod import ModelState, SPTMod
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint, CheckpointError
from sptmod_dist.train.config import TrainConfig, from_dict, to_dict
from sptmod_dist.train.data import Data
from sptmod_dist.train.engine import Engine
from sptmod_dist.train.interrupt import Interrupt
from sptmod_dist.train.monitor import Monitor
from sptmod_dist.train.progress import Progress, differences
from sptmod_dist.train.ranks import SharedError
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.schedule import learning_rate
from sptmod_dist.train.validation import Validator


class TrainingError(UserError):
    """A training that cannot go on."""


class Trainer:
    """One training on this rank; `connect` brings it together with the others.

    Args:
        config: every setting.
        engine: this process among the others.
        run: where results go.
        data: opened; its geometry is the model's.
    """

    def __init__(self, config: TrainConfig, engine: Engine, run: RunFolder, data: Data) -> None:
        self.config, self.engine, self.run = config, engine, run
        self.progress = Progress()
        self._stopping = False
        self.schedule = Schedule(config.model, config.lengths)
        self.loss = Loss(config.loss)
        self.data, self.loader = data.about, data.loader
        self.validator = Validator(
            engine,
            data.validation,
            self.schedule,
            self.loss,
            config.validation.windows_at_once,
            config.dtype,
        )

    def connect(self) -> None:
        """Build the networks and spread them; every rank must call this.

        Raises:
            SharedError: the ranks were given different settings or data.
        """
        # Folders may differ over the ranks, data and their order may not.
        how = [self.config.data.stream, self.config.data.stream_buffer]
        settings = {**to_dict(self.config), "data": [self.data, how]}
        about = json.dumps(settings, sort_keys=True)
        digest = hashlib.sha256(about.encode()).hexdigest()[:16]
        self.engine.agree(f"the start, with settings and data of digest {digest}")
        torch.manual_seed(self.config.seed)
        effect = SPTMod(self.config.model).to(self.config.dtype)
        spn = None
        if self.config.model.spn is not None:
            spn = StatePredictionNetwork(self.config.model).to(self.config.dtype)
        self.engine.wrap(effect, spn, self.config.optimizer, self.config.precision == "bf16")

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
                    self.engine.remember()
                    self._end_of_group(group, *self._learn(group))
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
            # A launcher that sees one rank fail ends the others: they must live to say why.
            if self.engine.world_size == 1 or sys.exc_info()[0] is None:
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

    @property
    def _is_plateau(self) -> bool:
        progress, schedule = self.progress, self.config.optimizer.schedule
        since = progress.iteration - max(progress.best_iteration, progress.reduced_at)
        return schedule.kind == "plateau" and since >= schedule.patience

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

    def _learn(self, group: Group) -> tuple[Tensor, Tensor]:
        """One group: N iterations, each a step of AdamW over all slices of this rank's rows.

        Shape: loss terms of each slice [slices, N, terms], both gradient norms [N, 2].
        """
        slices = list(self._slices(group))
        states: list[ModelState | None] = [None] * len(slices)  # a group starts: reset
        figures, norms = [], []
        for subs in zip(*(self.schedule.split(*parts) for *parts, _ in slices), strict=True):
            for k, sub in enumerate(subs):
                with self.engine.slice(k):
                    keep = slices[k][-1]
                    step = forward(self.engine.effect, self.engine.spn, sub, states[k], keep)
                    terms = self.loss(step.prediction, sub.target)
                    self.engine.backward(terms.total, step.seam)
                states[k] = step.state.detach()  # no gradient crosses a boundary
                figures.append(torch.stack(terms).detach())
            rate = self._learning_rate(subs[0].index)
            norms.append(self.engine.step(rate))
        by_slice = torch.stack(figures).unflatten(0, (-1, len(slices))).transpose(0, 1)
        return by_slice, torch.stack(norms)

    def _slices(self, group: Group) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """This rank's rows in slices: input, output, controls and dropout factors of each."""
        x, y, controls = (
            tensor.to(self.engine.device, self.config.dtype, non_blocking=True)
            for tensor in (group.input, group.output, group.controls)
        )
        keep = self._dropout(group)
        rows = len(x) // self.engine.n_slices
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            yield x[part], y[part], controls[part], None if keep is None else keep[part]

    def _learning_rate(self, ahead: int = 0) -> float:
        """Of the iteration that comes after so many of the next group."""
        progress = self.progress
        return learning_rate(
            self.config.optimizer, progress.iteration + ahead, progress.reductions
        )

    def _dropout(self, group: Group) -> Tensor | None:
        """This rank's rows of the global batch's factors, a function of seed, epoch and group."""
        key = f"spn dropout {self.config.seed} {group.epoch} {group.index}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")
        keep = dropout_factors(self.config.model, self.config.batch_size, seed)
        rows = slice(group.rows.start, group.rows.stop)
        return None if keep is None else keep[rows].to(self.engine.device, self.config.dtype)

    def _end_of_group(self, group: Group, terms: Tensor, norms: Tensor) -> None:
        """Exchange what all must know, and advance the cursor.

        A stop that one rank was asked for, a checkpoint that rank 0's clock asks for and the
        losses travel in one small exchange, so that every rank decides the same.

        Shape: as from `_learn`.
        """
        due = time.monotonic() - self._saved > 60 * self.config.checkpoint.minutes
        head = torch.tensor([self._interrupt.asked_at is not None, due], device=terms.device)
        table = self.engine.share(torch.cat([head.double(), terms.flatten(), norms.flatten()]))
        self._stopping = bool(table[:, 0].any())
        everyone = table[:, 2 : 2 + terms.numel()].unflatten(1, terms.shape)
        norms = table[0, -norms.numel() :].unflatten(0, norms.shape)  # the same on every rank
        self.progress.group += 1
        fault = _not_finite(everyone, norms, self.progress.iteration)
        if fault is not None:
            self._undo(group, fault)
        else:
            rate = self._learning_rate(len(norms) - 1)
            self.progress.iteration += len(norms)
            self.progress.skipped = 0
            # One mean over all slices in their order, so that it does not depend on the ranks.
            means = everyone.flatten(0, 1).mean(0)
            self.monitor.group(self.progress.iteration, torch.cat([means, norms], dim=1), rate)
        if table[0, 1]:
            self._save("step")

    def _undo(self, group: Group, fault: str) -> None:
        """Back to the group's start, on every rank; then skip the group or stop."""
        stopping, progress = self.config.stopping, self.progress
        self.engine.go_back()
        in_a_row = progress.skipped + 1
        what = f"{fault} (epoch {group.epoch}, group {group.index})"
        if stopping.non_finite == "skip" and in_a_row < stopping.skips:
            progress.skipped = in_a_row
            self.monitor.say(f"{what}: its group is undone and skipped")
            return
        as_before = f", as in {in_a_row} groups in a row" if in_a_row > 1 else ""
        progress.group -= 1  # a resume that skips meets it again
        self._save("step")
        raise SharedError(
            f"{what}{as_before}: its group is undone and the state before it is saved; leave such "
            "groups out with --stopping.non_finite skip, or start a run with a lower "
            "optimizer.learning_rate or with optimizer.clip_norm"
        )

    def _validate(self) -> None:
        progress = self.progress
        with self.monitor.clock.measure("validation"):
            result = self.validator.run(self.engine.judged())
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
        elif self._is_plateau:
            progress.reductions, progress.reduced_at = progress.reductions + 1, progress.iteration
        self.monitor.validation(progress.iteration, progress.epoch, result, better)
        if better:
            self._save("best")
        self._save("step")

    # Checkpoints -------------------------------------------------------------------------------

    def _save(self, kind: str) -> None:
        """Rank 0 writes a checkpoint `step-…` or `best-…`; a full disk does not stop training."""
        self._saved = time.monotonic()
        weights, moments, averages = self.engine.export()
        if not self.engine.is_main:
            return
        name = f"{kind}-{self.progress.iteration:08d}"
        try:
            saved = Checkpoint(weights, moments, self._state(), averages)
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
        whole = to_dict(from_dict(saved.state["config"], str(path)))  # with settings since added
        found = list(differences({**saved.state, "config": whole}, self._state()))
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
        self.engine.load(saved.weights, saved.moments, saved.averages)

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
        )


def _not_finite(terms: Tensor, norms: Tensor, before: int) -> str | None:
    """Where a group first went wrong, in words; None where it did not.

    After a step on a gradient that is not finite every rank's losses are so: the first tells who.

    Args:
        before: iterations before the group.

    Shape: terms of every rank [W, slices, N, terms], norms [N, 2].
    """
    bad = ~terms.isfinite().all(dim=(1, 3))  # [W, N]
    either = bad.any(0) | ~norms.isfinite().all(1)
    if not either.any():
        return None
    first = int(either.long().argmax())
    ranks = [str(rank) for rank, row in enumerate(bad) if row[first]]
    who = f"the loss of rank {', '.join(ranks)}" if ranks else "a gradient"
    return f"{who} is not finite at iteration {before + first + 1}"
