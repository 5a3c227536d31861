"""A fit trains on what the machine has, and sees how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sptmod_dist.errors import UserError
from sptmod_dist.fit import launch
from sptmod_dist.train.config import DistributedConfig, TrainConfig


@pytest.mark.parametrize(
    ("gpus", "cores", "batch_size", "expected"),
    [(0, 1, 8, 1), (0, 2, 8, 2), (0, 64, 8, 2), (0, 2, 7, 1), (1, 64, 8, 1), (4, 64, 8, 4),
     (3, 64, 8, 2), (8, 64, 12, 6)],
)  # fmt: skip
def test_one_process_a_gpu_or_two_without_as_far_as_they_divide_the_batch(
    gpus, cores, batch_size, expected
):
    assert launch.n_processes(TrainConfig(batch_size=batch_size), gpus, cores) == expected


@pytest.mark.parametrize(
    ("distributed", "expected"),
    [({"processes": 1}, 1), ({"virtual_shards": 2}, 2), ({"micro_batches": 4}, 2),
     ({"micro_batches": 8}, 1)],
)  # fmt: skip
def test_what_the_settings_say_of_processes_holds(distributed, expected):
    config = TrainConfig(batch_size=8, distributed=DistributedConfig(**distributed))
    assert launch.n_processes(config, gpus=4, cores=4) == expected


def test_processes_meet_by_torchrun_and_a_single_one_needs_none():
    one = launch.command(Path("-odd name/settings.yaml"), 1, 100)
    two = launch.command(Path("-odd name/settings.yaml"), 2, 100)
    assert "sptmod_dist.fit.torchrun" not in one and "sptmod_dist.fit.torchrun" in two
    assert one[1:] == two[-len(one) + 1 :]
    assert "--config=-odd name/settings.yaml" in one and "--resume=auto" in one


def test_processes_without_gpus_divide_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert launch.environment(2, gpus=0, cores=8)["OMP_NUM_THREADS"] == "4"
    assert launch.environment(2, gpus=0, cores=1)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launch.environment(2, gpus=0, cores=8)["OMP_NUM_THREADS"] == "3"


def test_a_training_that_fails_is_said_in_one_sentence():
    with pytest.raises(UserError, match="run did not end well.*the same command goes on"):
        launch.watch([sys.executable, "-c", "raise SystemExit(2)"], os.environ, Path("run"))


PROGRAM = """
import pathlib, signal, sys, time
asked = []
def stop(number, frame):
    asked.append(str(number))
    time.sleep(0.3)
    pathlib.Path(sys.argv[1], "saved").write_text(" ".join(asked))
    sys.exit(85)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
pathlib.Path(sys.argv[1], "started").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("told", [False, True])
def test_a_call_that_is_stopped_lets_the_training_write_its_checkpoint(
    tmp_path, monkeypatch, told
):
    """A terminal tells the training, too, which is not to be asked twice; a plain kill does not."""
    monkeypatch.setattr(launch, "_GRACE", 10.0 if told else 0.01)
    real = subprocess.Popen
    started: list[subprocess.Popen] = []

    def popen(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[0]

    def interrupt() -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.02)
        if told:
            started[0].send_signal(signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", popen)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        launch.watch([sys.executable, "-c", PROGRAM, str(tmp_path)], os.environ, Path("run"))
    expected = signal.SIGINT if told else signal.SIGTERM
    assert (tmp_path / "saved").read_text() == str(int(expected))
    assert started[0].poll() == 85
