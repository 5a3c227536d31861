"""DeepSpeed's ZeRO-1, 2 and 3: the same training as on one process, saved and resumed alike."""

from __future__ import annotations

import shutil

import pytest
import torch
from parity import (
    ONE,
    largest,
    last,
    launch_zero,
    losses,
    moments_apart,
    strayed,
    train_one,
    validations,
    worst_ratio,
)
from poisons import HARMLESS, ZERO_POISONS
from variants import BF16, IN_FLOAT32

pytest.importorskip("deepspeed")
pytestmark = [
    pytest.mark.timeout(400),  # all variants train before the first test
    pytest.mark.skipif(shutil.which("g++") is None, reason="on the CPU DeepSpeed compiles"),
]


def names_of(stage: int) -> list[str]:
    """`parts` speaks of weights, which stage 3 alone has in parts."""
    harmless = [name for name in HARMLESS if name != "parts" or stage == 3]
    patched = [f"poison:{name}" for name in (*harmless, *ZERO_POISONS)]
    return [*IN_FLOAT32, *BF16, "resumed", *patched]


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.system), 2, 3])
def zero(one_process, request):
    """All variants trained under a stage of ZeRO, and the label of their runs."""
    label = f"zero{request.param}"
    launch_zero(request.param, one_process, label, names_of(request.param))
    return one_process, label


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_the_training_is_that_of_one_process(zero, name):
    folder, label = zero
    assert strayed(folder, name, label) <= 2e-3
    one, other = (last(folder, name, which).moments for which in (ONE, label))
    assert moments_apart(one, other) <= 1e-4
    assert worst_ratio(losses(folder, name, ONE), losses(folder, name, label)) <= 1e-5
    assert worst_ratio(validations(folder, name, ONE), validations(folder, name, label)) <= 1e-5


@pytest.mark.parametrize("name", ["average32", "everything32"])
def test_with_average_pooling_weights_and_averages_agree_to_1e_6(zero, name):
    folder, label = zero
    one, other = last(folder, name, ONE), last(folder, name, label)
    assert largest(one.weights, other.weights) <= 1e-6
    if one.averages:
        assert largest(one.averages, other.averages) <= 1e-6
    steps = {key: value.item() for key, value in one.moments.items() if key.endswith("step")}
    assert steps == {key: other.moments[key].item() for key in steps}
    assert {step for key, step in steps.items() if key.startswith("spn")} == {4.0}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_must_not_change_a_training_does_not(zero, name):
    folder, label = zero
    if name == "parts" and label != "zero3":
        pytest.skip("only stage 3 has weights in parts")
    reference = name if name == "skipped" else HARMLESS[name][0]
    one, other = last(folder, reference, ONE), last(folder, name, label)
    assert largest(one.weights, other.weights) <= 1e-6
    assert one.state["progress"]["group"] == other.state["progress"]["group"]


def test_bf16_is_autocast_around_float32_weights(zero):
    folder, label = zero

    assert strayed(folder, "bf16", label) <= 2e-3
    assert worst_ratio(losses(folder, "average32", ONE), losses(folder, "bf16", label)) > 5e-5
    assert {w.dtype for w in last(folder, "bf16", label).weights.values()} == {torch.float32}


def test_resumed_equals_uninterrupted_bit_for_bit(zero):
    folder, label = zero
    whole, resumed = (last(folder, name, label) for name in ("everything32", "whole"))
    for kind in ("weights", "moments", "averages"):
        assert largest(getattr(whole, kind), getattr(resumed, kind)) == 0


def test_a_checkpoint_of_one_process_is_resumed_under_zero_and_the_other_way_round(zero):
    folder, label = zero
    whole = last(folder, "everything32", ONE)
    there = last(folder, "from-one", label)
    assert largest(whole.weights, there.weights) <= 1e-6
    half = folder / "runs" / f"half-{label}" / "checkpoints" / "step-00000006"
    train_one(folder, f"from-{label}", "everything32", resume=str(half))
    back = last(folder, f"from-{label}", ONE)
    assert largest(whole.weights, back.weights) <= 1e-6
    assert largest(whole.averages, back.averages) <= 1e-6


@pytest.mark.parametrize("poison", ZERO_POISONS)
def test_a_fault_is_noticed(zero, poison):
    folder, label = zero
    one, other = last(folder, ZERO_POISONS[poison][0], ONE), last(folder, poison, label)
    assert largest(one.weights, other.weights) > 1e-5
