"""What a launcher asks for: honoured, or refused with both values, never dropped in silence.

`accelerate launch` (and a file that `accelerate config` wrote) speaks through the environment and,
under DeepSpeed, through a mapping of settings. This file reads both and starts nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sptmod_dist.train.config import TrainConfig
from sptmod_dist.train.ranks import EngineError, SharedError

Environment = Mapping[str, str]
Settings = Mapping[str, Any]
_THEIRS = {
    "zero_optimization",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "bf16",
    "fp16",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
    "steps_per_print",
    "wall_clock_breakdown",
}
"""DeepSpeed's settings that leave the training what it is, or that `settle` looks at."""


def asks_for_deepspeed(environment: Environment) -> bool:
    """Whether the launcher started the processes for DeepSpeed.

    Raises:
        EngineError: the packages that it needs are not installed.
    """
    if not _is_true(environment, "ACCELERATE_USE_DEEPSPEED"):
        return False
    for package in ("deepspeed", "transformers"):  # Accelerate's DeepSpeed path needs the latter
        if importlib.util.find_spec(package) is None:
            raise EngineError(
                f"the launcher asks for DeepSpeed, but {package} is not installed: run "
                'pip install -c constraints.txt -e ".[deepspeed]"'
            )
    if "LOCAL_RANK" not in environment or _is_true(environment, "ACCELERATE_USE_CPU"):
        raise EngineError(
            "the launcher asks for DeepSpeed (ACCELERATE_USE_DEEPSPEED), but started no processes "
            "for it (LOCAL_RANK), or for the CPU alone (ACCELERATE_USE_CPU): use accelerate launch "
            "--config_file launch/accelerate/deepspeed_zero2.yaml"
        )
    return True


def refuse_unsupported(environment: Environment, gpus: int) -> None:
    """Refuse what this training does not offer, before any process waits for another.

    Args:
        gpus: how many this machine has.

    Raises:
        EngineError: naming the launcher's setting and what to launch instead.
    """
    for key, name in {
        "ACCELERATE_USE_FSDP": "FSDP",
        "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
        "ACCELERATE_USE_PARALLELISM_CONFIG": "other parallelism than of data",
    }.items():
        if _is_true(environment, key):
            raise SharedError(
                f"the launcher asks for {name}, but training is spread by DDP or DeepSpeed: launch "
                "with a file of launch/accelerate"
            )
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "no")
    if backend.lower() != "no":
        raise SharedError(
            f"the launcher asks for torch.compile by {backend!r}, which does nothing for recurrent "
            "layers: launch with --dynamo_backend no"
        )
    processes = int(environment.get("LOCAL_WORLD_SIZE", 1))
    if 0 < gpus < processes:  # Accelerate would fail with a traceback where two meet on one GPU
        raise EngineError(
            f"{processes} processes were launched on a machine with {gpus} GPU(s): launch one a "
            "GPU (launch/accelerate/ddp.yaml), or set CUDA_VISIBLE_DEVICES= for the CPU"
        )


def settle(
    config: TrainConfig, environment: Environment, zero: Settings, world_size: int
) -> TrainConfig:
    """The settings with what the launcher asks for in the places that they leave open.

    Args:
        zero: DeepSpeed's settings as the launcher gave them; empty without DeepSpeed.

    Raises:
        SharedError: launcher and settings contradict each other, or the batch cannot be cut so.
    """
    _check_zero(zero)
    theirs = zero.get("train_batch_size", "auto")
    if theirs not in ("auto", config.batch_size):
        raise SharedError(
            f"the launcher asks for train_batch_size {theirs}, the settings for batch_size "
            f"{config.batch_size}: change one of them, or set the launcher's to auto"
        )
    _check_accumulation(config, environment, zero)
    precision = _one(
        "mixed precision", _precision(environment, zero), "precision", config.precision
    )
    clip_norm = _one(
        "gradient_clipping", _clipping(zero), "optimizer.clip_norm", config.optimizer.clip_norm
    )
    settled = replace(
        config,
        precision=precision or "float32",
        optimizer=replace(config.optimizer, clip_norm=clip_norm),
    )
    _check_shares(settled, zero, world_size)
    return settled


def zero_stage(zero: Settings) -> int:
    """The stage of ZeRO: 0 partitions nothing."""
    return int(zero.get("zero_optimization", {}).get("stage", 0))


def without_auto(settings: Settings) -> dict[str, Any]:
    """DeepSpeed's settings less what is left to be filled in: their defaults serve."""
    return {
        key: without_auto(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if value != "auto" and value is not None
    }


def _one(theirs: str, asked: Any, ours: str, given: Any) -> Any:
    if asked is not None and given is not None and asked != given:
        raise SharedError(
            f"the launcher asks for {theirs} {asked}, the settings for {ours} {given}: change one "
            "of them, or set the key to null to take the launcher's"
        )
    return asked if given is None else given


def _precision(environment: Environment, zero: Settings) -> str | None:
    asked = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    for name in ("fp16", "bf16"):
        if zero.get(name, {}).get("enabled") is True:
            asked = name
    if asked not in ("no", "bf16"):
        raise SharedError(
            f"the launcher asks for mixed precision {asked}, but this loss divides by energies "
            "that only float32 and bfloat16 can hold: launch with --mixed_precision no or bf16"
        )
    return None if asked == "no" else asked


def _clipping(zero: Settings) -> float | None:
    """The clipping that somebody asked for; what nobody asks for is left to be filled in."""
    value = zero.get("gradient_clipping")
    return None if value in (None, "auto", 0.0) else float(value)


def _check_zero(zero: Settings) -> None:
    for key in without_auto(zero):
        if key not in _THEIRS:
            raise SharedError(
                f"the DeepSpeed settings hold {key!r}, but optimizer, schedule, precision and all "
                "else that changes a training are its own settings: remove it"
            )
    for key, value in zero.get("zero_optimization", {}).items():
        if key.startswith("zero_quantized") and value:
            raise SharedError(
                f"the DeepSpeed settings ask for {key}, which trains another model than one "
                "process does: remove it"
            )
    for key in ("offload_optimizer", "offload_param"):
        device = zero.get("zero_optimization", {}).get(key, {}).get("device", "none")
        if device not in (None, "none", "cpu"):
            raise SharedError(
                f"the DeepSpeed settings ask for {key} to {device}, where 1.4 MB need not go: set "
                "it to none"
            )


def _check_accumulation(config: TrainConfig, environment: Environment, zero: Settings) -> None:
    steps = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1")
    steps = zero.get("gradient_accumulation_steps", steps)
    ours = config.distributed.micro_batches
    if str(steps) not in ("auto", "1", str(ours)):
        raise SharedError(
            f"the launcher asks for {steps} gradient accumulation steps, the settings for "
            f"distributed.micro_batches {ours}: set the launcher's to 1; micro_batches cuts the "
            "batch for memory"
        )


def _check_shares(config: TrainConfig, zero: Settings, world_size: int) -> None:
    shards, slices = config.distributed.virtual_shards, config.distributed.micro_batches
    by_hand = "launch with launch/accelerate/ddp.yaml or cpu.yaml"
    if zero_stage(zero) and config.precision == "float64":
        raise SharedError(
            f"precision is float64, but DeepSpeed keeps weights in float32: {by_hand}"
        )
    if zero_stage(zero) and shards:
        raise SharedError(
            f"distributed.virtual_shards is {shards}, but DeepSpeed sums gradients by itself: "
            f"{by_hand}"
        )
    if shards and shards % world_size:
        raise SharedError(
            f"distributed.virtual_shards is {shards}, which {world_size} processes do not divide: "
            f"launch {_divisors(shards)} of them"
        )
    share, rest = divmod(config.batch_size, world_size)
    if not rest and share % slices:
        raise SharedError(
            f"distributed.micro_batches is {slices}, but each of {world_size} processes has "
            f"{share} row(s) of the batch: take {_divisors(share)}"
        )


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def _is_true(environment: Environment, key: str) -> bool:
    return environment.get(key, "false").lower() in ("1", "true", "yes")
