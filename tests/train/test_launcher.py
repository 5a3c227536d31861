"""What a launcher asks for is honoured, or refused with both values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sptmod_dist.errors import UserError
from sptmod_dist.train.config import DistributedConfig, OptimizerConfig, TrainConfig
from sptmod_dist.train.launcher import refuse_unsupported, settle, without_auto

BF16 = {"ACCELERATE_MIXED_PRECISION": "bf16"}
STAGE_2 = {"zero_optimization": {"stage": 2}}


def settled(environment=(), zero=(), processes=1, **changes) -> TrainConfig:
    return settle(TrainConfig(**changes), dict(environment), dict(zero), processes)


def test_what_nobody_says_is_float32_without_clipping():
    config = settled({"ACCELERATE_MIXED_PRECISION": "no"}, STAGE_2 | {"gradient_clipping": "auto"})
    assert (config.precision, config.optimizer.clip_norm) == ("float32", None)


def test_the_launchers_precision_is_taken_where_the_settings_leave_it_open():
    assert settled(BF16).precision == "bf16"
    assert settled({}, STAGE_2 | {"bf16": {"enabled": True}}).precision == "bf16"
    assert settled({"ACCELERATE_MIXED_PRECISION": "no"}, precision="bf16").precision == "bf16"
    assert settled(BF16, precision="bf16").precision == "bf16"


def test_the_launchers_clipping_is_taken_where_the_settings_leave_it_open():
    asked = STAGE_2 | {"gradient_clipping": 0.5}
    assert settled({}, asked).optimizer.clip_norm == 0.5
    assert settled({}, asked, optimizer=OptimizerConfig(clip_norm=0.5)).optimizer.clip_norm == 0.5


def test_accelerate_leaves_a_clipping_open_that_nobody_asked_for():
    """So 1.0, DeepSpeed's default, is somebody's wish where it stands."""
    pytest.importorskip("deepspeed")
    from accelerate import DeepSpeedPlugin

    assert DeepSpeedPlugin().deepspeed_config["gradient_clipping"] == "auto"
    assert settled({}, STAGE_2 | {"gradient_clipping": 1.0}).optimizer.clip_norm == 1.0


CONTRADICTIONS = {
    "mixed precision bf16, the settings for precision float32": (
        BF16, {}, {"precision": "float32"}),
    "gradient_clipping 0.5, the settings for optimizer.clip_norm 2.0": (
        {}, STAGE_2 | {"gradient_clipping": 0.5}, {"optimizer": OptimizerConfig(clip_norm=2.0)}),
    "4 gradient accumulation steps, the settings for distributed.micro_batches 2": (
        {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, {},
        {"distributed": DistributedConfig(micro_batches=2)}),
    "8 gradient accumulation steps": (
        {}, STAGE_2 | {"gradient_accumulation_steps": 8}, {}),
    "mixed precision fp16": ({"ACCELERATE_MIXED_PRECISION": "fp16"}, {}, {}),
    "mixed precision fp8": ({"ACCELERATE_MIXED_PRECISION": "fp8"}, {}, {}),
    "fp16, but this loss": ({}, STAGE_2 | {"fp16": {"enabled": True}}, {}),
    "hold 'optimizer'": ({}, STAGE_2 | {"optimizer": {"type": "Adam"}}, {}),
    "hold 'scheduler'": ({}, STAGE_2 | {"scheduler": {"type": "WarmupLR"}}, {}),
    "hold 'communication_data_type'": ({}, STAGE_2 | {"communication_data_type": "bf16"}, {}),
    "zero_quantized_weights": (
        {}, {"zero_optimization": {"stage": 3, "zero_quantized_weights": True}}, {}),
    "train_batch_size 64, the settings for batch_size 16": (
        {}, STAGE_2 | {"train_batch_size": 64}, {}),
    "offload_param to nvme": (
        {}, {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}, {}),
    "precision is float64, but DeepSpeed": ({}, STAGE_2, {"precision": "float64"}),
    "virtual_shards is 4, but DeepSpeed": (
        {}, STAGE_2, {"distributed": DistributedConfig(virtual_shards=4)}),
}


@pytest.mark.parametrize("sentence", CONTRADICTIONS)
def test_what_contradicts_the_settings_is_refused_with_both_values(sentence):
    environment, zero, changes = CONTRADICTIONS[sentence]
    with pytest.raises(UserError, match=sentence):
        settled(environment, zero, **changes)


def test_a_batch_that_cannot_be_cut_so_is_refused_with_what_can():
    three = DistributedConfig(micro_batches=3)
    with pytest.raises(UserError, match="each of 4 processes has 4 row.s. of the batch: take 1, 2"):
        settled(processes=4, distributed=three)
    shards = DistributedConfig(virtual_shards=8)
    with pytest.raises(UserError, match="8, which 3 processes do not divide: launch 1, 2, 4, 8 of"):
        settled(processes=3, distributed=shards)


@pytest.mark.parametrize("environment", [
    {"ACCELERATE_USE_FSDP": "true"},
    {"ACCELERATE_USE_MEGATRON_LM": "true"},
    {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"},
])
def test_what_is_not_offered_is_refused(environment):
    with pytest.raises(UserError, match="the launcher asks for"):
        refuse_unsupported(environment, gpus=0)


def test_two_processes_on_one_gpu_are_refused():
    with pytest.raises(UserError, match=r"2 processes were launched on a machine with 1 GPU"):
        refuse_unsupported({"LOCAL_WORLD_SIZE": "2"}, gpus=1)
    refuse_unsupported({"LOCAL_WORLD_SIZE": "2"}, gpus=2)
    refuse_unsupported({"LOCAL_WORLD_SIZE": "2"}, gpus=0)


def test_what_deepspeed_is_to_fill_in_is_left_out():
    settings = {"a": "auto", "b": None, "c": {"d": "auto", "e": 1}, "f": False}
    assert without_auto(settings) == {"c": {"e": 1}, "f": False}


def test_the_settings_are_otherwise_what_they_were():
    given = TrainConfig(name="mine", batch_size=8)
    assert settle(given, {}, {}, 2) == replace(given, precision="float32")
