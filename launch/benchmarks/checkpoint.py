"""What checkpoints cost a training, and how soon a resumed one learns again.

The published SPTMod25 with 7 controls at its full size; the data are as short as may be, since
neither a checkpoint nor a start depends on how much follows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.jobs import LAUNCH, BenchmarkError
from benchmarks.report import Figure, Section, median
from sptmod_dist import audio
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.train.config import CheckpointConfig
from sptmod_dist.train.data import needs_of
from sptmod_dist.train.options import load_config

RATE = 44_100
SECONDS = 6.5  # of a recording: one window with its lookback
FIRST_GROUP = "benchmarks.first_group"
"""A training that says when its first group is done, and what its checkpoints take."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """This benchmark has none of its own."""


def run(options: argparse.Namespace) -> list[Section]:
    """Train a little, in processes of their own, and put their figures together."""
    repeats, saves = (1, 3) if options.quick else (5, 40)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        _prepare(folder)
        stall = _train(folder, "stall", saves)["stalls"]
        starts: dict[str, list[float]] = {"fresh": [], "resumed": []}
        for number in range(repeats):
            run_name = f"start{number}"
            for kind in starts:
                starts[kind].append(_train(folder, run_name, 1)["ready"])
    minutes = CheckpointConfig().minutes
    share = median("checkpoint.stall", [1000 * s for s in stall], "ms")
    figures = [
        share,
        Figure(
            "checkpoint.share", share.value / 1000 / (60 * minutes), "1", 0.01, "lower",
            f"of the time, at one every {minutes:g} minutes; at the ends of epochs at most 0.01",
        ),
        median("checkpoint.resumed_start", starts["resumed"], "s"),
        median("checkpoint.fresh_start", starts["fresh"], "s"),
        median(
            "checkpoint.resume_over_start",
            [a / b for a, b in zip(starts["resumed"], starts["fresh"], strict=True)],
            "1",
        ),
    ]
    text = (
        "`stall` is how long a training stands while one checkpoint is written and flushed, its "
        "status and TensorBoard's events with it. `start` is the time from the launch of one "
        "process to the end of its first group, imports included."
    )
    return [Section("Checkpoints and starts", figures, text)]


def _prepare(folder: Path) -> None:
    """Recordings of noise, their shards, and the settings that train on them."""
    random, items = np.random.default_rng(0), []
    for split in ("train", "validation"):
        x = random.uniform(-0.5, 0.5, (1, round(SECONDS * RATE))).astype(np.float32)
        for kind, signal in (("in", x), ("out", x / 2)):
            audio.write(folder / f"{split}-{kind}.wav", signal, RATE)
        files = {"input": f"{split}-in.wav", "output": f"{split}-out.wav"}
        controls = {f"c{n}": 0.5 for n in range(7)}
        items.append({"id": split, **files, "controls": controls, "split": split})
    controls = [{"name": f"c{n}", "minimum": 0, "maximum": 1} for n in range(7)]
    manifest = folder / "manifest.yaml"
    head = {"format": "sptmod-recordings-1", "sample_rate": RATE, "device": "none"}
    manifest.write_text(yaml.safe_dump({**head, "controls": controls, "items": items}))
    settings = {
        "runs_dir": str(folder / "runs"),
        "lengths": [4096],
        "batch_size": 1,
        "model": {"preset": "sptmod25", "n_params": 7},
        "data": {split: str(folder / "sets" / split) for split in ("train", "validation")},
        "checkpoint": {"groups": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    config = load_config([folder / "config.yaml"], {})
    build_sets(Manifest.read(manifest), folder / "sets", needs_of(config), say=lambda line: None)


def _train(folder: Path, name: str, groups: int) -> dict[str, Any]:
    """Start a training, or go on with it, for so many groups."""
    begun = time.time()
    options = ["--config", str(folder / "config.yaml"), "--name", name, "--resume", "auto"]
    command = [sys.executable, "-m", FIRST_GROUP, str(begun), str(groups), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(LAUNCH), str(LAUNCH.parent)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise BenchmarkError(f"a training failed: {done.stderr.strip().splitlines()[-1:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
