"""How many times faster than the sound lasts a stream runs on one core, by model and block size.

As in a plug-in: `Stream.process` is called block after block, and each call has to be done before
the next block is due. Models have 7 controls and fresh weights, whose arithmetic costs as much.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.report import Figure, Section, median
from sptmod_dist.infer.stream import Stream
from sptmod_dist.model.config import PRESETS
from sptmod_dist.model.effects import build_effect

RATE = 44_100
N_PARAMS = 7
BLOCKS = (64, 512, 4096)
TARGETS = {("sptmod25", 512): 20.0}


def add_options(parser: argparse.ArgumentParser) -> None:
    """This benchmark has none of its own."""


def run(options: argparse.Namespace) -> list[Section]:
    """Time every model at every block size, in turns, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rounds, calls = (2, 5) if options.quick else (7, 60)
        streams = {(name, block): _stream(name) for name in PRESETS for block in BLOCKS}
        seconds: dict[tuple[str, int], list[float]] = {key: [] for key in streams}
        for _ in range(rounds):
            for (name, block), stream in streams.items():
                seconds[name, block].append(_seconds_a_call(stream, block, calls))
    finally:
        torch.set_num_threads(threads)
    text = (
        "Seconds of audio a second on one core, at 44.1 kHz; below 1 a plug-in would stutter. A "
        "call has a price of its own, whatever it holds, so small blocks are dear."
    )
    return [Section("Real time", [_figure(key, seconds[key]) for key in streams], text)]


def _stream(name: str) -> Stream:
    torch.manual_seed(0)
    effect = build_effect(PRESETS[name](N_PARAMS)).eval()
    return Stream(effect, torch.full((1, N_PARAMS), 0.5))


def _seconds_a_call(stream: Stream, block: int, calls: int) -> float:
    x = 0.1 * torch.randn(1, 1, block)
    stream.process(x)
    start = time.perf_counter()
    for _ in range(calls):
        stream.process(x)
    return (time.perf_counter() - start) / calls


def _figure(key: tuple[str, int], seconds: list[float]) -> Figure:
    name, block = key
    return median(
        f"realtime.{name}.{block}",
        [block / RATE / each for each in seconds],
        "1",
        target=TARGETS.get(key),
        better="higher",
    )
