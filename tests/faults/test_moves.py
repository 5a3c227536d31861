"""One training moved between numbers of processes and engines ends where it would have ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from parity import largest
from processes import ROOT, run, torchrun
from toy import make_toy, write_config
from variants import IDENTICAL, IN_FLOAT32, IN_FLOAT64, also

from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.run_folder import RunFolder

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
TRAIN = str(ROOT / "launch" / "train.py")
KINDS = ("weights", "moments", "averages")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moves")
    make_toy(folder)
    return folder


def train(toy: Path, name: str, settings: dict[str, Any], until: int, engine: int | str) -> None:
    """Go on with a training until an iteration: on so many processes, or under `zero2`."""
    config = write_config(toy, **also(settings, {"name": name}))
    options = [TRAIN, "--config", str(config), "--resume", "auto"]
    options += ["--stopping.max_iterations", str(until)]
    if engine == "zero2":
        file = ROOT / "launch" / "accelerate" / "deepspeed_zero2.yaml"
        launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
        command = [*launcher, "--num_processes", "2", *options]
        done = run(command, limit=120, CUDA_VISIBLE_DEVICES="")
    else:
        done = torchrun(int(engine), *options, limit=120)
    assert done.returncode == 0, done.stderr


def end(toy: Path, name: str) -> Checkpoint:
    found = RunFolder(toy / "runs" / name).last_checkpoint()
    assert found is not None and found[1].state["progress"]["iteration"] == 24
    return found[1]


def apart(toy: Path, name: str, settings: dict[str, Any], *engines: int | str) -> float:
    """The largest difference between one process's training and one moved at 6 and 15."""
    train(toy, f"{name}-one", settings, 24, 1)
    for until, engine in zip((6, 15, 24), engines, strict=True):
        train(toy, name, settings, until, engine)
    one, moved = end(toy, f"{name}-one"), end(toy, name)
    return max(largest(getattr(one, k), getattr(moved, k)) for k in KINDS if getattr(one, k))


def test_two_one_and_four_processes_train_as_one_does(toy: Path) -> None:
    assert apart(toy, "processes", IN_FLOAT64["clipped"], 2, 1, 4) <= 1e-12


def test_in_the_bit_identical_mode_they_give_the_same_bytes(toy: Path) -> None:
    assert apart(toy, "identical", IDENTICAL["identical"], 2, 1, 4) == 0


def test_ddp_zero_2_and_ddp_train_as_one_process_does(toy: Path) -> None:
    assert apart(toy, "engines", IN_FLOAT32["everything32"], 2, "zero2", 2) <= 1e-6
