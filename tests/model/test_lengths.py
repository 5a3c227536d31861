"""The length plan: the original's answers, and the properties that make it right."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import NAMES, read_length_plans, read_trace

from sptmod_dist.model import SPTMod, SPTModConfig, sptmod24, sptmod25
from sptmod_dist.model.lengths import lookback_samples, plan_lengths
from sptmod_dist.model.reference import reference_config

PRESETS = {"sptmod24": sptmod24(), "sptmod25": sptmod25()}


def as_json(plan):
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(plan).items()}


@pytest.mark.parametrize("name", PRESETS)
def test_every_published_length_plan_is_reproduced(name):
    expected = read_length_plans()[name]
    assert PRESETS[name].spn.lookback_length == expected["lookback_length"]
    for row in expected["plans"]:
        ours = as_json(PRESETS[name].plan(row["target_length"]))
        assert {key: ours[key] for key in row} == row


@pytest.mark.parametrize("name", NAMES)
def test_every_traces_plan_is_reproduced(name):
    trace = read_trace(name)
    ours = as_json(reference_config(trace.config).plan(trace.lengths[0]))
    assert {key: ours[key] for key in trace.plan} == trace.plan


blocks = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=4
)  # (kernel, dilation)


@given(blocks=blocks, pooling=st.integers(1, 20), target=st.integers(1, 200))
@settings(max_examples=60)
def test_the_produced_length_is_the_wanted_one_and_no_crop_is_negative(blocks, pooling, target):
    kernels, dilations = zip(*blocks, strict=True)
    config = SPTModConfig(
        channels=(2,) * len(blocks),
        kernel_sizes=kernels,
        dilations=dilations,
        pooling_size=pooling,
        hidden_size=2,
        spn=None,
    )
    plan = config.plan(target)
    assert min(*plan.modulation_crops, *plan.audio_crops, plan.modulation_start, 0) == 0
    y, _ = SPTMod(config)(torch.randn(1, 1, plan.input_length), torch.zeros(1, 0), plan=plan)
    assert y.shape[-1] == target


@given(blocks=blocks, pooling=st.integers(1, 20), target=st.integers(1, 200))
@settings(max_examples=200)
def test_no_smaller_number_of_frames_would_do(blocks, pooling, target):
    """With one frame less anywhere, some block could not deliver what the next one needs."""
    consumed = [(kernel - 1) * dilation for kernel, dilation in blocks]
    plan = plan_lengths(target, consumed, pooling)
    for j, crop in enumerate(plan.audio_crops):
        spare_frames = plan.modulation_crops[j] // pooling
        assert spare_frames == 0, f"block {j} computes {spare_frames} frames that nobody reads"
        if j == len(consumed) - 1:
            assert crop < pooling


@given(
    spn=st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=100)
def test_the_lookback_shrinks_to_exactly_one_frame(spn):
    kernels, dilations, strides, poolings = zip(*spn, strict=True)
    n = lookback_samples(kernels, dilations, strides, poolings)
    for length, wanted in ((n, 1), (n - 1, 0)):
        for kernel, dilation, stride, pooling in spn:
            length = max(0, (length - dilation * (kernel - 1) - 1) // stride + 1) // pooling
        assert length == wanted


def test_a_target_of_no_samples_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        replace(sptmod25(), spn=None).plan(0)
