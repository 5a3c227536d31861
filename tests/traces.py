"""The original's traces: numbers that it printed, with random weights, and how to read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent / "data" / "traces"
NAMES = ("lstm_conditioned", "gru_sidechain_avg", "stereo_snapshot", "no_spn_condnet")


@dataclass
class Trace:
    arrays: Any
    config: dict[str, Any]
    lengths: list[int]
    plan: dict[str, Any]

    def tensor(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[key])

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        keys = [key for key in self.arrays.files if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.tensor(key) for key in keys}


def read_trace(name: str) -> Trace:
    arrays = np.load(FOLDER / f"{name}.npz")
    assert str(arrays["format"]) == "sptmod-trace-1"
    config, plan = json.loads(str(arrays["config"])), json.loads(str(arrays["plan"]))
    return Trace(arrays, config, arrays["lengths"].tolist(), plan)


def read_length_plans() -> dict[str, Any]:
    return json.loads((FOLDER / "length_plans.json").read_text())
