"""What a rank is asked to do: the model, its share of the batch, and how gradients travel.

Orders cross from the benchmark to its ranks as JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from sptmod_dist.model.config import PRESETS, SPTModConfig
from sptmod_dist.train.config import DistributedConfig, TrainConfig

SOCKET, JOB = "SPTMOD_BENCH_SOCKET", "SPTMOD_BENCH_JOB"
"""Environment variables that tell a rank whom to call, and to which job it belongs."""


@dataclass(frozen=True)
class Work:
    """A training's share of one process: it stays the same however many processes there are."""

    preset: str
    n_params: int
    lengths: tuple[int, ...]
    rows: int
    """Of each process."""

    @property
    def model(self) -> SPTModConfig:
        """The networks."""
        return PRESETS[self.preset](self.n_params)

    def settings(self, world_size: int, shards: int | None) -> TrainConfig:
        """The training that so many processes share."""
        return TrainConfig(
            model=self.model,
            lengths=self.lengths,
            batch_size=self.rows * world_size,
            distributed=DistributedConfig(virtual_shards=shards),
        )


@dataclass(frozen=True)
class Order:
    """A few groups to be run and timed."""

    work: Work
    groups: int
    shards: int | None = None
    """Virtual shards, for the bit-identical mode."""
    apart: bool = False
    """Exchange nothing: each rank learns alone."""
    bound: bool = False
    """Each rank stays on a core of its own."""
    count: bool = False
    """Count what is exchanged, and time nothing."""

    def to_line(self) -> bytes:
        """As it travels."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> Order:
        """As it arrives."""
        fields = json.loads(line)
        work = fields.pop("work")
        return Order(Work(**{**work, "lengths": tuple(work["lengths"])}), **fields)
