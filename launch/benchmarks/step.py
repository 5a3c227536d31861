"""One iteration of training against the definition, and against what the machine could do at best.

`plain` is the module of the tests that defines both networks and the loss, layer by layer, at the
original's places. Both take the same step on the same noise in turns, in one process. The floor is
what no way of computing can beat on this machine: `roofline.py`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.report import Figure, Section, median
from benchmarks.roofline import Ceilings, floor, measure_ceilings
from sptmod_dist.losses import Loss
from sptmod_dist.model import SPTMod, SPTModConfig, StatePredictionNetwork, sptmod24, sptmod25
from sptmod_dist.model.kernels import use_kernels
from sptmod_dist.tbptt import Schedule, Step, SubSequence, forward, spn_loss

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
from plain import PlainLoss, PlainSPN, PlainSPTMod  # noqa: E402

B, L, N_PARAMS = 8, 16384, 2
TARGETS = {
    "sptmod24": {"first": 2.5, "later": 1.5},
    "sptmod25": {"first": 2.5, "later": 2.5},
}
PRESETS: dict[str, Callable[[int], SPTModConfig]] = {"sptmod24": sptmod24, "sptmod25": sptmod25}
WAYS = ("plain", "kernels_plain", "fast")


class Networks(NamedTuple):
    """One way of computing; all ways share their parameters."""

    effect: nn.Module
    spn: nn.Module
    loss: Loss


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many threads compute."""
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="that compute; default: all"
    )


def run(options: argparse.Namespace) -> list[Section]:
    """Time both kinds of iteration of both published models, every way in turns."""
    threads, rounds = torch.get_num_threads(), 2 if options.quick else 9
    rows, length = (1, 2048) if options.quick else (B, L)
    torch.set_num_threads(options.threads)
    try:
        ceilings = measure_ceilings()
        found = {name: _model(name, rows, length, rounds, ceilings) for name in PRESETS}
    finally:
        torch.set_num_threads(threads)
        use_kernels("fast")
    text = (
        f"B = {rows}, L = {length}, {N_PARAMS} controls, float32, {options.threads} threads: "
        "networks, loss, both backward passes and Adam. `first`: a group's first iteration, with "
        "the SPN; `later`: each other one. `kernels_plain` is `--kernels plain`. Ceilings measured "
        f"here: {ceilings}."
    )
    return [Section(f"An iteration of {name}", each, text) for name, each in found.items()]


def _model(
    name: str, rows: int, length: int, rounds: int, ceilings: Ceilings
) -> list[Figure]:
    torch.manual_seed(0)
    config = PRESETS[name](N_PARAMS)
    effect, spn = SPTMod(config), StatePredictionNetwork(config)
    ours = Networks(effect, spn, Loss())
    ways = {
        "plain": Networks(PlainSPTMod(effect), PlainSPN(spn), PlainLoss()),
        "kernels_plain": ours,
        "fast": ours,
    }
    optimizers = [torch.optim.Adam(network.parameters(), lr=0.0) for network in (effect, spn)]
    schedule = Schedule(config, [length, length])
    x = torch.randn(rows, 1, schedule.sequence_length) / 10
    first, later = schedule.split(x, x / 2, torch.rand(rows, N_PARAMS))
    seconds: dict[str, dict[str, list[float]]] = {w: {"first": [], "later": []} for w in WAYS}
    for _ in range(rounds + 1):
        for way, networks in ways.items():
            use_kernels("fast" if way == "fast" else "plain")
            took, step = _iterate(networks, optimizers, first, None)
            seconds[way]["first"].append(took)
            took, _ = _iterate(networks, optimizers, later, step)
            seconds[way]["later"].append(took)
    return list(_figures(name, seconds, floor(config, rows, length, ceilings)))


def _iterate(
    networks: Networks,
    optimizers: list[torch.optim.Adam],
    sub: SubSequence,
    before: Step | None,
) -> tuple[float, Step]:
    """Seconds of one iteration, and what it gave."""
    state = None if before is None else before.state.detach()
    start = time.perf_counter()
    step = forward(networks.effect, networks.spn, sub, state)
    terms = networks.loss(step.prediction, sub.target)
    terms.total.backward()
    if step.seam is not None:
        spn_loss(step.seam).backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return time.perf_counter() - start, step


def _figures(
    name: str, seconds: dict[str, dict[str, list[float]]], least: dict[str, float]
) -> Iterator[Figure]:
    for which in ("first", "later"):
        took = {way: seconds[way][which][1:] for way in WAYS}  # the first round warms up
        start = f"step.{name}.{which}"
        for way in WAYS:
            yield median(f"{start}.{way}", [1000 * each for each in took[way]], "ms")
        for way in WAYS[1:]:
            ratios = [a / b for a, b in zip(took["plain"], took[way], strict=True)]
            target = TARGETS[name][which] if way == "fast" else None
            yield median(f"{start}.{way}_ratio", ratios, "1", target=target, better="higher")
        share = least[which] / statistics.median(took["fast"])
        note = f"of a floor of {1000 * least[which]:.1f} ms"
        yield Figure(f"{start}.share_of_floor", share, "1", None, "higher", note)
