"""A pair to fit: bursts through a toy compressor; and settings with which a fit takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from models import LSTM
from scipy import signal

from sptmod_dist import audio, settings
from sptmod_dist.capture.markers import surround
from sptmod_dist.fit.defaults import DEFAULTS
from sptmod_dist.train.config import TrainConfig
from sptmod_dist.train.options import load_config

RATE = 8000
SETTINGS = {
    "model": {**settings.to_plain(LSTM), "n_params": 0},
    "lengths": [512, 256],
    "batch_size": 4,
    "loss": {"windows": [64, 128]},
    "optimizer": {"learning_rate": 5e-3, "average": 0.5, "clip_norm": 10.0},
    "validation": {"every": 4},
    "stopping": {"max_iterations": 8},
    "monitor": {"every": 2},
}


def bursts(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose level steps every 0.1 s. [1, T]"""
    random = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    steps = np.repeat(random.uniform(0.03, 0.9, samples // 800 + 1), 800)[:samples]
    return (random.uniform(-1, 1, samples) * steps)[None].astype(np.float32)


def compress(dry: np.ndarray) -> np.ndarray:
    """A gain with memory: a one-pole envelope divides the signal. [C, T]"""
    envelope = signal.lfilter([0.01], [1, -0.99], np.abs(dry))
    return (dry / (1 + 8 * envelope)).astype(np.float32)


def write_pair(
    folder: Path, seconds: float = 24, delay: int = 0, marked: bool = True
) -> tuple[Path, Path]:
    """`dry.wav`, with markers around the bursts or without, and `wet.wav`, which is late by so many
    samples."""
    dry = bursts(seconds)
    if marked:
        dry = surround(dry[0], RATE, bursts(1, seed=1)[0])[None]
    wet = np.pad(compress(dry), ((0, 0), (delay, 0)))
    paths = folder / "dry.wav", folder / "wet.wav"
    for path, samples in zip(paths, (dry, wet), strict=True):
        audio.write(path, samples, RATE, "FLOAT")
    return paths


def write_settings(folder: Path) -> Path:
    """As a file for `--config`."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


def small_config() -> TrainConfig:
    """As `fit` gets it."""
    return load_config([], SETTINGS, complete=False, base=DEFAULTS)
