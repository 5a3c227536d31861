"""What a model is made of: frozen dataclasses, their checks, and the published presets.

The defaults are SPTMod25's (DAFx25, table of configurations). Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sptmod_dist.errors import UserError
from sptmod_dist.model.lengths import LengthPlan, lookback_samples, plan_lengths
from sptmod_dist.model.rows import BlockRow, LookbackRow, block_rows, lookback_rows

Pooling = Literal["max", "average"]
Cell = Literal["LSTM", "GRU"]
Kind = Literal["sptmod", "tcn"]
"""What `model.kind` may be: a key of each config below, which settings choose by it."""


class ModelConfigError(UserError):
    """A model that cannot be built, with the key that makes it so."""


def _check_positive(key: str, values: Sequence[int]) -> None:
    for value in values:
        if value < 1:
            raise ModelConfigError(f"{key} holds {value}: every value must be at least 1")


def _check_blocks(prefix: str, columns: Mapping[str, Sequence[int]]) -> None:
    """Every per-block list has one positive value a block, and there is a block."""
    first, n_blocks = next((key, len(values)) for key, values in columns.items())
    if not n_blocks:
        raise ModelConfigError(f"{prefix}{first} is empty: a network needs at least one block")
    for key, values in columns.items():
        _check_positive(prefix + key, values)
        if len(values) != n_blocks:
            raise ModelConfigError(
                f"{prefix}{key} has {len(values)} values, but {prefix}{first} has {n_blocks}: "
                "give one value a block in each list"
            )


def _check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ModelConfigError(f"{key} is {value!r}: choose one of {', '.join(choices)}")


@dataclass(frozen=True)
class SPNConfig:
    """The State Prediction Network: strided convolutions that shrink the lookback to one frame."""

    channels: tuple[int, ...] = (16,) * 7
    """Output channels of each block."""
    kernel_sizes: tuple[int, ...] = (38,) * 7
    """Kernel size of each block."""
    dilations: tuple[int, ...] = (1,) * 7
    """Dilation of each block."""
    strides: tuple[int, ...] = (1,) * 7
    """Stride of each block's convolution."""
    poolings: tuple[int, ...] = (4,) * 7
    """Pooling size at each block's end."""
    pooling_type: Pooling = "max"
    """`max` or `average`."""
    film_hidden: tuple[int, ...] = (32, 32)
    """Hidden layers of the FiLM that the controls steer; empty for one linear layer."""
    linear_end: bool = True
    """A last linear layer to the states; without it the last block must have as many channels."""
    dropout: float = 0.0
    """While training, the share of predicted state values (or of items) that is set to zero."""
    dropout_items: bool = False
    """Drop whole items (the first rows of the batch, which then start cold), not single values."""

    def __post_init__(self) -> None:
        columns = {
            "channels": self.channels,
            "kernel_sizes": self.kernel_sizes,
            "dilations": self.dilations,
            "strides": self.strides,
            "poolings": self.poolings,
        }
        _check_blocks("model.spn.", columns)
        _check_positive("model.spn.film_hidden", self.film_hidden)
        _check_choice("model.spn.pooling_type", self.pooling_type, ("max", "average"))
        if not 0 <= self.dropout < 1:
            raise ModelConfigError(
                f"model.spn.dropout is {self.dropout}: give a share from 0 up to, not including, 1"
            )

    @property
    def lookback_length(self) -> int:
        """Samples of the past that it reads."""
        return lookback_samples(self.kernel_sizes, self.dilations, self.strides, self.poolings)

    def rows(self) -> tuple[LookbackRow, ...]:
        """The lookback block by block, for tables."""
        stack = (self.kernel_sizes, self.dilations, self.strides, self.poolings)
        return tuple(lookback_rows(self.lookback_length, *stack))


class EffectConfig:
    """What the configs of all effect networks have; `frame`, `plan`, `rows` are each one's own."""

    input_channels: int
    sidechain_channels: int
    n_params: int
    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def frame(self) -> int:
        """Samples of which a call with a state takes a multiple."""
        raise NotImplementedError

    @property
    def latency(self) -> int:
        """Samples that the output looks ahead at most."""
        return self.frame - 1

    @property
    def n_blocks(self) -> int:
        """Number of blocks, `J`."""
        return len(self.channels)

    @property
    def consumed(self) -> tuple[int, ...]:
        """Samples that each block's convolution consumes without padding, `(k - 1) * d`."""
        return tuple((k - 1) * d for k, d in zip(self.kernel_sizes, self.dilations, strict=True))

    @property
    def signal_channels(self) -> int:
        """Channels of the input tensor: the audio's, then the sidechain's."""
        return self.input_channels + self.sidechain_channels

    def _check(self) -> None:
        columns = {
            "channels": self.channels,
            "kernel_sizes": self.kernel_sizes,
            "dilations": self.dilations,
        }
        _check_blocks("model.", columns)
        _check_positive("model.input_channels", [self.input_channels])
        for key in ("sidechain_channels", "n_params"):
            if getattr(self, key) < 0:
                raise ModelConfigError(f"model.{key} is {getattr(self, key)}: give 0 or more")


@dataclass(frozen=True)
class SPTModConfig(EffectConfig):
    """SPTMod, the effect network, and with it everything that it needs to know of its data."""

    kind: Literal["sptmod"] = "sptmod"
    """Which model; the settings below are sptmod's."""
    input_channels: int = 1
    """Audio channels, `C`."""
    sidechain_channels: int = 0
    """Sidechain channels, `S`; with 0 the input itself steers the modulation."""
    n_params: int = 0
    """Controls of the device; 0 for a snapshot of one setting."""
    channels: tuple[int, ...] = (15, 15, 15, 15)
    """Channels of each ModBlock."""
    kernel_sizes: tuple[int, ...] = (3, 3, 3, 3)
    """Kernel size of each ModBlock."""
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    """Dilation of each ModBlock."""
    pooling_size: int = 64
    """Samples in a frame, `P`; the latency is one sample less."""
    pooling_type: Pooling = "max"
    """`max` or `average`."""
    film_hidden: tuple[int, ...] = (32, 32)
    """Hidden layers of the FiLM that the controls steer; empty for one linear layer."""
    cond_size: int | None = None
    """Width of a network that the controls pass first, for all FiLMs; not together with an SPN."""
    rnn_cell: Cell = "LSTM"
    """`LSTM` or `GRU`."""
    hidden_size: int = 31
    """Width of the recurrent layers, `H`."""
    spn: SPNConfig | None = field(default_factory=SPNConfig)
    """The State Prediction Network; null for none (states then start from zeros)."""

    def __post_init__(self) -> None:
        self._check()
        _check_positive("model.pooling_size", [self.pooling_size])
        _check_positive("model.hidden_size", [self.hidden_size])
        _check_positive("model.film_hidden", self.film_hidden)
        _check_choice("model.pooling_type", self.pooling_type, ("max", "average"))
        _check_choice("model.rnn_cell", self.rnn_cell, ("LSTM", "GRU"))
        self._check_conditioning()
        self._check_states()

    def _check_conditioning(self) -> None:
        if self.cond_size is None:
            return
        _check_positive("model.cond_size", [self.cond_size])
        if self.spn is not None:
            raise ModelConfigError(
                "model.cond_size together with model.spn would tie two networks that must stay "
                "separate: set one of them to null"
            )
        if not self.n_params:
            raise ModelConfigError("model.cond_size needs controls: set model.n_params, or null it")

    def _check_states(self) -> None:
        if self.spn is None or self.spn.linear_end:
            return
        if self.spn.channels[-1] != self.n_blocks * self.state_size:
            raise ModelConfigError(
                f"model.spn.channels ends with {self.spn.channels[-1]}, but without linear_end it "
                f"must be the size of all states, {self.n_blocks * self.state_size}"
            )

    @property
    def state_size(self) -> int:
        """Values in one block's recurrent state: `2H` for an LSTM (`[h, c]`), `H` for a GRU."""
        return self.hidden_size * (2 if self.rnn_cell == "LSTM" else 1)

    @property
    def frame(self) -> int:
        """Samples of which a call with a state takes a multiple, `P`."""
        return self.pooling_size

    def plan(self, target_length: int) -> LengthPlan:
        """The slices and crops of a group's first sub-sequence of `target_length` samples."""
        lookback = self.spn.lookback_length if self.spn else 0
        return plan_lengths(target_length, self.consumed, self.pooling_size, lookback)

    def rows(self, target_length: int) -> tuple[BlockRow, ...]:
        """The plan block by block, for tables: each pools, and steers the audio."""
        plan = self.plan(target_length)
        return block_rows(plan, self.kernel_sizes, self.dilations, self.pooling_size)


@dataclass(frozen=True)
class TCNConfig(EffectConfig):
    """The gain TCN, a baseline without recurrence: causal dilated convolutions that compute a gain.

    The study that it comes from states no constants; these are ours.
    """

    kind: Literal["tcn"] = "tcn"
    """Which model; the settings below are tcn's."""
    input_channels: int = 1
    """Audio channels, `C`."""
    sidechain_channels: int = 0
    """Sidechain channels, `S`; with 0 the input itself steers the gain."""
    n_params: int = 0
    """Controls of the device; 0 for a snapshot of one setting."""
    channels: tuple[int, ...] = (32, 32, 32, 32)
    """Channels of each block."""
    kernel_sizes: tuple[int, ...] = (13, 13, 13, 13)
    """Kernel size of each block."""
    dilations: tuple[int, ...] = (1, 10, 100, 1000)
    """Dilation of each block."""
    film_hidden: tuple[int, ...] = (32, 32)
    """Hidden layers of the FiLM that the controls steer; empty for one linear layer."""

    def __post_init__(self) -> None:
        self._check()
        _check_positive("model.film_hidden", self.film_hidden)

    @property
    def frame(self) -> int:
        """Samples of which a call with a state takes a multiple: any number."""
        return 1

    @property
    def spn(self) -> None:
        """Nothing is recurrent, so no states are to be predicted."""
        return None

    def plan(self, target_length: int) -> LengthPlan:
        """The slices of a group's first sub-sequence: all blocks consume, nothing is cropped."""
        if target_length < 1:
            raise ValueError(f"target_length is {target_length}; it must be at least 1")
        start = sum(self.consumed)
        return LengthPlan(
            target_length=target_length,
            input_length=start + target_length,
            lookback_length=0,
            modulation_start=0,
            audio_start=start,
            lookback_start=start,
            modulation_crops=(0,) * self.n_blocks,
            audio_crops=(0,) * self.n_blocks,
        )

    def rows(self, target_length: int) -> tuple[BlockRow, ...]:
        """The plan block by block, for tables: the last one gives the gain."""
        plan = self.plan(target_length)
        return block_rows(plan, self.kernel_sizes, self.dilations, each_steers=False)


ModelConfig = SPTModConfig | TCNConfig
"""The config of any model."""


def sptmod24(n_params: int = 7) -> SPTModConfig:
    """SPTMod24: three blocks with long kernels, as published."""
    return SPTModConfig(
        n_params=n_params,
        channels=(21, 19, 32),
        kernel_sizes=(9, 29, 25),
        dilations=(1, 1, 1),
        film_hidden=(26, 26),
        spn=SPNConfig(film_hidden=(8, 8)),
    )


def sptmod25(n_params: int = 7) -> SPTModConfig:
    """SPTMod25: four blocks with kernels of 3, as published."""
    return SPTModConfig(n_params=n_params)


def tiny(n_params: int = 0) -> SPTModConfig:
    """A model small enough to learn a compressor in minutes on two cores; it looks back 0.43 s."""
    spn = SPNConfig(
        channels=(8,) * 6,
        kernel_sizes=(12,) * 6,
        dilations=(1,) * 6,
        strides=(1,) * 6,
        poolings=(4,) * 6,
        film_hidden=(8,),
    )
    return replace(
        sptmod25(n_params),
        channels=(8, 8),
        kernel_sizes=(9, 9),
        dilations=(1, 1),
        film_hidden=(8,),
        hidden_size=16,
        spn=spn,
    )


def gain_tcn(n_params: int = 7) -> TCNConfig:
    """The gain TCN; it hears 0.3 s."""
    return TCNConfig(n_params=n_params)


PRESETS: dict[str, Callable[..., ModelConfig]] = {
    "sptmod24": sptmod24,
    "sptmod25": sptmod25,
    "tiny": tiny,
    "tcn": gain_tcn,
}
