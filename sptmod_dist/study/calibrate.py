"""A few groups and validation windows of one training, timed and weighed in a process of their own.

Engine, networks, loss and schedule are a training's; the audio is noise. It is what estimates are
made of (`estimate.py`), so everything that costs time or memory in a training must be in it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sptmod_dist.losses import Loss
from sptmod_dist.model.effects import EffectState, build_effect
from sptmod_dist.model.kernels import use_kernels
from sptmod_dist.model.spn import StatePredictionNetwork
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train import checkpoint
from sptmod_dist.train.config import TrainConfig, to_dict
from sptmod_dist.train.engine import Engine
from sptmod_dist.train.validation import item_terms

ENOUGH = 1.5
"""Seconds of groups, after which no more are timed."""
_GROUPS = 10
_GPU_CONTEXT = 600e6  # bytes that a process takes of a GPU before it computes


class Rehearsal:
    """One training without data and without an end.

    Args:
        config: whose.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.engine = Engine(config.distributed)
        self.config = config = self.engine.settle(config)
        use_kernels(config.kernels)
        torch.manual_seed(config.seed)
        effect = build_effect(config.model).to(config.dtype)
        spn = None
        if config.model.spn is not None:
            spn = StatePredictionNetwork(config.model).to(config.dtype)
        self.engine.wrap(effect, spn, config.optimizer, config.precision == "bf16")
        self.schedule, self.loss = Schedule(config.model, config.lengths), Loss(config.loss)

    def group(self) -> list[float]:
        """Seconds of each iteration of one group, the copy to the device among the first's."""
        begun, marks = self._now(), []
        rows = [t.to(self.engine.device) for t in self._noise(self.config.batch_size)]
        self.engine.remember()
        size = len(rows[0]) // self.engine.n_slices
        slices = list(zip(*(tensor.split(size) for tensor in rows), strict=True))
        states: list[EffectState | None] = [None] * len(slices)
        for subs in zip(*(self.schedule.split(*parts) for parts in slices), strict=True):
            for k, sub in enumerate(subs):
                with self.engine.slice(k):
                    step = forward(self.engine.effect, self.engine.spn, sub, states[k])
                    terms = self.loss(step.prediction, sub.target)
                    self.engine.backward(terms.total, step.seam)
                states[k] = step.state.detach()
            self.engine.step(learning_rate=0.0)
            marks.append(self._now())
        return [end - start for start, end in zip([begun, *marks], marks, strict=False)]

    def validation(self, samples: int) -> float:
        """Seconds of validating one item of so many samples, both ways."""
        x, y, controls = (t.to(self.engine.device) for t in self._noise(1, samples))
        networks: Mapping[str, nn.Module] = self.engine.judged()
        begun = self._now()
        with torch.no_grad():
            windows = self.config.validation.windows_at_once
            item_terms(networks, self.schedule, self.loss, x, y, controls, windows)
        return self._now() - begun

    def checkpoint(self, folder: Path) -> float:
        """Seconds of writing a checkpoint."""
        with tempfile.TemporaryDirectory(prefix=".calibration-", dir=folder) as place:
            begun = time.perf_counter()
            weights, moments, averages = self.engine.export()
            state = {"progress": {}, "config": to_dict(self.config)}
            saved = checkpoint.Checkpoint(weights, moments, state, averages)
            checkpoint.save(Path(place), "step-00000001", saved)
            return time.perf_counter() - begun

    def _noise(self, rows: int, samples: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        model = self.config.model
        length = samples or self.schedule.sequence_length
        channels = model.input_channels + model.sidechain_channels
        x = torch.randn(rows, channels, length, dtype=self.config.dtype) / 5
        controls = torch.rand(rows, model.n_params, dtype=self.config.dtype)
        return x, x[:, : model.input_channels] / 2, controls

    def _now(self) -> float:
        if self.engine.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def measure(config: TrainConfig, samples: int, longest: int, folder: Path) -> dict[str, Any]:
    """What a training of this shape takes.

    Args:
        config: of one process.
        samples: of a validation item, to be timed.
        longest: of an item that is streamed; the memory that it takes is counted.
        folder: on the disk that takes the checkpoints.

    Returns:
        `first` and `later`: seconds of a group's first iteration, and of each other one (0 where
        there is none); `warm_up`: seconds of the first group beyond the others; `validation`:
        seconds an item; `checkpoint`: seconds of writing one; `gpu_memory`: bytes, 0 without one;
        `parameters`; `device` in words.
    """
    rehearsal = Rehearsal(config)
    cold = sum(rehearsal.group())
    groups = [rehearsal.group()]
    begun = time.perf_counter()
    while len(groups) < _GROUPS and time.perf_counter() - begun < ENOUGH:
        groups.append(rehearsal.group())
    first = statistics.median(group[0] for group in groups)
    later = [seconds for group in groups for seconds in group[1:]]
    found = {
        "first": first,
        "later": statistics.median(later) if later else 0.0,
        "warm_up": max(0.0, cold - sum(map(statistics.median, zip(*groups, strict=True)))),
        "validation": rehearsal.validation(samples),
        "checkpoint": rehearsal.checkpoint(folder),
        "parameters": sum(p.numel() for p in _parameters(rehearsal)),
    }
    rehearsal.validation(longest)
    return found | _device(rehearsal.engine.device)


def _parameters(rehearsal: Rehearsal) -> list[nn.Parameter]:
    return [p for network in rehearsal.engine.judged().values() for p in network.parameters()]


def _device(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"gpu_memory": 0.0, "device": f"CPU, {torch.get_num_threads()} threads"}
    taken = torch.cuda.max_memory_reserved(device) + _GPU_CONTEXT
    return {"gpu_memory": float(taken), "device": torch.cuda.get_device_name(device)}


def gpu_memory() -> float:
    """Bytes of the GPU that this process has taken at most; 0 without one."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return 0.0
    return float(torch.cuda.max_memory_reserved() + _GPU_CONTEXT)
