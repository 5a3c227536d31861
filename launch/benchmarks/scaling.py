"""What it costs to spread a training over processes: measured on the CPU, and projected for GPUs.

Every comparison is a ratio of two times from the same round; rounds follow each other, each second
one backwards, and the median over them counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.jobs import Jobs, alone, launched
from benchmarks.report import Figure, Section, cores, median
from benchmarks.traffic import Network, Traffic, sent_by_gathering, sent_by_reduction
from benchmarks.work import Order, Work
from sptmod_dist.errors import UserError
from sptmod_dist.model.config import sptmod24, sptmod25

GPUS = (8, 64, 512)
PUBLISHED = {"sptmod24": sptmod24, "sptmod25": sptmod25}
SINGLES, PAIR = ("single0", "single1"), "pair"
ZERO = {f"zero{stage}": f"deepspeed_zero{stage}.yaml" for stage in (1, 2, 3)}
SHARDS = (2, 4)
SENDERS = 8
BASIC = ("one", "independent", "two", "apart", "bound", "apart_bound")
Round = Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """Which work is timed, in how many rounds of how many groups."""

    work: Work
    rounds: int
    groups: int
    variants: bool = False
    """Also time the bit-identical mode and DeepSpeed."""


FULL = (
    Plan(Work("tiny", 1, (8192,) * 3, rows=4), rounds=16, groups=3, variants=True),
    Plan(Work("sptmod25", 7, (8192,) * 3, rows=2), rounds=10, groups=1),
)
QUICK = (
    Plan(Work("tiny", 1, (2048,) * 2, rows=2), rounds=1, groups=1, variants=True),
    Plan(Work("sptmod25", 7, (2048,) * 2, rows=1), rounds=1, groups=1),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that no other benchmark has."""
    parser.add_argument(
        "--step_ms",
        type=float,
        default=50.0,
        help="a GPU's time for an iteration without exchange, for the projection (assumed: 50)",
    )


def run(options: argparse.Namespace) -> list[Section]:
    """Measure, count and project.

    Raises:
        UserError: an impossible option, or processes that fail.
    """
    if not 0 < options.step_ms < float("inf"):
        raise UserError(f"--step_ms is {options.step_ms}, but must be greater than 0")
    plans = QUICK if options.quick else FULL
    zero = not options.quick and _has_deepspeed()
    commands = {name: (alone(), 1) for name in SINGLES}
    commands[PAIR] = (launched("cpu.yaml", 2), 2)
    if zero:
        commands |= {name: (launched(file, 2), 2) for name, file in ZERO.items()}
    with Jobs(commands, limit=180) as jobs:
        counted = [figure for plan in plans for figure in _counted(jobs, plan)]
        sections = [_measured(plan, _rounds(jobs, plan, zero)) for plan in plans]
    if not zero:
        why = "`--quick` leaves it out" if options.quick else "it is not installed"
        sections[0] = replace(sections[0], text=f"{sections[0].text} Without DeepSpeed: {why}.")
    return [*sections, _bytes(counted), _projection(options.step_ms / 1000)]


def _has_deepspeed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("deepspeed", "transformers"))


# Time ------------------------------------------------------------------------------------------


def _rounds(jobs: Jobs, plan: Plan, zero: bool) -> Sequence[Round]:
    """Milliseconds an iteration of every kind of training, in each round."""
    kinds = _kinds(plan, zero)
    for orders in kinds.values():
        jobs.run({name: replace(order, groups=1) for name, order in orders.items()})
    rounds = list[Round]()
    for index in range(plan.rounds):
        times = dict[str, float]()
        for kind in list(kinds)[:: 1 if index % 2 == 0 else -1]:
            orders = kinds[kind]
            if kind == "one":  # each core's turn
                orders = {SINGLES[index % 2]: orders[SINGLES[0]]}
            answers = [seconds for ranks in jobs.run(orders).values() for seconds in ranks]
            times[kind] = 1000 * statistics.fmean(answers)
        rounds.append(times)
    return rounds


def _kinds(plan: Plan, zero: bool) -> dict[str, dict[str, Order]]:
    """What is compared, and the orders that make it happen."""
    order = Order(plan.work, plan.groups)
    kinds = {
        "one": {SINGLES[0]: order},
        "independent": {name: order for name in SINGLES},
        "two": {PAIR: order},
        "apart": {PAIR: replace(order, apart=True)},
    }
    if sys.platform == "linux":
        kinds["bound"] = {PAIR: replace(order, bound=True)}
        kinds["apart_bound"] = {PAIR: replace(order, bound=True, apart=True)}
    if plan.variants:
        kinds |= {f"virtual_shards{m}": {PAIR: replace(order, shards=m)} for m in SHARDS}
        kinds |= {name: {name: order} for name in ZERO if zero}
    return kinds


def _measured(plan: Plan, rounds: Sequence[Round]) -> Section:
    work = plan.work
    prefix = f"scaling.{work.preset}"

    def ratio(name: str, above: str, below: str, note: str, **how: Any) -> Figure:
        values = [times[above] / times[below] for times in rounds]
        return median(f"{prefix}.{name}", values, "1", note=note, **how)

    def time(name: str, kind: str, note: str) -> Figure:
        return median(f"{prefix}.{name}", [times[kind] for times in rounds], "ms", note=note)

    def share(name: str, without: str, whole: str, note: str) -> Figure:
        values = [1 - times[without] / times[whole] for times in rounds]
        return median(f"{prefix}.{name}", values, "1", note=note)

    figures = [
        time("iteration_of_one", "one", "one process, the other core idle"),
        time("iteration_of_two", "two", "two processes under DDP, as many rows each"),
        ratio("efficiency", "one", "two", "one over two", target=0.9, better="higher"),
        ratio(
            "efficiency_of_machine", "one", "independent", "one over two that do not "
            "know of each other: what the machine takes", better="higher",
        ),
        ratio(
            "efficiency_of_exchange", "independent", "two", "the rest: what the exchange takes",
            better="higher",
        ),
        share("communication", "apart", "two", "share of an iteration of two"),
    ]
    if "bound" in rounds[0]:
        figures += [
            ratio(
                "efficiency_bound", "one", "bound", "one over two, each bound to its core",
                target=0.9, better="higher",
            ),
            share("communication_bound", "apart_bound", "bound", "the same, bound"),
        ]
    figures += [
        *(ratio(kind, kind, "two", "time over DDP's") for kind in rounds[0] if kind not in BASIC),
    ]
    text = (
        f"`{work.preset}` with {work.n_params} control(s), N = {len(work.lengths)}, "
        f"L = {work.lengths[0]}, {work.rows} rows a process, 1 thread a process, gloo."
    )
    if cores() < 2:
        text += " Two processes share one core here: the efficiency says nothing."
    return Section(f"Weak scaling of {work.preset}", figures, text)


# Bytes -----------------------------------------------------------------------------------------


def _counted(jobs: Jobs, plan: Plan) -> list[Figure]:
    """What a rank really gave to exchanges in one group, beside what it should have."""
    work, figures = plan.work, []
    for shards in (None, *SHARDS) if plan.variants else (None,):
        slices = shards // 2 if shards else 1
        traffic = Traffic(work.model, len(work.lengths), slices)
        order = Order(work, 1, shards, count=True)
        (first, second) = jobs.run({PAIR: order})[PAIR]
        assert first == second, "every rank gives as much"
        expected = {
            "gradients": traffic.gradients * slices,
            "small": traffic.start + traffic.end,
        }
        way = f"virtual_shards{shards}" if shards else "ddp"
        figures += [
            Figure(
                f"scaling.bytes.{work.preset}.{way}.{kind}", first[kind], "bytes", expected[kind],
                "lower", f"counted on a rank in a group, N = {len(work.lengths)}",
            )
            for kind in expected
        ]
    return figures


def _bytes(counted: Sequence[Figure]) -> Section:
    figures = []
    for name, preset in PUBLISHED.items():
        for n in (1, 3):
            traffic = Traffic(preset(7), n)
            note = f"{traffic.effect:,} of the effect, {traffic.spn:,} of the SPN"
            note += f" every {n} iterations" if n > 1 else ""
            value = traffic.gradients / n
            figures.append(
                Figure(f"scaling.bytes.{name}.n{n}", value, "bytes", None, "lower", note)
            )
        whole, w = Traffic(preset(7), 1).gradients, SENDERS
        ways = {
            "ddp": (sent_by_reduction(whole, w), "all-reduce in a ring, 2(W − 1)/W times"),
            f"virtual_shards{w}": (sent_by_gathering(whole, w), "all-gather, (W − 1) times"),
        }
        figures += [
            Figure(f"scaling.sent.{name}.{way}", value, "bytes", None, "lower", f"W = {w}; {note}")
            for way, (value, note) in ways.items()
        ]
    text = (
        "Gradients in float32 that a rank gives to the exchange, an iteration; `sent` is what then "
        f"leaves it on W = {SENDERS} ranks with N = 1. `small` are the few numbers at a group's "
        "ends (position, losses, norms). The targets of counted bytes are the computed ones."
    )
    return Section("Bytes", [*figures, *counted], text)


# Projection ------------------------------------------------------------------------------------


def _projection(step: float) -> Section:
    network, figures = Network(), []
    for name, preset in PUBLISHED.items():
        traffic = Traffic(preset(7), 1)
        for ranks in GPUS:
            tree, ring = (network.iteration(traffic, ranks, ring) for ring in (False, True))
            note = (
                f"exchange {1000 * tree:.2f} ms; {step / (step + ring):.3f} if all went round a "
                f"ring ({1000 * ring:.2f} ms); 0.9 holds down to steps of {9000 * tree:.1f} ms"
            )
            figures.append(
                Figure(
                    f"scaling.projected.{name}.{ranks}", step / (step + tree), "1", 0.9, "higher",
                    note,
                )
            )
    text = (
        f"Weak scaling on W GPUs, N = 1: `t_step / (t_step + t_exchange)`, t_step = "
        f"{1000 * step:g} ms (**assumed**, `--step_ms`: no GPU was measured). An all-reduce of S "
        f"bytes takes 2⌈log₂W⌉·α + 2(W − 1)/W·S/β, an all-gather of s bytes a rank "
        f"⌈log₂W⌉·α + (W − 1)·s/β; an iteration has an all-reduce a network and two small "
        f"all-gathers, nothing is hidden behind computation. **Assumed**: α = "
        f"{1e6 * network.hop:g} µs a hop (InfiniBand with its software), β = "
        f"{network.bandwidth / 1e9:g} GB/s a GPU (NVLink has more). Ranks that wait for the "
        "slowest one are not in it. W must divide the batch: the published B = 64 allows at most "
        "64 GPUs (B = 16 at most 16), so 512 GPUs mean a batch of 512 or more, another training "
        "than the published one."
    )
    return Section("Projected efficiency", figures, text)
