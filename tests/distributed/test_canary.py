"""What DeepSpeed itself does, and why this program goes round it: each test fails the day it stops.

These are facts about DeepSpeed 0.19.8, not wishes. A failure here breaks nothing: it says that a
reason for a piece of `train/engine.py` may be gone.
"""

from __future__ import annotations

import shutil

import pytest
import torch
from canary_program import STAGES, simulated
from processes import ROOT, torchrun
from safetensors.torch import load_file

pytest.importorskip("deepspeed", reason="needs the extra deepspeed")
pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed compiles with g++ on a CPU"),
]
RULES = {
    "untouched": lambda module: module.zero_grad(set_to_none=True),
    "zeros": lambda module: module.zero_grad(set_to_none=False),
    "stale": lambda module: None,
}
"""What can become of the gradient of a module that took no part; `untouched` is right."""
FACTS = {1: "zeros", 2: "zeros", 3: "stale"}


@pytest.fixture(scope="module")
def deepspeed_alone(tmp_path_factory):
    """What DeepSpeed came to, in one launch."""
    path = tmp_path_factory.mktemp("canary") / "found.safetensors"
    program = str(ROOT / "tests" / "canary_program.py")
    result = torchrun(1, program, str(path), limit=120, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 0, result.stderr
    return load_file(path)


@pytest.fixture(scope="module")
def rules():
    """The weights of each rule, by plain torch."""
    weights = {name: simulated(rule) for name, rule in RULES.items()}
    return {name: torch.cat([w.flatten() for w in each.values()]) for name, each in weights.items()}


def test_the_rules_can_be_told_apart(rules):
    for name, other in (("untouched", "zeros"), ("untouched", "stale"), ("zeros", "stale")):
        assert (rules[name] - rules[other]).abs().max() > 1e-3


@pytest.mark.parametrize("stage", STAGES)
def test_a_module_that_took_no_part_is_stepped_in_one_engine(deepspeed_alone, rules, stage):
    """ZeRO-1 and 2 step it on zeros (moments decay, weights drift), ZeRO-3 on its last gradient
    again. Two engines, one for each network, are there for this alone."""
    names = simulated(RULES["untouched"])
    weights = torch.cat([deepspeed_alone[f"{stage}.{name}"] for name in names])
    errors = {name: (weights - each).abs().max().item() for name, each in rules.items()}
    matches = [name for name, error in errors.items() if error < 1e-6]
    assert matches == [FACTS[stage]], (
        f"DeepSpeed has changed: under ZeRO-{stage} a module that takes part in the first of N "
        f"iterations followed the rule {FACTS[stage]!r} so far, and now {matches or 'none'} "
        f"(largest differences: {errors}). Where all stages follow 'untouched', consider whether "
        "train/engine.py still needs an engine for each network, and correct what README says."
    )


@pytest.mark.parametrize("stage", STAGES)
def test_deepspeed_clips_to_1_where_nothing_is_said(deepspeed_alone, stage):
    step = deepspeed_alone[f"step{stage}"].item()
    assert step == pytest.approx(1.0, rel=1e-4), (
        f"DeepSpeed has changed: without gradient_clipping in its settings, a gradient of norm 100 "
        f"makes a step of {step} instead of 1. Consider whether `zero_settings` in train/engine.py "
        "must still set it to 0, and correct what README and the launch files say."
    )
