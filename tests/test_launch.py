"""The launch files start as many processes as they say, as they say, and leave none behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import processes
import pytest
import yaml

LAUNCH = processes.ROOT / "launch"
ACCELERATE = ["-m", "accelerate.commands.launch"]
BF16 = ["--mixed_precision", "bf16"]
TWO = [2, "cpu", 3.0, "bf16"]
PROGRAM = """
import json, os, sys, torch
from pathlib import Path
from accelerate import Accelerator
accelerator = Accelerator(cpu=not torch.cuda.is_available())
total = accelerator.reduce(torch.tensor([accelerator.process_index + 1.0])).item()
facts = [accelerator.num_processes, accelerator.device.type, total, accelerator.mixed_precision]
Path(sys.argv[1], f"rank{accelerator.process_index}.json").write_text(json.dumps(facts))
os._exit(0)  # taking gloo's group down can abort
"""
DEEPSPEED_PROGRAM = """
import json, os, sys, torch
from pathlib import Path
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(backend="gloo")])
total = accelerator.reduce(torch.tensor([accelerator.process_index + 1.0])).item()
launched = [accelerator.num_processes, accelerator.device.type, total, accelerator.mixed_precision]
plugin = accelerator.state.deepspeed_plugin
plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1
# Accelerate drops a clipping of 0, and DeepSpeed clips to 1 where it finds none.
plugin.deepspeed_config["gradient_clipping"] = plugin.gradient_clipping
model = torch.nn.Linear(3, 2)
engine, _ = accelerator.prepare(model, torch.optim.Adam(model.parameters()))
facts = {
    "type": accelerator.distributed_type.value,
    "launched": launched,
    "stages": [plugin.zero_stage, engine.zero_optimization_stage()],
    "clipping": [plugin.gradient_clipping, engine.gradient_clipping()],
    "accumulation": [plugin.gradient_accumulation_steps, engine.gradient_accumulation_steps()],
}
Path(sys.argv[1], f"rank{accelerator.process_index}.json").write_text(json.dumps(facts))
os._exit(0)  # taking gloo's group down can abort
"""
TWO_GPUS = """
import torch
torch.cuda.is_available = torch.cuda.is_bf16_supported = lambda: True
torch.cuda.device_count = lambda: 2
from accelerate.commands.launch import main
main()
"""


def launched(
    folder: Path, config: str, *options: str, program: str = PROGRAM, **how: Any
) -> dict[str, Any]:
    """What each rank has to say of what Accelerate made of the launch, a file a rank."""
    path = folder / "program.py"
    path.write_text(program)
    file = ["--config_file", str(LAUNCH / "accelerate" / config)]
    launcher = how.pop("launcher", ACCELERATE)
    command = [sys.executable, *launcher, *file, *options, str(path), str(folder)]
    done = processes.run(command, CUDA_VISIBLE_DEVICES="", **how)
    assert done.returncode == 0, done.stderr
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("rank*.json")}


@pytest.mark.parametrize("path", sorted((LAUNCH / "accelerate").iterdir()), ids=lambda p: p.name)
def test_a_file_asks_for_bf16_nowhere_but_on_the_command_line(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["mixed_precision"] == "no"


def test_cpu_yaml_really_starts_two_processes_that_reduce(tmp_path: Path) -> None:
    facts = launched(tmp_path, "cpu.yaml", *BF16)
    assert facts == {"rank0": TWO, "rank1": TWO}


def test_ddp_yaml_starts_a_process_a_gpu(tmp_path: Path) -> None:
    """The launcher is made to see two GPUs; what it starts sees this machine as it is."""
    facts = launched(tmp_path, "ddp.yaml", *BF16, launcher=["-c", TWO_GPUS])
    assert facts == {"rank0": TWO, "rank1": TWO}


def test_ddp_multinode_yaml_starts_one_machines_processes(tmp_path: Path) -> None:
    """Of a single machine here; distributed/test_nodes.py has two."""
    machine = ["--num_machines", "1", "--num_processes", "2", "--main_process_port", "0"]
    facts = launched(tmp_path, "ddp_multinode.yaml", *machine, *BF16)
    assert facts == {"rank0": TWO, "rank1": TWO}


def test_ddp_multinode_yaml_wants_to_be_told_how_many_processes_there_are(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="manually pass in `--num_processes`"):
        launched(tmp_path, "ddp_multinode.yaml")


@pytest.mark.system  # distributed/test_zero.py trains with these files
@pytest.mark.timeout(240)  # without a GPU the first start of DeepSpeed ever compiles for a minute
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_deepspeed_yaml_starts_its_stage_and_asks_for_no_clipping(
    tmp_path: Path, stage: int
) -> None:
    """Both in what the launcher hands on and in the engine that DeepSpeed makes of it."""
    pytest.importorskip("deepspeed")
    config, two = f"deepspeed_zero{stage}.yaml", ["--num_processes", "2"]
    how = {"program": DEEPSPEED_PROGRAM, "limit": 200, "DS_ACCELERATOR": "cpu"}
    facts = launched(tmp_path, config, *two, *BF16, **how)
    expected = {
        "type": "DEEPSPEED",
        "launched": TWO,
        "stages": [stage, stage],
        "clipping": [0.0, 0.0],
        "accumulation": [1, 1],
    }
    assert facts == {"rank0": expected, "rank1": expected}


@pytest.mark.system
def test_a_deepspeed_yaml_starts_a_process_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    facts = launched(tmp_path, "deepspeed_zero2.yaml", launcher=["-c", TWO_GPUS])
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
