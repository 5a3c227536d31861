"""A toy training: synthetic recordings, their shards, and settings that train in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from models import LSTM

from sptmod_dist import audio, settings
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.train.config import TrainConfig, from_dict
from sptmod_dist.train.data import needs_of

RATE = 8000
ITEMS = {"train": 3, "validation": 3, "test": 1}


def toy_settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a run in `folder`/runs on the sets in `folder`/shards; changes go deep."""
    model = replace(LSTM, n_params=1)
    base = {
        "name": "toy",
        "runs_dir": str(folder / "runs"),
        "seed": 3,
        "lengths": [64, 32, 48],
        "batch_size": 4,
        "model": settings.to_plain(model),
        "data": {split: str(folder / "shards" / split) for split in ITEMS},
        "optimizer": {"learning_rate": 2e-3},
        "loss": {"windows": [16, 32]},
        "validation": {"every": 6, "excerpts": 0},
        "stopping": {"max_iterations": 24},
        "monitor": {"every": 3},
    }
    if "kind" in changes.get("model", {}):
        base["model"] = {}  # the changes hold all of it
    return settings.merge(base, changes)


def toy_config(folder: Path, **changes: Any) -> TrainConfig:
    return from_dict(toy_settings(folder, **changes))


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(toy_settings(folder, **changes)))
    return path


def compress(x: np.ndarray, drive: float) -> np.ndarray:
    """A gain with memory: a one-pole envelope divides the signal."""
    envelope, out = 0.0, np.empty_like(x)
    for n, value in enumerate(x):
        envelope += 0.02 * (abs(value) - envelope)
        out[n] = value / (1 + drive * envelope)
    return out


def write_recordings(folder: Path, samples: int = 1500) -> Manifest:
    """Noise bursts through a toy compressor at a few settings of its one control."""
    folder.mkdir(parents=True, exist_ok=True)
    random, items = np.random.default_rng(5), []
    for split, count in ITEMS.items():
        for k in range(count):
            name, drive = f"{split}{k}", 2.0 + 3 * k
            steps = np.repeat(random.uniform(0.05, 0.9, samples // 100 + 1), 100)[:samples]
            x = random.uniform(-1, 1, samples) * steps
            for kind, signal in (("in", x), ("out", compress(x, drive))):
                path = folder / f"{name}-{kind}.wav"
                audio.write(path, signal[None].astype(np.float32), RATE, "FLOAT")
            items.append({
                "id": name,
                "input": f"{name}-in.wav",
                "output": f"{name}-out.wav",
                "controls": {"drive": drive},
                "split": split,
            })
    manifest = {
        "format": "sptmod-recordings-1",
        "sample_rate": RATE,
        "device": "a toy compressor",
        "controls": [{"name": "drive", "minimum": 1, "maximum": 10, "scale": "linear"}],
        "items": items,
    }
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return Manifest.read(path)


def make_toy(folder: Path, **changes: Any) -> TrainConfig:
    """Recordings and shards in `folder`, and the settings that train on them."""
    config = toy_config(folder, **changes)
    manifest = write_recordings(folder / "recordings")
    build_sets(manifest, folder / "shards", needs_of(config), say=lambda line: None)
    return config
