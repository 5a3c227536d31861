"""The length plan in words: tables of the blocks, the lookback, the sub-sequences and the sums.

Text alone; the same numbers as a drawing are `figures/lengths.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sptmod_dist.model.config import ModelConfig
from sptmod_dist.model.lengths import GroupLengths
from sptmod_dist.train.tables import columns

_BLOCKS = (
    "block",
    "kernel",
    "dilation",
    "receives",
    "consumes",
    "frames",
    "loses",
    "emits",
    "crop to next block",
    "crop to audio",
)
_LOOKBACK = ("block", "kernel", "dilation", "stride", "pooling", "receives", "emits")
_SUB_SEQUENCES = ("sub-sequence", "input", "output", "from", "to", "starts")


def table(
    name: str,
    model: ModelConfig,
    schedule: GroupLengths,
    rate: int,
    rate_source: str,
    sequences_per_record: int = 1,
) -> str:
    """All tables, in samples; sums in seconds besides.

    Args:
        name: of the training.
        schedule: of its group.
        rate: samples a second.
        rate_source: where it is known from.
        sequences_per_record: of the shards, which share their overlap.
    """
    parts = [
        f"{name}: {model.kind}, lengths {list(schedule.lengths)}; in samples, time 0 is where the "
        f"output starts;\nseconds at {rate} Hz ({rate_source})",
        _sums(model, schedule, rate, sequences_per_record),
        f"modulation path\n{_blocks(model, schedule)}",
    ]
    if model.spn is not None:
        parts.append(f"state prediction network\n{_lookback(model)}")
    return "\n\n".join([*parts, _sub_sequences(model, schedule)])


def _sums(model: ModelConfig, schedule: GroupLengths, rate: int, held: int) -> str:
    plan = model.plan(schedule.lengths[0])
    rows = [
        ("lookback", plan.lookback_length),
        ("modulation path begins", plan.modulation_start - plan.target_start),
        ("audio path begins", plan.audio_start - plan.target_start),
        ("input of the first sub-sequence", plan.input_length),
        ("sequence", schedule.sequence_length),
        ("hop, output of a group", schedule.hop),
        ("overlap of sequences", schedule.target_start),
        ("latency", model.latency),
    ]
    lines = [(what, f"{samples:,}", f"{samples / rate:.4f} s") for what, samples in rows]
    read = schedule.sequence_length / schedule.hop
    stored = 1 + schedule.target_start / (held * schedule.hop)
    records = f"{held} sequence{'s' * (held > 1)} a record"
    lines.append(("read for a sample of output", f"{read:.2f}", ""))
    lines.append((f"in shards for one, {records}", f"{stored:.2f}", ""))
    return columns(lines, to_the_right=(1, 2))


def _blocks(model: ModelConfig, schedule: GroupLengths) -> str:
    rows = model.rows(schedule.lengths[0])
    lines = [
        (
            row.kernel,
            row.dilation,
            row.receives,
            row.consumed,
            row.frames,
            row.lost,
            row.emits,
            row.signal_crop,
            row.audio_crop,
        )
        for row in rows
    ]
    return _numbered(_BLOCKS, lines)


def _lookback(model: ModelConfig) -> str:
    assert model.spn is not None
    return _numbered(
        _LOOKBACK,
        [
            (row.kernel, row.dilation, row.stride, row.pooling, row.receives, row.emits)
            for row in model.spn.rows()
        ],
    )


def _numbered(titles: Sequence[str], rows: Sequence[Sequence[int | None]]) -> str:
    cells = [
        [str(number), *("-" if value is None else f"{value:,}" for value in row)]
        for number, row in enumerate(rows)
    ]
    return columns([titles, *cells], to_the_right=range(len(titles)))


def _sub_sequences(model: ModelConfig, schedule: GroupLengths) -> str:
    rows = list(_each_sub_sequence(model, schedule))
    return columns([_SUB_SEQUENCES, *rows], to_the_right=range(5))


def _each_sub_sequence(model: ModelConfig, schedule: GroupLengths) -> Iterator[tuple[str, ...]]:
    first = "with states from the SPN" if model.spn is not None else "with no state"
    start = 0
    for index, length in enumerate(schedule.lengths):
        read = schedule.input_length if index == 0 else length
        how = f"{first}, unpadded" if index == 0 else "with kept states and cached padding"
        numbers = (index, read, length, start, start + length)
        yield (*(f"{number:,}" for number in numbers), how)
        start += length
