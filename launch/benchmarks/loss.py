"""The training loss against its definition: forward, and backward to the prediction.

The definition is the tests' `PlainLoss`: spectra by `torch.stft`, every term from the audio.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from benchmarks.report import Section, median
from sptmod_dist.losses import Loss

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
from plain import PlainLoss  # noqa: E402

B, LENGTHS = 8, (4096, 16384)


def add_options(parser: argparse.ArgumentParser) -> None:
    """This benchmark has none of its own."""


def run(options: argparse.Namespace) -> list[Section]:
    """Time both in turns at a short and at the usual length."""
    figures, rounds = [], 3 if options.quick else 25
    for length in LENGTHS:
        target = torch.randn(B, 1, length) / 10
        prediction = (target + torch.randn(B, 1, length) / 100).requires_grad_()
        seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        for _ in range(rounds + 1):
            for way, loss in (("plain", PlainLoss()), ("ours", Loss())):
                start = time.perf_counter()
                loss(prediction, target).total.backward()
                seconds[way].append(time.perf_counter() - start)
        took = {way: values[1:] for way, values in seconds.items()}  # the first round warms up
        figures += [
            median(f"loss.{length}.{way}", [1000 * each for each in values], "ms")
            for way, values in took.items()
        ]
        ratios = [a / b for a, b in zip(took["plain"], took["ours"], strict=True)]
        figures.append(median(f"loss.{length}.ratio", ratios, "1", better="higher"))
    text = f"B = {B}, mono, windows of 512, 1024 and 2048 samples, all threads."
    return [Section("The loss", figures, text)]
