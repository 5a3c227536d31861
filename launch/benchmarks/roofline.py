"""What an iteration takes at least: arithmetic, memory, and the recurrence, which cannot be shared.

By formula from a model's lengths, with ceilings that are measured on the machine in the same run.
Multiplications of matrices are counted, forward and twice backward (once where the input needs no
gradient), at the rate of a large product of matrices. Every block's output is written and read once
forward and once backward, at the rate of a copy. Whichever takes longer counts, and after it the
recurrence: its frames come one after another, however many cores there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from sptmod_dist.model import SPTModConfig


class Ceilings(NamedTuple):
    """Of a machine."""

    flops: float
    """Floating-point operations a second."""
    bandwidth: float
    """Bytes a second, read and written."""
    frame: float
    """Seconds of one frame of a recurrent layer of 31 cells, forward and backward, one row."""

    def __str__(self) -> str:
        return (
            f"{self.flops / 1e9:.0f} GFLOP/s, {self.bandwidth / 1e9:.0f} GB/s, "
            f"{1e6 * self.frame:.1f} µs a frame of recurrence"
        )


def measure_ceilings() -> Ceilings:
    """The best of several tries each."""
    a = torch.randn(1536, 1536)
    flops = 2 * 1536**3 / _least(lambda: a @ a)
    x, y = torch.randn(1 << 24), torch.empty(1 << 24)
    bandwidth = 2 * 4 * len(x) / _least(lambda: y.copy_(x))
    layer, frames = nn.LSTM(16, 31, batch_first=True), 512
    inputs = torch.randn(1, frames, 16)

    def recur() -> None:
        layer(inputs)[0].sum().backward()

    return Ceilings(flops, bandwidth, _least(recur) / frames)


def floor(config: SPTModConfig, rows: int, length: int, ceilings: Ceilings) -> dict[str, float]:
    """Seconds of a group's `first` iteration and of a `later` one."""
    first, later = _effect(config, length, starts=True), _effect(config, length, starts=False)
    flops, values = _lookback(config)
    work = {"first": (first[0] + flops, first[1] + values, first[2]), "later": later}
    return {
        which: max(rows * ops / ceilings.flops, 4 * rows * 4 * count / ceilings.bandwidth)
        + frames * ceilings.frame
        for which, (ops, count, frames) in work.items()
    }


def _effect(config: SPTModConfig, length: int, starts: bool) -> tuple[float, float, int]:
    """Of one row: operations, values that blocks emit, and frames one after another."""
    gates = 4 if config.rnn_cell == "LSTM" else 3
    incoming, ops, values, frames = config.sidechain_channels or config.input_channels, 0.0, 0.0, 0
    for j, row in enumerate(config.rows(length)):
        samples = row.receives - row.consumed if starts else length
        count = samples // config.pooling_size
        passes = 3 if j else 2  # nobody needs the gradient of the audio
        ops += passes * 2.0 * incoming * config.channels[j] * config.kernel_sizes[j] * samples
        state = config.channels[j] + config.hidden_size
        ops += 3 * 2.0 * state * gates * config.hidden_size * count
        values, frames = values + config.channels[j] * samples, frames + count
        incoming = config.channels[j]
    return ops, values, frames


def _lookback(config: SPTModConfig) -> tuple[float, float]:
    """The same of the SPN, whose blocks emit what is pooled already."""
    if config.spn is None:
        return 0.0, 0.0
    incoming = config.signal_channels + config.input_channels
    ops, values = 0.0, 0.0
    for j, row in enumerate(config.spn.rows()):
        channels, passes = config.spn.channels[j], 3 if j else 2
        ops += passes * 2.0 * incoming * channels * row.kernel * row.emits * row.pooling
        values, incoming = values + channels * row.emits, channels
    return ops, values


def _least(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
