"""What this machine has for trainings: cores, memory, GPUs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from sptmod_dist.data.free_memory import free_memory
from sptmod_dist.fit.launch import cores
from sptmod_dist.study import children

_SHARE = 0.92
"""Of a GPU's memory that trainings may fill; the rest is lost between their blocks."""


@dataclass(frozen=True)
class Gpu:
    """One that may be used."""

    id: str
    """What CUDA_VISIBLE_DEVICES calls it."""
    name: str
    memory: float
    """Bytes that are free for trainings."""


@dataclass(frozen=True)
class Machine:
    """What there is."""

    cores: int
    memory: float
    """Bytes that trainings may take together."""
    gpus: tuple[Gpu, ...]

    def threads(self, jobs: int) -> int:
        """Of one training, where so many run at once; OMP_NUM_THREADS has the last word."""
        given = os.environ.get("OMP_NUM_THREADS", "")
        if given.isdecimal() and int(given):
            return int(given)
        return 1 if self.gpus else max(1, self.cores // jobs)


def this_machine() -> Machine:
    """Look at what is free now; no GPU is used in this process."""
    found = children.ask(_gpus)["gpus"]
    return Machine(cores(), _SHARE * free_memory(), tuple(Gpu(**gpu) for gpu in found))


def _gpus() -> dict[str, Any]:
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus: list[dict[str, Any]] = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        names = given.split(",") if given else []
        name = names[number].strip() if number < len(names) else str(number)
        free, _ = torch.cuda.mem_get_info(number)
        kind = torch.cuda.get_device_name(number)
        gpus.append({"id": name, "name": kind, "memory": _SHARE * free})
    return {"gpus": gpus}
