"""From a configuration to a finished run: open the data, prepare the folder, train, report.

What every rank must agree on before the first step is settled here; the loop is in `trainer.py`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sptmod_dist.errors import UserError
from sptmod_dist.model.kernels import use_kernels
from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.config import TrainConfig, to_yaml
from sptmod_dist.train.data import open_data
from sptmod_dist.train.divergence import Diverged
from sptmod_dist.train.engine import Engine
from sptmod_dist.train.interrupt import Interrupt
from sptmod_dist.train.ranks import SharedError, is_broken_exchange, is_timeout
from sptmod_dist.train.run_folder import RunError, RunFolder
from sptmod_dist.train.trainer import Trainer

FINISHED, REQUEUE = 0, 85
"""Exit codes: all done; or stopped by a signal after a checkpoint, to be started again."""


def train(
    config: TrainConfig, resume: str | None = None, overwrite: bool = False, force: bool = False
) -> int:
    """Run a training on this process; the launcher starts as many as there shall be.

    Args:
        config: every setting.
        resume: `auto` continues the run where it stands, or starts it; a path is a checkpoint.
        overwrite: replace what an earlier run of this name wrote.
        force: go on from a checkpoint of other settings or data.

    Returns:
        The exit code: 0 when finished, 85 when a signal stopped it after a checkpoint.

    Raises:
        UserError: whatever the user can mend, raised on every rank alike, or a fault of one rank.
        SystemExit: on the other ranks, after such a fault.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite contradict each other: give one of them")
    _make_deterministic(config)
    use_kernels(config.kernels)
    engine = Engine(config.distributed)
    try:
        launch = sorted(set(engine.gather(_launch())))
        code = _begin(engine, config, Start(resume, overwrite, force, launch))
    except SharedError:
        engine.close()
        raise
    except Exception as error:
        # Without leaving the group in good order: the others may be waiting in an exchange.
        raise _failure(engine, config, error) from error
    engine.leave(code)
    engine.close()
    return code


def train_on(
    engine: Engine,
    config: TrainConfig,
    resume: str | None = None,
    overwrite: bool = False,
    force: bool = False,
) -> int:
    """As `train`, among processes that have met already; several trainings can follow.

    Raises:
        UserError: as `train`.
    """
    return _begin(engine, config, Start(resume, overwrite, force, launch=[]))


def _begin(engine: Engine, config: TrainConfig, asked: Start) -> int:
    """Settle what all ranks must agree on, train, and give back folder and signals."""
    config = engine.settle(config)
    run, interrupt = RunFolder(Path(config.runs_dir) / config.name), Interrupt()
    try:
        return _train(engine, config, run, interrupt, asked)
    finally:
        run.lock.release()
        # A launcher that sees one rank fail ends the others: they must live to say why.
        if engine.world_size == 1 or sys.exc_info()[0] is None:
            interrupt.release()


@dataclass(frozen=True)
class Start:
    """How a training is to begin: see `train`."""

    resume: str | None
    overwrite: bool
    force: bool
    launch: list[str]
    """Who started the processes."""


def _train(
    engine: Engine, config: TrainConfig, run: RunFolder, interrupt: Interrupt, asked: Start
) -> int:
    start = engine.on_main(lambda: _claim(run, asked))
    if engine.world_size > 1:
        _require_one_folder(engine, run)
    resume = start.resume
    saved = engine.on_main(lambda: _find_checkpoint(run, resume))
    data = open_data(engine, config)
    trainer = Trainer(config, engine, run, data, interrupt)
    trainer.connect()
    forced: list[str] = []
    if saved is not None:
        forced = engine.together(lambda: trainer.resume(*saved, force=start.force))
        summary = engine.on_main(run.summary) if resume == "auto" else None
        if summary is not None and trainer.finished:
            _say(engine, f"{run.path} is finished: {_in_words(_summary(trainer))}")
            return FINISHED
    text, source = to_yaml(config), Path(resume) if resume not in (None, "auto") else None
    engine.on_main(
        lambda: run.prepare(text, resuming=resume is not None, source=source, launch=asked.launch)
    )
    if saved is not None and resume == "auto":
        damaged = engine.on_main(lambda: run.set_aside_before(saved[0]))
        if damaged:
            _say(engine, f"damaged checkpoints were set aside: {', '.join(damaged)}")
    if saved is not None and not engine.on_main(
        lambda: run.has_best(trainer.progress.best_iteration)
    ):
        trainer.progress.forget_best()
    if forced:
        _say(engine, f"going on with another training's checkpoint: {'; '.join(forced)}")
    for line in (_announcement(config, engine, trainer, saved), *data.notes):
        _say(engine, line)
    try:
        return _fit(engine, run, trainer)
    except SharedError as error:
        trainer.tell("diverged" if isinstance(error, Diverged) else "failed", str(error))
        raise SharedError(f"{error}{run.go_on()}") from None
    except Exception as error:
        trainer.tell("failed", _reason(error, config))
        vars(error)["go_on"] = run.go_on()  # for whoever explains it
        raise


def _fit(engine: Engine, run: RunFolder, trainer: Trainer) -> int:
    """Train, and say how it ended, in the run's folder too."""
    if not trainer.fit():
        engine.on_main(lambda: trainer.tell("preempted"))  # all wait for it
        at = trainer.progress.iteration
        _say(engine, f"stopped at iteration {at}{run.go_on()}")
        return REQUEUE
    summary = _summary(trainer)
    engine.on_main(lambda: run.write_summary(summary))
    engine.on_main(lambda: trainer.tell("finished"))
    _say(engine, f"{run.path} is finished: {_in_words(summary)}")
    return FINISHED


def _launch() -> list[str]:
    """Who started this process, where that is torchrun, in a word that no other launch has."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return []
    agent = os.getppid()
    try:  # when it began, as the kernel counts: numbers of processes are used again
        began = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        began = ""
    return [f"{socket.gethostname()} {agent} {began}"]


def _require_one_folder(engine: Engine, run: RunFolder) -> None:
    """Refuse a start whose processes have several folders, before anything in one is touched."""
    try:
        engine.on_main(lambda: run.show(engine.meeting))
        engine.together(lambda: run.require_seen(engine.meeting))
    finally:
        if engine.is_main:
            run.hide(engine.meeting)


def _claim(run: RunFolder, asked: Start) -> Start:
    """Take the run's folder, and settle how to begin there.

    torchrun gives processes that it starts anew, after a failure or since the number of machines
    has changed, the options of the first ones: where those had begun, these continue.
    """
    if run.lock.knows(asked.launch):
        has_begun = asked.resume is None or run.newest_checkpoint() is not None
        asked = replace(asked, resume="auto" if has_begun else asked.resume, overwrite=False)
    run.claim(resuming=asked.resume is not None, overwrite=asked.overwrite)
    return asked


class TrainingFailure(UserError):
    """A training that ended on one rank, for a reason that need not be the user's."""

    code = 1


def _failure(engine: Engine, config: TrainConfig, error: Exception) -> UserError:
    """What the first rank that fails says to the user; the ranks that fail after it say nothing.

    Raises:
        SystemExit: on all but the first.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a launcher that ends all lets this one speak
    run = RunFolder(Path(config.runs_dir) / config.name)
    note = "" if isinstance(error, UserError) else run.note_traceback(engine.rank, error)
    if not engine.speaks():
        raise SystemExit(1) from error
    words = _reason(error, config)
    if not (isinstance(error, UserError) or is_broken_exchange(error)):
        words = f"{words}; {note}"
    failure = TrainingFailure(words + vars(error).get("go_on", ""))
    failure.code = error.code if isinstance(error, UserError) else TrainingFailure.code
    return failure


def _reason(error: Exception, config: TrainConfig) -> str:
    """Why this process ends, in words."""
    if isinstance(error, UserError):
        return str(error)
    if is_broken_exchange(error) and is_timeout(error):
        return (
            f"the other processes did not answer for {config.distributed.timeout:g} s "
            "(distributed.timeout): one of them hangs, or is much slower"
        )
    if is_broken_exchange(error):
        return "another process has gone without a word: was it killed, or out of memory?"
    return f"{type(error).__name__} ({' '.join(str(error).split()):.300})"


def _make_deterministic(config: TrainConfig) -> None:
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _find_checkpoint(run: RunFolder, resume: str | None) -> tuple[Path, Checkpoint] | None:
    if resume is None:
        return None
    if resume == "auto":
        return run.last_checkpoint()
    path = Path(resume)
    if not path.is_dir():
        raise RunError(f"--resume {resume} is no folder: give a checkpoint's folder, or auto")
    return path, checkpoint.load(path)


def _announcement(
    config: TrainConfig, engine: Engine, trainer: Trainer, saved: tuple[Path, Checkpoint] | None
) -> str:
    where = f"continuing from {saved[0]}, " if saved else ""
    processes = "process" if engine.world_size == 1 else "processes"
    return (
        f"training {config.name}: {where}{engine.world_size} {processes} on {engine.device.type} "
        f"({', '.join(filter(None, (engine.name, config.precision)))}), "
        f"{trainer.loader.n_groups} groups of {len(config.lengths)} iterations an epoch "
        f"({trainer.loader.dropped} sequences left over), batch size {config.batch_size}"
    )


def _summary(trainer: Trainer) -> dict[str, Any]:
    progress = trainer.progress
    return {
        "iterations": progress.iteration,
        "epochs": progress.epoch,
        "best_st": progress.best,
        "best_iteration": progress.best_iteration,
    }


def _in_words(summary: dict[str, Any]) -> str:
    return (
        f"{summary['iterations']} iterations, best ST validation loss {summary['best_st']:.4f} at "
        f"iteration {summary['best_iteration']}"
    )


def _say(engine: Engine, message: str) -> None:
    if engine.is_main:
        with suppress(OSError):  # a terminal that is gone is no reason to fail
            print(f"sptmod-dist: {message}", file=sys.stderr, flush=True)
