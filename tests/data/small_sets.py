"""Small recordings of noise and the sets made of them, for the tests of shards and loader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sptmod_dist import audio
from sptmod_dist.data.controls import Control
from sptmod_dist.data.geometry import Geometry, Needs
from sptmod_dist.data.recordings import Item, Manifest, Recording, load_item
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shard_index import Provenance
from sptmod_dist.data.shard_plan import Available, Cut, plan_set
from sptmod_dist.data.shard_writer import NewSet, write_sets

RATE = 8000
NEEDS = Needs(lengths=(64, 32, 32), input_length=100, n_params=1)  # lookback 36, hop 128
HOP, LOOKBACK, SEQUENCE = 128, 36, 164
RATIO = Control("ratio", 2.0, 8.0, scale="log", unit=":1")
GEOMETRY = NEEDS.geometry(RATE, [RATIO], "here")
LONG = 20_000  # samples: three blocks of a record that holds all
SAMPLES = {  # by item; the first letter is the split's
    "train-a": LOOKBACK + 5 * HOP,
    "train-b": LOOKBACK + 4 * HOP + 50,
    "train-short": SEQUENCE - 1,
    "train-c": LOOKBACK + 8 * HOP + 127,
    "validation-a": LOOKBACK + 3 * HOP + 77,
    "validation-b": SEQUENCE,
    "test-a": LOOKBACK + 2 * HOP,
}


def record(
    folder: Path, samples: dict[str, int] | None = None, channels: int = 1, sidechain: int = 0
) -> Manifest:
    """Write recordings of noise, one item a name, and their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    items = [
        _record_item(folder, number, name, count, channels, sidechain)
        for number, (name, count) in enumerate((SAMPLES if samples is None else samples).items())
    ]
    path = folder / "manifest.yaml"
    Manifest(path, RATE, "a box of noise", (RATIO,), tuple(items)).write(path)
    return Manifest.read(path)


def build(
    tmp_path: Path,
    shard_bytes: int = 6000,
    samples: dict[str, int] | None = None,
    **options: Any,
) -> Path:
    """Record and build, with options of `build_sets`; the folder that holds the sets."""
    manifest = record(tmp_path / "recordings", samples)
    build_sets(manifest, tmp_path / "sets", NEEDS, shard_bytes, say=_silent, **options)
    return tmp_path / "sets"


def store(
    folder: Path,
    recorded: dict[str, Recording],
    held: int,
    sample_format: str = "float32",
    geometry: Geometry = GEOMETRY,
    shard_bytes: int = 100_000,
) -> Path:
    """Write one set of recordings that are in memory.

    Args:
        held: sequences in a record; 0 keeps recordings whole, as a validation set does.
    """
    available = [
        Available(name, {"ratio": 2.0}, whole.vector, *[whole.input.shape[1]] * 2, "0" * 64)
        for name, whole in recorded.items()
    ]
    cut, whole = Cut(held, sample_format, shard_bytes), list(recorded.values())
    plan = plan_set("train" if held else "validation", geometry, cut, available)
    new = NewSet(plan, Provenance("0", "a box of noise", "", ""), whole.__getitem__)
    folder.mkdir(exist_ok=True)
    write_sets([new], folder)
    return folder / plan.split


def noise(samples: int, channels: int = 1, sidechain: int = 0, seed: int = 0) -> Recording:
    """A recording of noise, at full scale here and there."""
    shape = (2 * channels + sidechain, samples)
    audio = np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
    audio[:, :: samples // 5] = 1.0
    audio[:, 1 :: samples // 7] = -1.0
    return Recording(audio[:-channels], audio[-channels:], [0.25])


def recordings(built: Path) -> dict[str, Recording]:
    """What the sets of `build` were made of, by item."""
    manifest = Manifest.read(built.parent / "recordings" / "manifest.yaml")
    return {item.id: load_item(manifest, item) for item in manifest.items}


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def nearest(audio: np.ndarray, sample_format: str) -> np.ndarray:
    """What a format keeps of a recording, sample by sample."""
    if sample_format == "float32":
        return audio
    full = 2.0 ** (15 if sample_format == "pcm16" else 23)
    return (np.clip(np.rint(audio.astype(np.float64) * full), -full, full - 1) / full).astype("f4")


def longer(channels: int, sidechain: int) -> Geometry:
    """What `LONG` holds nine sequences of."""
    lengths = replace(GEOMETRY, lengths=(1024, 512, 512), input_length=1500)
    return replace(lengths, input_channels=channels, sidechain_channels=sidechain)


def _silent(_: str) -> None:
    """Say nothing."""


def _record_item(
    folder: Path, seed: int, name: str, samples: int, channels: int, sidechain: int
) -> Item:
    generator = np.random.default_rng(seed)

    def write(kind: str, count: int) -> Path:
        noise = generator.uniform(-0.5, 0.5, (count, samples)).astype(np.float32)
        audio.write(folder / f"{name}-{kind}.wav", noise, RATE)
        return folder / f"{name}-{kind}.wav"

    key = write("key", sidechain) if sidechain else None
    split = name.split("-")[0]
    ratio = {"ratio": float(2 + seed % 7)}
    return Item(name, write("in", channels), key, write("out", channels), ratio, split)
