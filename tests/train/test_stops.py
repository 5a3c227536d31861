"""Signals, whenever they come: a checkpoint, the code that asks to start again, the marker."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import ROOT, environment
from toy import make_toy, toy_config, write_config

from sptmod_dist.errors import UserError
from sptmod_dist.train import checkpoint, main
from sptmod_dist.train.interrupt import SIGNALS, Interrupt
from sptmod_dist.train.main import REQUEUE, train
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.trainer import Trainer


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stops")
    make_toy(folder)
    return folder


def at(iteration: int, number: int) -> Callable[..., object]:
    learn = Trainer._learn

    def stopping(self: Trainer, group: object) -> object:
        if self.progress.iteration == iteration:
            os.kill(os.getpid(), number)
        return learn(self, group)  # type: ignore[arg-type]

    return stopping


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_ends_with_a_checkpoint_of_the_group(
    toy: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    before = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    given = signal.signal(number, before)  # whoever runs the tests may have it ignored
    config = toy_config(toy, name=number.name)
    run = RunFolder(toy / "runs" / number.name)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_learn", at(9, number))
        assert train(config) == REQUEUE
    assert run.newest_checkpoint().name == "step-00000012"  # type: ignore[union-attr]
    assert (run.path / "requeue").exists() and signal.signal(number, given) == before
    assert train(config, resume="auto") == 0


@pytest.mark.parametrize("when", ["open_data", "_find_checkpoint"])
@pytest.mark.parametrize("resume", [None, "auto"])
def test_a_signal_during_the_start_is_heeded_before_the_first_step(
    toy: Path, monkeypatch: pytest.MonkeyPatch, when: str, resume: str | None
) -> None:
    action = getattr(main, when)

    def hit(*arguments: object) -> object:
        os.kill(os.getpid(), signal.SIGUSR1)
        return action(*arguments)

    name = f"{when}-{resume}"
    config = toy_config(toy, name=name)
    with monkeypatch.context() as patch:
        patch.setattr(main, when, hit)
        patch.setattr(Trainer, "_learn", lambda *_: pytest.fail("a step was taken"))
        assert train(config, resume=resume) == REQUEUE
    run = RunFolder(toy / "runs" / name)
    assert (run.path / "requeue").exists() and run.status()["state"] == "preempted"  # type: ignore[index]
    assert train(config, resume="auto") == 0


def test_a_stop_on_a_full_disk_asks_to_be_started_again_all_the_same(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    learn = at(9, signal.SIGTERM)

    def learning(self: Trainer, group: object) -> object:
        if self.progress.iteration == 9:
            monkeypatch.setattr(checkpoint, "save", full)
            monkeypatch.setattr("sptmod_dist.train.run_folder.atomic_write", full)
        return learn(self, group)

    config = toy_config(toy, name="fullstop", checkpoint={"groups": 2})
    monkeypatch.setattr(Trainer, "_learn", learning)
    assert train(config) == REQUEUE
    run = RunFolder(toy / "runs" / "fullstop")
    assert (run.path / "requeue").exists()
    assert run.newest_checkpoint().name == "step-00000006"  # type: ignore[union-attr]
    monkeypatch.undo()
    assert train(config, resume="auto") == 0


def test_a_start_that_fails_for_good_asks_for_no_other(toy: Path) -> None:
    """A marker that an earlier stop left would let a job start for ever."""
    train(toy_config(toy, name="stale"))
    run = RunFolder(toy / "runs" / "stale")
    (run.path / "requeue").touch()
    with pytest.raises(UserError, match="seed was 3 and is 4"):
        train(toy_config(toy, name="stale", seed=4), resume="auto")
    assert not (run.path / "requeue").exists()


def test_the_end_of_a_terminal_is_no_reason_to_stop_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupt = Interrupt()
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.asked_at is None
        interrupt.release()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.system
def test_a_training_whose_terminal_is_closed_ends_with_a_checkpoint(toy: Path) -> None:
    """Writing to such a terminal is an error; the bar and the last words must bear it."""
    config = write_config(toy, name="hungup", stopping={"max_iterations": 100_000})
    mine, theirs = pty.openpty()
    command = [sys.executable, str(ROOT / "launch" / "train.py"), "--config", str(config)]
    process = subprocess.Popen(
        command, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )
    run = RunFolder(toy / "runs" / "hungup")
    try:
        os.close(theirs)
        deadline = time.monotonic() + 60
        while run.newest_checkpoint() is None and time.monotonic() < deadline:
            os.read(mine, 4096)
        os.close(mine)
        os.kill(process.pid, signal.SIGHUP)
        assert process.wait(30) == REQUEUE
    finally:
        process.kill()
        process.wait()
    assert run.status()["state"] == "preempted"  # type: ignore[index]
