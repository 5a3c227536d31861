"""The training itself: epochs, groups, iterations (DAFx25, section 2.4, read top-down).

Every rank runs this same program on its own rows of the same global batches. State lives inside a
group and nowhere else; a stop, a checkpoint and a resume happen between groups.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sptmod_dist import __version__
from sptmod_dist.data.loader import Group
from sptmod_dist.errors import UserError
from sptmod_dist.losses import Loss
from sptmod_dist.model.effects import EffectState, build_effect
from sptmod_dist.model.spn import StatePredictionNetwork, dropout_factors
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train.checkpoint import Checkpoint, Tensors
from sptmod_dist.train.config import TrainConfig, to_dict, to_yaml
from sptmod_dist.train.data import Data
from sptmod_dist.train.divergence import Diverged, not_finite
from sptmod_dist.train.engine import Engine
from sptmod_dist.train.interrupt import Interrupt
from sptmod_dist.train.keeper import Keeper
from sptmod_dist.train.listening import Listener
from sptmod_dist.train.monitor import Monitor
from sptmod_dist.train.progress import Progress
from sptmod_dist.train.resume import begun, taken_up
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.schedule import learning_rate
from sptmod_dist.train.showing import Showing
from sptmod_dist.train.validation import Validator
from sptmod_dist.train.watchdog import Watchdog


class Trainer:
    """One training on this rank; `connect` brings it together with the others.

    Args:
        config: every setting.
        engine: this process among the others.
        run: where results go.
        data: opened; its geometry is the model's.
        interrupt: hears the signals that ask to stop.
    """

    def __init__(
        self,
        config: TrainConfig,
        engine: Engine,
        run: RunFolder,
        data: Data,
        interrupt: Interrupt,
    ) -> None:
        self.config, self.engine, self.run, self._interrupt = config, engine, run, interrupt
        self._keeper: Keeper | None = None
        self.progress = Progress()
        self.seconds = 0.0  # of training, over all its starts
        self._shown: dict[str, Any] = {}
        self._stopping = False
        self.schedule = Schedule(config.model, config.lengths)
        self.loss = Loss(config.loss)
        self.data, self.loader = data.about, data.loader
        shown = config.validation
        self.listener = Listener(engine, data.validation, shown.excerpts, shown.excerpt_seconds)
        self.validator = Validator(
            engine,
            data.validation,
            self.schedule,
            self.loss,
            config.validation.windows_at_once,
            config.dtype,
            self.listener,
        )

    def connect(self) -> None:
        """Build the networks and spread them; every rank must call this.

        Raises:
            SharedError: the ranks were given different settings or data.
        """
        # Folders may differ over the ranks, data and their order may not.
        settings = {**to_dict(self.config), "data": self.data}
        about = json.dumps(settings, sort_keys=True)
        digest = hashlib.sha256(about.encode()).hexdigest()[:16]
        self.engine.agree(f"the start, with settings and data of digest {digest}")
        torch.manual_seed(self.config.seed)
        effect = build_effect(self.config.model).to(self.config.dtype)
        spn = None
        if self.config.model.spn is not None:
            spn = StatePredictionNetwork(self.config.model).to(self.config.dtype)
        self.engine.wrap(effect, spn, self.config.optimizer, self.config.precision == "bf16")

    def fit(self) -> bool:
        """Train to the end, or until a signal asks to stop.

        Returns:
            Whether the training is finished; it can be resumed where it is not.

        Raises:
            UserError: the data cannot be read, the loss is not finite, the ranks disagree, or the
                end cannot be written.
        """
        self.monitor, self._keeper, self._watchdog = self._attendants()
        self.tell("running")
        self.showing = self._begin_showing()
        asked = [float(self._interrupt.asked_at is not None)]  # during the start
        self._stopping = bool(self.engine.share(torch.tensor(asked)).any())
        try:
            while not (self._stopping or self.finished):
                # Asked at an epoch's start, where a stop may have come between it and the end.
                if self.progress.group == 0 and self._validation_is_due():
                    self._validate()
                else:
                    self._epoch()
            if not self._stopping and self.progress.validated_at < self.progress.iteration:
                self._validate()  # the end of training, wherever in an epoch
            if self._stopping:
                self._save("step")
            else:
                self.engine.on_main(self._keeper.settle)
            return not self._stopping
        finally:
            self._watchdog.close()
            self.monitor.close()

    def _epoch(self) -> None:
        """The groups of an epoch that are left, until it ends or training does."""
        for group in self._groups():
            self.engine.remember()
            self._end_of_group(group, *self._learn(group))
            self._watchdog.arm()
            if self._stopping or self.finished:
                return
        self.progress.epoch, self.progress.group = self.progress.epoch + 1, 0

    def _look(self, where: str) -> bool:
        """Note where this rank is, for the watchdog; whether a signal has asked it to stop."""
        progress = self.progress
        self._watchdog.at(f"epoch {progress.epoch}, group {progress.group}, {where}")
        return self._interrupt.asked_at is not None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: enough iterations, or too many without a better ST."""
        stopping, progress = self.config.stopping, self.progress
        stale = progress.validated_at - progress.best_iteration
        return progress.iteration >= stopping.max_iterations or stale >= stopping.patience

    def _validation_is_due(self, ahead: int = 0) -> bool:
        """Whether so many iterations from now the end of an epoch is to be followed by one."""
        since = self.progress.iteration + ahead - self.progress.validated_at
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
            self._look("waiting for data")
            with self.monitor.clock.measure("data"):
                try:
                    group = next(groups)
                except UserError as refusal:
                    error = refusal
            ids = group.sequence_ids if group else ()
            self._look("comparing its place with the other processes")
            self.engine.agree(f"epoch {progress.epoch}, group {index}, sequences {ids}", error)
            assert group is not None
            yield group

    def _learn(self, group: Group) -> tuple[Tensor, Tensor]:
        """One group: N iterations, each a step of AdamW over all slices of this rank's rows.

        Shape: loss terms of each slice [slices, N, terms], both gradient norms [N, 2].
        """
        slices = list(self._slices(group))
        states: list[EffectState | None] = [None] * len(slices)  # a group starts: reset
        figures, norms = [], []
        for subs in zip(*(self.schedule.split(*parts) for *parts, _ in slices), strict=True):
            self._look(f"learning from sub-sequence {subs[0].index}")
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
        asked = self._look("telling the other processes its losses")
        at_end = self.progress.group + 1 == self.loader.n_groups
        assert self._keeper is not None, "made by `fit`"
        stays = at_end and self._keeper.stays(self.progress.epoch)
        due = self._keeper.is_due(at_end and not self._validation_is_due(len(norms)))
        head = torch.tensor([asked, due], device=terms.device)
        table = self.engine.share(torch.cat([head.double(), terms.flatten(), norms.flatten()]))
        self._stopping = bool(table[:, 0].any())
        everyone = table[:, 2 : 2 + terms.numel()].unflatten(1, terms.shape)
        norms = table[0, -norms.numel() :].unflatten(0, norms.shape)  # the same on every rank
        self.progress.group += 1
        fault = not_finite(everyone, norms, self.progress.iteration)
        if fault is not None:
            self._undo(group, fault)
        else:
            rate = self._learning_rate(len(norms) - 1)
            self.progress.iteration += len(norms)
            self.progress.skipped = 0
            # One mean over all slices in their order, so that it does not depend on the ranks.
            means = everyone.flatten(0, 1).mean(0)
            self.monitor.group(self.progress.iteration, torch.cat([means, norms], dim=1), rate)
        if stays:  # before the other: a run that goes on from that one has passed this
            self._save("epoch")
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
        raise Diverged(
            f"{what}{as_before}: its group is undone and the state before it is saved; leave such "
            "groups out with --stopping.non_finite skip, or start a run with a lower "
            "optimizer.learning_rate or with optimizer.clip_norm"
        )

    def _validate(self) -> None:
        progress = self.progress
        with self.monitor.clock.measure("validation"):
            result = self.validator.run(self.engine.judged(), self._look, self._watchdog.alive)
        if result is None:
            self._stopping = True  # the next start begins it again
            return
        st = result.st["total"]
        if not math.isfinite(st + result.wt["total"] + result.st_whole["total"]):
            raise Diverged(
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
        with self.monitor.clock.measure("validation"):
            self._look("showing the excerpts")
            self.showing.validation(progress.iteration, better)
        if better:
            self._save("best")
        self._save("step")

    # Checkpoints -------------------------------------------------------------------------------

    def _save(self, kind: str) -> None:
        """Rank 0 writes a checkpoint `step-…`, `best-…` or `epoch-…`; every rank must call this.

        All wait for it: as soon as one process leaves, a launcher ends those that still write.
        """
        self._look(f"writing the checkpoint {kind}")
        parts = self.engine.export()
        self.engine.on_main(lambda: self._write(kind, *parts))

    def _write(self, kind: str, weights: Tensors, moments: Tensors, averages: Tensors) -> None:
        assert self._keeper is not None, "made by `fit`"
        self._shown = self.monitor.flush()  # what a resumed run does not show again
        self.seconds = self._keeper.seconds
        saved = Checkpoint(weights, moments, self._state(), averages)
        self._keeper.write(kind, self.progress.iteration, saved)
        self.tell("running")

    def tell(self, state: str, why: str = "") -> None:
        """Rank 0 notes in the run's folder how the training stands, once it has begun."""
        if self.engine.is_main and self._keeper is not None:
            self._keeper.status(state, self.progress.to_dict(), why)

    def _state(self) -> dict[str, Any]:
        return {
            "progress": self.progress.to_dict(),
            "seconds": self.seconds,
            "shown": self._shown,
            "config": to_dict(self.config),
            "data": self.data,
            "versions": {"sptmod_dist": __version__, "torch": str(torch.__version__)},
        }

    def resume(self, path: Path, saved: Checkpoint, force: bool = False) -> list[str]:
        """Go on where a checkpoint was written.

        Args:
            force: go on though settings or data differ.

        Returns:
            What differs, in words; nothing unless `force`.

        Raises:
            TrainingError: listing every setting that differs and changes the training.
            CheckpointError: what it holds does not fit together.
        """
        n_groups = self.loader.n_groups
        self.progress, found = taken_up(path, saved, self._state(), n_groups, force)
        self.engine.load(saved.weights, saved.moments, saved.averages)
        self.seconds, self._shown = begun(saved.state)
        return found

    def _begin_showing(self) -> Showing:
        """Who gives TensorBoard what is heard and seen; the settings come first."""
        run, items = f"{self.config.runs_dir}/{self.config.name}", self.data["fingerprints"]
        showing = Showing(self.listener, self.monitor, f"{run}, {items['validation']}")
        showing.settings(to_yaml(self.config))
        return showing

    def _attendants(self) -> tuple[Monitor, Keeper, Watchdog]:
        """Who shows, keeps and watches over the training while it runs."""
        config, engine = self.config, self.engine
        seconds = config.batch_size * self.schedule.hop / self.data["sample_rate"]
        monitor = Monitor(
            self.run,
            engine.rank,
            self.progress.iteration,
            self.progress.validated_at == self.progress.iteration,
            config.stopping.max_iterations,
            config.monitor.every,
            seconds / len(config.lengths),
            self._shown,
        )
        keeper = Keeper(self.run, config.checkpoint, self.seconds, engine.world_size, monitor.say)
        log = self.run.log_file(engine.rank)
        return monitor, keeper, Watchdog(config.distributed.watchdog, engine, log)
