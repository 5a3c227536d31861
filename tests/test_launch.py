"""The launch files start as many processes as they say, and leave none behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import processes
import pytest

LAUNCH = processes.ROOT / "launch"
PROGRAM = """
import json, sys, torch
from pathlib import Path
from accelerate import Accelerator
accelerator = Accelerator(cpu=not torch.cuda.is_available())
total = accelerator.reduce(torch.tensor([accelerator.process_index + 1.0])).item()
facts = [accelerator.num_processes, accelerator.device.type, total]
Path(sys.argv[1], f"rank{accelerator.process_index}.json").write_text(json.dumps(facts))
accelerator.end_training()
"""
TWO_GPUS = """
import torch
torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 2
from accelerate.commands.launch import main
main()
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A script that tells, a file a rank, what Accelerate made of the launch."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def launched(launcher: list[str], config: str, program: Path) -> dict[str, list[object]]:
    """What each rank has to say."""
    file = ["--config_file", str(LAUNCH / "accelerate" / config)]
    command = [sys.executable, *launcher, *file, str(program), str(program.parent)]
    done = processes.run(command, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    return {path.stem: json.loads(path.read_text()) for path in program.parent.glob("rank*.json")}


def test_cpu_yaml_really_starts_two_processes_that_reduce(program: Path) -> None:
    facts = launched(["-m", "accelerate.commands.launch"], "cpu.yaml", program)
    assert facts == {"rank0": [2, "cpu", 3.0], "rank1": [2, "cpu", 3.0]}


def test_ddp_yaml_starts_a_process_a_gpu(program: Path) -> None:
    """The launcher is made to see two GPUs; what it starts sees this machine as it is."""
    facts = launched(["-c", TWO_GPUS], "ddp.yaml", program)
    assert set(facts) == {"rank0", "rank1"}


def test_the_launch_script_is_the_command_of_the_package() -> None:
    script = str(LAUNCH / "train.py")
    done = processes.run([sys.executable, script, "--data.train", "a", "--print_config"])
    assert done.returncode == 0 and "train: a" in done.stdout
    wrong = processes.run([sys.executable, script, "--batch_sise", "3"])
    assert wrong.returncode == 2
    assert wrong.stderr == (
        "sptmod-dist: error: there is no option --batch_sise: did you mean --batch_size?\n"
    )
