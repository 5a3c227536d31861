"""How far two trainings are apart: in weights, moments, losses, and beside the way they went."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from losses_kept import NAME, keeping_losses, losses_of
from processes import ROOT, run, torchrun
from pytest import MonkeyPatch
from torch import Tensor
from toy import toy_config
from variants import BY_NAME, also

from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.main import train
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.trainer import Trainer

PROGRAM = str(ROOT / "tests" / "rank_program.py")
ONE = "one"
"""The label of the runs of one process."""


def train_one(
    folder: Path, run: str, variant: str = "", resume: str | None = None, **changes
) -> None:
    """One training on one process, its losses and the weights that it began with kept."""
    changes = also(BY_NAME[variant or run], changes, {"name": f"{run}-{ONE}"})
    config = toy_config(folder, **changes)
    connect = Trainer.connect

    def connecting(self):
        connect(self)
        torch.save(self.engine.export()[0], folder / "start" / f"{run}.pt")

    with keeping_losses(Path(config.runs_dir) / config.name), MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "connect", connecting)
        assert train(config, resume) == 0


def launch(n: int, folder: Path, label: str, names: Sequence[str], limit: float = 240) -> None:
    """Train on `n` processes over gloo, by DDP."""
    result = torchrun(n, PROGRAM, str(folder), label, *names, limit=limit)
    assert result.returncode == 0, result.stderr


def launch_zero(
    stage: int, folder: Path, label: str, names: Sequence[str], limit: float = 300
) -> None:
    """Train on two processes over gloo, by a stage of DeepSpeed's ZeRO."""
    file = ROOT / "launch" / "accelerate" / f"deepspeed_zero{stage}.yaml"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    command = [*launcher, "--num_processes", "2", PROGRAM, str(folder), label, *names]
    result = run(command, limit=limit, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 0, result.stderr


def last(folder: Path, name: str, label: str) -> Checkpoint:
    """The newest checkpoint of a run."""
    found = RunFolder(folder / "runs" / f"{name}-{label}").last_checkpoint()
    assert found is not None
    return found[1]


def largest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference between two sets of tensors."""
    assert set(a) == set(b)
    return max((a[key] - b[key]).abs().max().item() for key in a)


def losses(folder: Path, name: str, label: str) -> list[float]:
    return losses_of(folder / "runs" / f"{name}-{label}")


def validations(folder: Path, name: str, label: str) -> list[float]:
    """All figures of all validations in a row."""
    text = (folder / "runs" / f"{name}-{label}" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [v for line in lines for way in ("wt", "st", "st_whole") for v in line[way].values()]


def worst_ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """The largest relative difference of two rows of losses."""
    assert len(a) == len(b) and len(a) > 0
    return max(abs(x - y) / abs(x) for x, y in zip(a, b, strict=True))


def start(folder: Path, name: str) -> dict[str, Tensor]:
    """The weights that a variant begins with."""
    return torch.load(folder / "start" / f"{name}.pt")


def strayed(folder: Path, name: str, label: str, reference: str = "") -> float:
    """How far a run's weights are from one process's, beside the way that those went."""
    one = last(folder, reference or name, ONE).weights
    other, begin = last(folder, name, label).weights, start(folder, reference or name)
    difference = _norm({key: other[key] - one[key] for key in one})
    way = _norm({key: one[key] - begin[key] for key in one})
    assert way > 0.1, "a training that stands still proves nothing"
    return difference / way


def moments_apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """How far moments are from one process's, beside these: what Adam does not feel.

    The worst of both kinds and both networks, which differ by powers of ten; steps are equal.
    """
    assert set(one) == set(other)
    assert all(one[key] == other[key] for key in one if key.endswith(".step"))
    ratios = []
    for network in ("effect.", "spn."):
        for kind in (".exp_avg", ".exp_avg_sq"):
            keys = [key for key in one if key.startswith(network) and key.endswith(kind)]
            difference = _norm({key: other[key] - one[key] for key in keys})
            ratios.append(difference / _norm({key: one[key] for key in keys}))
    return max(ratios)


def _norm(tensors: dict[str, Tensor]) -> float:
    return torch.cat([t.flatten() for t in tensors.values()]).norm().item()


def digests(folder: Path, name: str, label: str) -> dict[str, str]:
    """SHA-256 of weights, moments and averages, of all losses, and of all validations."""
    saved, run = last(folder, name, label), folder / "runs" / f"{name}-{label}"
    found = {}
    for kind in ("weights", "moments", "averages"):
        whole = hashlib.sha256()
        for key, value in sorted(getattr(saved, kind).items()):
            whole.update(key.encode() + value.numpy().tobytes())
        found[kind] = whole.hexdigest()
    for file in (NAME, "metrics.jsonl"):
        found[file] = hashlib.sha256((run / file).read_bytes()).hexdigest()
    return found
