"""Slices, clipping, averages and the way back, on one process."""

from __future__ import annotations

import pytest
import torch
from parity import largest
from torch import nn
from toy import make_toy, toy_config
from variants import EXACT, also

from sptmod_dist.train.config import DistributedConfig, OptimizerConfig
from sptmod_dist.train.engine import Engine
from sptmod_dist.train.main import train
from sptmod_dist.train.run_folder import RunFolder

SLICED = {
    "micro-batches": {"micro_batches": 2},
    "a-row-each": {"micro_batches": 8},
    "virtual-shards": {"virtual_shards": 4},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four groups of whole batches, with dropout and an average; nothing hides a scale."""
    folder = tmp_path_factory.mktemp("slices")
    train(make_toy(folder, **options(name="whole")))
    return folder


def options(**changes):
    optimizer = {"average": 0.9}
    spn = {"model": {"spn": {"dropout": 0.3}}}
    return also(EXACT, {"batch_size": 8, "optimizer": optimizer}, spn, changes)


@pytest.mark.parametrize("name", SLICED)
def test_slices_train_as_the_whole_batch_does(whole, name):
    train(toy_config(whole, **options(name=name, distributed=SLICED[name])))
    one, other = (RunFolder(whole / "runs" / n).last_checkpoint()[1] for n in ("whole", name))
    for kind in ("weights", "averages"):
        assert largest(getattr(one, kind), getattr(other, kind)) <= 1e-12
    for key, value in one.moments.items():  # Adam does not feel a scale, its moments do
        torch.testing.assert_close(other.moments[key], value, rtol=1e-9, atol=1e-12)
    assert one.state["progress"]["best"] == pytest.approx(other.state["progress"]["best"], 1e-12)


@pytest.fixture
def engine():
    engine = Engine(DistributedConfig())
    yield engine
    engine.close()


def two_networks():
    torch.manual_seed(0)
    return nn.Linear(3, 4).double(), nn.Linear(2, 3).double()


def learn(engine, scale=1.0, rate=0.1):
    """One iteration in which both learn, through the seam."""
    states = engine.spn(torch.ones(5, 2, dtype=torch.float64))
    leaf = states.detach().requires_grad_()
    engine.backward(scale * engine.effect(leaf).square().sum(), (states, leaf))
    return engine.step(rate)


def test_each_network_is_clipped_by_its_own_norm(engine):
    bound = 0.01
    effect, spn = two_networks()
    engine.wrap(effect, spn, OptimizerConfig(clip_norm=bound))
    norms = learn(engine)
    moments = engine.export()[1]
    for name, norm in zip(("effect", "spn"), norms, strict=True):
        first = [v for k, v in moments.items() if k.startswith(name) and k.endswith("exp_avg")]
        # After one step of Adam its first moment is a tenth of the gradient.
        taken = 10 * torch.cat([value.flatten() for value in first]).norm()
        assert norm > bound and taken == pytest.approx(bound, rel=1e-5)


def test_without_a_bound_nothing_is_clipped(engine):
    effect, spn = two_networks()
    engine.wrap(effect, spn, OptimizerConfig())
    norms = learn(engine, scale=1e6)
    moments = engine.export()[1]
    first = [v for k, v in moments.items() if k.startswith("effect") and k.endswith("exp_avg")]
    assert 10 * torch.cat([value.flatten() for value in first]).norm() == pytest.approx(norms[0])


def test_the_average_follows_the_weights_and_is_what_is_judged(engine):
    effect, spn = two_networks()
    engine.wrap(effect, spn, OptimizerConfig(average=0.75))
    average = engine.export()[0]
    for _ in range(5):
        learn(engine)
        weights, _, averages = engine.export()
        average = {key: 0.75 * average[key] + 0.25 * weights[key] for key in weights}
        assert largest(average, averages) <= 1e-15
    assert largest(averages, weights) > 1e-3
    judged = engine.judged()["effect"].state_dict()
    assert all(torch.equal(judged[key], averages[f"effect.{key}"]) for key in judged)


def test_weight_decay_is_decoupled(engine):
    """A weight without gradient shrinks by rate times decay, and Adam does not see it."""
    effect, spn = two_networks()
    engine.wrap(effect, spn, OptimizerConfig(weight_decay=0.5))
    before = engine.export()[0]
    states = engine.spn(torch.zeros(1, 2, dtype=torch.float64))
    leaf = states.detach().requires_grad_()
    engine.backward(0 * engine.effect(leaf).sum(), (states, leaf))
    engine.step(0.1)
    after = engine.export()[0]
    assert all(torch.allclose(after[key], 0.95 * before[key], rtol=1e-12) for key in before)


def test_going_back_undoes_weights_moments_and_averages(engine):
    engine.wrap(*two_networks(), OptimizerConfig(average=0.9))
    for steps in range(2):  # from the very start, and from the middle
        engine.remember()
        before = engine.export()
        for _ in range(3):
            learn(engine)
        learned = engine.export()
        engine.go_back()
        after = engine.export()
        for kind in range(3):
            assert largest(before[kind], after[kind]) == 0 < largest(before[kind], learned[kind])
        for _ in range(3):
            learn(engine)
        for one, again in zip(learned, engine.export(), strict=True):
            assert largest(one, again) == 0, f"learned otherwise after {steps} rounds"


def test_what_is_exported_does_not_change_with_the_training(engine):
    engine.wrap(*two_networks(), OptimizerConfig(average=0.9))
    exported = engine.export()
    copies = [{key: value.clone() for key, value in part.items()} for part in exported]
    learn(engine)
    assert all(largest(a, b) == 0 for a, b in zip(exported, copies, strict=True))
