"""What reading training data gave, as figures: speeds, ratios to others, memory, sizes.

It knows what was found and how it is said; how it is found is the matter of `data.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.data_contenders import BUFFER
from benchmarks.data_sets import Case
from benchmarks.report import Figure, Section, median

LOCAL, REMOTE, STREAM = "local.float32", "remote.float32", "stream.float32"
RAM, DEVICE = "resident.ram", "resident.device"
WEBDATASET, MOSAICML, MAP = "webdataset", "mosaicml", "memory_map"
PACKAGES = {
    WEBDATASET: ("webdataset", ["webdataset"], "pip install webdataset"),
    MOSAICML: (
        "mosaicml-streaming",
        ["streaming", "catalogue", "brotli", "snappy", "zstd", "xxhash", "transformers"],
        "pip install --no-deps mosaicml-streaming`, then `pip install -c constraints.txt "
        "catalogue brotli python-snappy zstd xxhash transformers",
    ),
}
"""Of the others: the package, what it imports here, and how to install that and nothing else."""


@dataclass(frozen=True)
class Contender:
    """A loader and what it reads."""

    loader: str
    folder: Path
    size: int
    """Bytes on the disk."""


@dataclass(frozen=True)
class Found:
    """What one case gave: bytes, seconds, and sequences a second in each round."""

    contenders: Mapping[str, Contender]
    sequences: int
    memory: Mapping[str, float]
    first: Mapping[str, float]
    rounds: Mapping[int, Sequence[Mapping[str, float]]]
    """By the number of workers."""


def sections(case: Case, batch_size: int, found: Found) -> list[Section]:
    """A case's ratios, speeds and bytes."""
    (workers, rounds), *others = found.rounds.items()
    megabytes = 8 * case.samples / 1e6
    title = f"Reading {case.name}: N = {len(case.lengths)}, L = {case.lengths[0]}"
    text = (
        f"{found.sequences} sequences of {case.samples:,} samples, {megabytes:.2f} MB each; "
        f"`packed` has up to {case.packed} in a record. B = {batch_size}, {workers} workers."
    )
    speeds = [
        _speed(f"data.{case.name}.{name}.speed", rounds, name, megabytes, found.first[name])
        for name in found.contenders
    ]
    slower = [
        _speed(f"data.{case.name}.workers{number}.{name}.speed", rows, name, megabytes)
        for number, rows in others
        for name in rows[0]
    ]
    return [
        Section(title, _ratios(f"data.{case.name}", rounds), text),
        Section(f"{case.name}: speed", [*speeds, *slower]),
        Section(f"{case.name}: memory and disk", _bytes(case, found)),
    ]


def _ratios(prefix: str, rounds: Sequence[Mapping[str, float]]) -> list[Figure]:
    streams = [name for name in (WEBDATASET, MOSAICML) if name in rounds[0]]

    def ratio(name: str, above: str, below: Sequence[str], target: float, note: str) -> Figure:
        values = [row[above] / max(row[other] for other in below) for row in rounds]
        how = {"target": target, "better": "higher", "note": note}
        return median(f"{prefix}.{name}", values, "1", **how)

    figures = []
    if streams:
        note = f"over the faster of {' and '.join(streams)}"
        figures.append(ratio("local_over_streams", LOCAL, streams, 3.0, note))
    return [
        *figures,
        ratio("local_over_map", LOCAL, [MAP], 0.8, "over the memory map"),
        ratio("resident_over_map", RAM, [MAP], 2.0, "over the memory map"),
    ]


def _speed(
    figure: str,
    rounds: Sequence[Mapping[str, float]],
    name: str,
    megabytes: float,
    first: float | None = None,
) -> Figure:
    values = [row[name] for row in rounds]
    found = median(figure, values, "sequences/s", better="higher")
    notes = [f"{found.value * megabytes:,.0f} MB/s", found.note]
    if first is not None:
        notes.append(f"first batch after {first:.2f} s")
    return replace(found, note="; ".join(notes))


def _bytes(case: Case, found: Found) -> list[Figure]:
    held = [
        Figure(f"data.{case.name}.{name}.memory", value / 1e6, "MB", None, "lower", "at most")
        for name, value in found.memory.items()
    ]
    plain = found.contenders[LOCAL].size
    stored = [
        Figure(
            f"data.{case.name}.{name}.size", one.size / 1e6, "MB", None, "lower",
            f"on the disk, {one.size / plain:.2f} of `{LOCAL}`",
        )
        for name, one in found.contenders.items()
        if one.loader in ("local", "mosaicml", "memory_map")
    ]  # fmt: skip
    return [*held, *stored]


def about(batch_size: int, missing: Mapping[str, Sequence[str]]) -> str:
    """What must be known to read the figures."""
    lines = [
        "Every loader reads the same sequences of the same recordings in random order and gives "
        f"float32 tensors of input, output and controls, {batch_size} rows each, in one "
        "process's memory, where a number of each page is looked at. Threads (ours) or processes "
        "(the others) read ahead, as many for all. All files are in the page cache: no disk is "
        "measured. Ours check a CRC-32 of all that they read, the others check nothing. Memory "
        "is the most that the process and its workers held, shared memory once, cached files "
        f"not. Shuffle buffers hold {BUFFER} sequences a worker."
    ]
    for name, (package, _, install) in PACKAGES.items():
        if missing[name]:
            lines.append(f"- {package} was not measured: without {', '.join(missing[name])}; "
                         f"`{install}`")  # fmt: skip
        else:
            lines.append(f"- {package} {version(package)}")
    return "\n".join(lines)
