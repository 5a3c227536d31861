"""TrainConfig: one typed tree for a training, the only place of its defaults.

Each field's docstring stands under it, and `sptmod-dist train --help` shows it: this file is the
manual. What is wrong whatever the machine is refused here; what depends on the data or on the
number of processes is refused by those who know them. Where YAML files and the command line come
together is `train/options.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import yaml

from sptmod_dist import settings
from sptmod_dist.errors import UserError
from sptmod_dist.losses import LossConfig
from sptmod_dist.model.config import ModelConfig, SPTModConfig
from sptmod_dist.model.kernels import Kernels

PRECISIONS = "weights are float32 (bf16 is autocast around them, float64 is for proofs)"


class ConfigError(UserError):
    """Settings that contradict each other or name something impossible."""


@dataclass(frozen=True)
class DataConfig:
    """The shard sets that `sptmod-dist shards build` made: where they are, how they are read."""

    train: str = ""
    """Training shards: a folder, http(s)://…, s3://…, or `pipe:COMMAND` with {} for the file's name
    (needed)."""
    validation: str = ""
    """Validation shards (needed)."""
    test: str | None = None
    """Test shards, for `sptmod-dist evaluate`."""
    workers: int = 1
    """Threads that read ahead, a process; 0 reads when the training waits for it."""
    resident: Literal["ram", "device"] | None = None
    """Decode the training set once: into memory that a node's processes share, or onto each GPU."""
    stream: bool = False
    """Read the training set as a stream by WebDataset, for sets larger than any disk: the order is
    shuffled by shard and in a buffer only, and belongs to the number of processes."""
    stream_buffer: int = 256
    """Sequences in a stream's shuffle buffer, in each process."""
    cache_folder: str = "~/.cache/sptmod-dist"
    """Holds the shards that came over the network; a node's processes share it."""
    cache_gigabytes: float = 50.0
    """Most that the cache may hold; what was used longest ago leaves it."""
    sequences_per_record: int = 1
    """For `shards build`: consecutive sequences in a record, which share their lookback."""
    sample_format: Literal["float32", "pcm24", "pcm16", "flac"] = "float32"
    """For `shards build`: how audio is kept; float32 alone is exact, and the fastest."""
    shard_megabytes: int = 256
    """For `shards build`: a shard is closed before it grows larger."""
    distinct_settings: bool = False
    """For `shards build`: refuse a setting of the controls that stands in two splits."""


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate goes, counted in iterations of the training."""

    kind: Literal["constant", "cosine", "plateau"] = "constant"
    """Constant; half a cosine down over `iterations`; or lower whenever ST stays on a plateau."""
    warmup: int = 0
    """Iterations over which the rate rises in a line from near 0, whatever the kind."""
    iterations: int | None = None
    """The iteration at which the cosine has come down; needed for it."""
    factor: float = 0.5
    """What a plateau multiplies the rate by."""
    patience: int = 19_200
    """Iterations without a better streamed validation loss that make a plateau."""
    final: float = 0.0
    """The least share of the learning rate: where the cosine ends and plateaus stop."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; without weight decay it is the published Adam with its defaults."""

    learning_rate: float = 5e-4
    """Step size; the published one is 5e-4."""
    weight_decay: float = 0.0
    """Decoupled weight decay, on every parameter; the published one is 0."""
    clip_norm: float | None = None
    """Most that the norm of a network's gradient may be, each network by its own; null: any."""
    average: float = 0.0
    """Decay of an exponential moving average of the weights, for validation and use (0: none)."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """How the learning rate goes."""


@dataclass(frozen=True)
class ValidationConfig:
    """When the validation loss is measured, in what portions, and what is shown of it."""

    every: int = 500
    """Iterations between two validations at least; they happen at the end of an epoch."""
    windows_at_once: int = 16
    """Windows in one forward pass of the windowed validation; only memory depends on it."""
    excerpts: int = 3
    """Validation items that TensorBoard plays and draws at each best validation, where the device
    moves most: 1 MB each with the defaults; 0: none."""
    excerpt_seconds: float = 5.0
    """Length of each."""


@dataclass(frozen=True)
class StoppingConfig:
    """When training ends."""

    patience: int = 76_800
    """Stop when the streamed validation loss has not improved for so many iterations."""
    max_iterations: int = 1_000_000
    """Stop after so many iterations at the latest."""
    non_finite: Literal["stop", "skip"] = "stop"
    """After a group with a loss or gradient that is not finite its steps are undone; then stop with
    a checkpoint, or skip the group on every process."""
    skips: int = 10
    """Stop all the same when so many groups in a row would be skipped."""


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written and how many stay; the best one always stays."""

    minutes: float = 10.0
    """Minutes between two checkpoints at most; what a crash can cost. One is written at an epoch's
    end too, where all of them together take less than 1 % of the time."""
    groups: int | None = None
    """Groups between two checkpoints at most; null: any number."""
    keep: int = 2
    """How many of the latest checkpoints stay."""
    keep_epochs: int | None = None
    """Keep one for good at the end of every so many epochs; null: none."""


@dataclass(frozen=True)
class MonitorConfig:
    """What TensorBoard gets."""

    every: int = 10
    """Iterations between two records at least; a record is the mean of the groups since then."""


@dataclass(frozen=True)
class DistributedConfig:
    """How processes share the work."""

    processes: int | None = None
    """Refuse to train on any other number of processes; null takes whatever was launched."""
    micro_batches: int = 1
    """Slices of a process's rows that pass one after the other, for memory; one step for all."""
    virtual_shards: int | None = None
    """Bit-identical mode: the global batch in so many slices, gradients summed in their order; any
    number of processes that divides it gives the same bytes. null: off, the faster way."""
    timeout: float = 600.0
    """Seconds that a process waits for another before the training ends."""
    watchdog: float = 300.0
    """Seconds without any progress after which a training tells where every process stands and
    ends, with exit code 86; 0: never. It begins to count after the first group."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training depends on."""

    name: str = "run"
    """Name of the run: its folder in `runs_dir`."""
    runs_dir: str = "runs"
    """Folder that holds the runs."""
    seed: int = 0
    """Seed of every random choice."""
    deterministic: bool = False
    """Let only deterministic kernels run: bit-identical repeats on a GPU, a little slower."""
    precision: Literal["float32", "bf16", "float64"] | None = field(
        default=None, metadata={"hint": PRECISIONS}
    )
    """Arithmetic: bf16 is autocast with weights, states and losses in float32; float64 is for
    proofs; null takes the launcher's --mixed_precision, float32 where it has none."""
    kernels: Kernels = "fast"
    """On a CPU: `fast` forms of the layers, or all `plain`, as they are written down; the same
    numbers up to rounding."""
    lengths: tuple[int, ...] = (16384,)
    """Samples of a group's sub-sequences, `L_0 ... L_{N-1}`: N iterations, one step each."""
    batch_size: int = 16
    """Sequences in a batch over all processes together, `B`."""
    model: ModelConfig = field(default_factory=SPTModConfig)
    """The effect network, of the kind that `model.kind` names, and its State Prediction Network."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where the shards are."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """The optimizer, of either network."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Weights and windows of the loss."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Validation."""
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    """The end of training."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Checkpoints."""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    """TensorBoard."""
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    """Processes."""

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, moments, states and losses."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def check(self) -> None:
        """Refuse what cannot train, whatever the data and the machine.

        Raises:
            ConfigError: one sentence with the key, its value, and what would be right.
        """
        _check_name(self.name)
        _check_folders(self)
        _check_reading(self.data)
        _check_numbers(self)
        self.check_shards()
        _check_schedule(self.optimizer.schedule)
        _check_shares(self.batch_size, self.distributed)

    def check_shards(self) -> None:
        """Refuse what no shards can be made for: all that they depend on.

        Raises:
            ConfigError: one sentence with the key and what would be right.
        """
        for key in ("sequences_per_record", "shard_megabytes"):
            number = getattr(self.data, key)
            if number < 1:
                raise ConfigError(f"data.{key} is {number}, but must be at least 1")
        _check_lengths(self.lengths, self.model.frame, max(self.loss.windows))


def from_dict(
    data: Mapping[str, Any], where: str = "settings", complete: bool = True
) -> TrainConfig:
    """The checked configuration from a plain mapping, as a run's `config.yaml` holds it.

    Args:
        data: Nested mappings of plain values; a missing key takes its default.
        where: What the messages call the source, best a file's name.
        complete: Also refuse settings with which no training could start (`TrainConfig.check`).

    Raises:
        UserError: an unknown key, a wrong type or an impossible value, in one sentence.
    """
    checked = settings.check(TrainConfig, data, where)
    try:
        config = settings.build(TrainConfig, checked)
        if complete:
            config.check()
    except UserError as error:
        raise ConfigError(f"{where}: {error}") from error
    return config


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """The whole tree as plain values, for JSON or YAML; `from_dict` takes it back."""
    return settings.to_plain(config)


def to_yaml(config: TrainConfig) -> str:
    """The whole tree as YAML, every default spelt out; it loads back to an equal configuration."""
    return yaml.dump(to_dict(config), Dumper=_Dumper, sort_keys=False, width=100)


class _Dumper(yaml.SafeDumper):
    """Lists on one line, everything else in blocks."""


_Dumper.add_representer(
    list,
    lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True),
)


def nearest_multiples(value: int, step: int) -> str:
    """The multiples of `step` around `value` in words, zero left out."""
    below = value // step * step
    return f"{below} or {below + step}" if below else f"{step}"


def _check_name(name: str) -> None:
    if name.strip() in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\ud800-\udfff]", name):
        raise ConfigError(
            f"name is {name!r}, but must be a plain folder name without slashes: "
            "set runs_dir for the folder around it"
        )
    if len(name.encode()) > 200:
        raise ConfigError(f"name has {len(name.encode())} bytes; a folder's name takes 200")


def _check_folders(config: TrainConfig) -> None:
    for key in ("train", "validation"):
        if not getattr(config.data, key):
            raise ConfigError(f"data.{key} is missing: give the folder of a shard set")
    if not config.runs_dir:
        raise ConfigError("runs_dir is empty: give a folder, such as runs")


def _check_reading(data: DataConfig) -> None:
    if data.stream and data.resident:
        raise ConfigError(
            f"data.stream and data.resident = {data.resident} are both set, but what is held in "
            "memory is not streamed: set one of them"
        )
    if not data.cache_folder:
        raise ConfigError("data.cache_folder is empty: give a folder")


def _check_numbers(config: TrainConfig) -> None:
    at_least: dict[str, tuple[int | None, int]] = {
        "seed": (config.seed, 0),
        "batch_size": (config.batch_size, 1),
        "data.workers": (config.data.workers, 0),
        "data.stream_buffer": (config.data.stream_buffer, 1),
        "validation.every": (config.validation.every, 1),
        "validation.windows_at_once": (config.validation.windows_at_once, 1),
        "validation.excerpts": (config.validation.excerpts, 0),
        "stopping.patience": (config.stopping.patience, 1),
        "stopping.max_iterations": (config.stopping.max_iterations, 1),
        "monitor.every": (config.monitor.every, 1),
        "checkpoint.keep": (config.checkpoint.keep, 1),
        "checkpoint.keep_epochs": (config.checkpoint.keep_epochs, 1),
        "checkpoint.groups": (config.checkpoint.groups, 1),
        "distributed.processes": (config.distributed.processes, 1),
        "distributed.micro_batches": (config.distributed.micro_batches, 1),
        "distributed.virtual_shards": (config.distributed.virtual_shards, 1),
        "stopping.skips": (config.stopping.skips, 1),
        "optimizer.schedule.warmup": (config.optimizer.schedule.warmup, 0),
        "optimizer.schedule.iterations": (config.optimizer.schedule.iterations, 1),
        "optimizer.schedule.patience": (config.optimizer.schedule.patience, 1),
    }
    for key, (value, least) in at_least.items():
        if value is not None and value < least:
            raise ConfigError(f"{key} is {value}, but must be at least {least}")
    positive = {
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "optimizer.clip_norm": config.optimizer.clip_norm,
        "validation.excerpt_seconds": config.validation.excerpt_seconds,
        "checkpoint.minutes": config.checkpoint.minutes,
        "distributed.timeout": config.distributed.timeout,
        "data.cache_gigabytes": config.data.cache_gigabytes,
    }
    for key, number in positive.items():
        if number is not None and not (math.isfinite(number) and number > 0):
            raise ConfigError(f"{key} is {number}, but must be greater than 0")
    at_most = {
        "validation.excerpts": (config.validation.excerpts, 100),
        "validation.excerpt_seconds": (config.validation.excerpt_seconds, 60.0),
        "data.workers": (config.data.workers, 256),
        "data.cache_gigabytes": (config.data.cache_gigabytes, 1e9),
    }
    for key, (figure, most) in at_most.items():
        if figure > most:
            raise ConfigError(f"{key} is {figure:g}, but must be at most {most:g}")
    watchdog = config.distributed.watchdog
    if not (math.isfinite(watchdog) and watchdog >= 0):
        raise ConfigError(f"distributed.watchdog is {watchdog}, but must be 0 (off) or seconds")
    decay = config.optimizer.weight_decay
    if not (math.isfinite(decay) and decay >= 0):
        raise ConfigError(f"optimizer.weight_decay is {decay}, but must be finite and 0 or more")
    shares = {
        "optimizer.average": config.optimizer.average,
        "optimizer.schedule.factor": config.optimizer.schedule.factor,
        "optimizer.schedule.final": config.optimizer.schedule.final,
    }
    for key, share in shares.items():
        if not 0 <= share < 1:
            raise ConfigError(f"{key} is {share}, but must be from 0 to below 1")
    if config.seed >= 2**63:
        raise ConfigError(f"seed is {config.seed}, but must be below 2^63")


def _check_lengths(lengths: tuple[int, ...], frame: int, window: int) -> None:
    if not lengths:
        raise ConfigError("lengths is empty: give one length a sub-sequence, such as [8192, 8192]")
    for index, length in enumerate(lengths):
        if length < window:
            raise ConfigError(
                f"lengths[{index}] is {length}, shorter than the loss's longest window of {window} "
                "samples: make it longer or shorten loss.windows"
            )
        if index and length % frame:
            raise ConfigError(
                f"lengths[{index}] is {length}, but every length after the first must be a "
                f"multiple of model.pooling_size = {frame}: "
                f"take {nearest_multiples(length, frame)}"
            )


def _check_schedule(schedule: ScheduleConfig) -> None:
    if schedule.kind != "cosine":
        return
    if schedule.iterations is None:
        raise ConfigError(
            "optimizer.schedule.iterations is missing: a cosine needs the iteration at which it "
            "has come down, such as that of stopping.max_iterations"
        )
    if schedule.iterations <= schedule.warmup:
        raise ConfigError(
            f"optimizer.schedule.iterations is {schedule.iterations}, but must be more than "
            f"optimizer.schedule.warmup = {schedule.warmup}"
        )


def _check_shares(batch_size: int, distributed: DistributedConfig) -> None:
    for key in ("processes", "virtual_shards"):
        number = getattr(distributed, key)
        if number and batch_size % number:
            raise ConfigError(
                f"batch_size is {batch_size}, which distributed.{key} = {number} does not divide: "
                f"take {nearest_multiples(batch_size, number)}"
            )
    if distributed.virtual_shards and distributed.micro_batches > 1:
        raise ConfigError(
            "distributed.virtual_shards and distributed.micro_batches are both set, but virtual "
            "shards are micro-batches already: set micro_batches to 1"
        )
