"""The engine on one process: the original's optimizer steps, and what ranks say to each other."""

from __future__ import annotations

import pytest
import torch
from traces import NAMES, read_trace

from sptmod_dist.errors import UserError
from sptmod_dist.model import load_reference
from sptmod_dist.model.reference import named_reference_parameters
from sptmod_dist.tbptt import Schedule, forward
from sptmod_dist.train.config import DistributedConfig, OptimizerConfig
from sptmod_dist.train.engine import Engine


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    engine.close()


@pytest.mark.parametrize("name", NAMES)
def test_two_optimizers_and_a_cut_backward_pass_train_as_the_original_does(engine, name):
    trace = read_trace(name)
    effect, spn = load_reference(trace.config, trace.under("weights/"))
    engine.wrap(effect, spn, OptimizerConfig())
    schedule = Schedule(effect.config, trace.lengths)
    for g in range(4):
        x, y, controls = (trace.tensor(f"group{g}/{key}") for key in ("x", "y", "controls"))
        state = None
        for sub in schedule.split(x, y, controls):
            step = forward(engine.effect, engine.spn, sub, state)
            engine.backward((step.prediction - sub.target).abs().mean(), step.seam)
            norms = engine.step(5e-4)
            assert norms[0] > 0 and bool(norms[1] > 0) == (sub.is_first and spn is not None)
            state = step.state.detach()
    parameters, compared = dict(named_reference_parameters(effect, spn)), 0
    for key, value in trace.under("final/").items():
        if key in parameters:
            ours = parameters[key].detach().reshape(value.shape)
            torch.testing.assert_close(ours, value, atol=1e-6, rtol=0, msg=key)
            compared += 1
    assert compared == len(parameters)


def test_an_spn_that_took_no_part_keeps_its_moments_and_its_step_count(engine):
    trace = read_trace("lstm_conditioned")
    effect, spn = load_reference(trace.config, trace.under("weights/"))
    engine.wrap(effect, spn, OptimizerConfig())
    schedule = Schedule(effect.config, trace.lengths)
    x, y, controls = (trace.tensor(f"group0/{key}") for key in ("x", "y", "controls"))
    state, exports = None, []
    for sub in schedule.split(x, y, controls):
        step = forward(engine.effect, engine.spn, sub, state)
        engine.backward((step.prediction - sub.target).abs().mean(), step.seam)
        engine.step(5e-4)
        state = step.state.detach()
        weights, moments, _ = engine.export()
        exports.append({k: v.clone() for k, v in (weights | moments).items() if k[:4] == "spn."})
    assert {v.item() for k, v in exports[0].items() if k.endswith(".step")} == {1.0}
    for later in exports[1:]:
        assert all(torch.equal(later[key], value) for key, value in exports[0].items())


def test_a_refusal_keeps_its_sentence(engine):
    def refuse():
        raise UserError("this file is wrong")

    for spread in (engine.together, engine.on_main):
        with pytest.raises(UserError, match="^this file is wrong$"):
            spread(refuse)
        assert spread(lambda: 7) == 7
    with pytest.raises(UserError, match="^this file is wrong$"):
        engine.agree("epoch 0", UserError("this file is wrong"))
    engine.agree("epoch 0")


def test_another_number_of_processes_than_asked_for_is_refused():
    with pytest.raises(UserError, match="asks for 3 processes, but 1 were launched"):
        Engine(DistributedConfig(processes=3))
