"""Short takes for tests of the command: bursts through a toy compressor, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import signal

from sptmod_dist import audio
from sptmod_dist.data.controls import Control
from sptmod_dist.data.recordings import Item, Manifest

RATE = 8000
RATIO = Control("ratio", 1.0, 10.0)


def bursts(seconds: float = 6, seed: int = 0) -> np.ndarray:
    """Noise whose level steps every 0.1 s. `[1, T]`"""
    random = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    steps = np.repeat(random.uniform(0.03, 0.8, samples // 800 + 1), 800)[:samples]
    return (random.uniform(-1, 1, samples) * steps)[None].astype(np.float32)


def compress(dry: np.ndarray, ratio: float = 4.0) -> np.ndarray:
    """A gain with memory: a one-pole envelope divides the signal. `[C, T]`"""
    envelope = signal.lfilter([0.01], [1, -0.99], np.abs(dry))
    return (dry / (1 + 2 * ratio * envelope)).astype(np.float32)


def late(audio: np.ndarray, samples: int) -> np.ndarray:
    """`[C, T]` to `[C, samples + T]`"""
    return np.pad(audio, ((0, 0), (samples, 0)))


def write_set(folder: Path, wets: dict[str, np.ndarray], dry: np.ndarray | None = None) -> Path:
    """A manifest of one dry and these wets, at growing ratios."""
    for name in ("dry", "wet"):
        (folder / name).mkdir(parents=True)
    source = folder / "dry" / "source.wav"
    audio.write(source, bursts() if dry is None else dry, RATE, "FLOAT")
    items = []
    for number, (name, wet) in enumerate(wets.items()):
        path = folder / "wet" / f"{name}.wav"
        audio.write(path, wet, RATE, "FLOAT")
        items.append(Item(name, source, None, path, {"ratio": 1.0 + number}, ""))
    path = folder / "manifest.yaml"
    Manifest(path, RATE, "toy", (RATIO,), tuple(items)).write(path)
    return path


def write_pair(folder: Path, wet: np.ndarray, dry: np.ndarray | None = None) -> tuple[str, str]:
    """`dry.wav` and `wet.wav`."""
    paths = folder / "dry.wav", folder / "wet.wav"
    for path, samples in zip(paths, (bursts() if dry is None else dry, wet), strict=True):
        audio.write(path, samples, RATE, "FLOAT")
    return str(paths[0]), str(paths[1])
