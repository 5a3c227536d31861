"""Both networks under bfloat16 autocast: what is rounded to 8 bits, and what never is.

Rounded are convolutions and the signal at their rate. Audio, states, tails, what the controls make
and every gradient keep the weights' dtype. Relative errors measured over all these models, at most:
audio 5e-4, recurrent states 1.1e-3, predicted states 2.3e-3; streamed against whole 2e-7.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from models import LSTM, MODELS, batch
from torch.nn.functional import cosine_similarity

from sptmod_dist.losses import Loss, LossConfig
from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.model.layers import FiLM, upsample
from sptmod_dist.tbptt import Schedule, forward, spn_loss

ALL = MODELS | {
    "lstm_average": replace(LSTM, pooling_type="average"),
    "gru_maximum": replace(LSTM, rnn_cell="GRU"),
}
everywhere = pytest.mark.parametrize("name", ALL)
LENGTHS = (2048, 1024)


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


def networks(config):
    torch.manual_seed(1)
    return SPTMod(config), StatePredictionNetwork(config) if config.spn else None


def group(config, context=nullcontext, learn=None):
    """The steps of one group, each forward pass within `context`; `learn` sees each."""
    effect, spn = networks(config)
    schedule, state, steps = Schedule(config, LENGTHS), None, []
    for sub in schedule.split(*batch(config, schedule.sequence_length)):
        with context():
            step = forward(effect, spn, sub, state)
        state = step.state.detach()
        steps.append(step)
        if learn:
            learn(effect, spn, step, sub)
    return steps


def gradients(config, context=nullcontext):
    """For each step, each network's gradients by name, from the real loss."""
    found, loss = [], Loss(LossConfig(windows=(512, 1024)))

    def learn(effect, spn, step, sub):
        effect.zero_grad()
        loss(step.prediction, sub.target).total.backward()
        found.append({key: p.grad.clone() for key, p in effect.named_parameters()})
        if step.seam:
            spn_loss(step.seam).backward()
            found.append({key: p.grad.clone() for key, p in spn.named_parameters()})

    group(config, context, learn)
    return found


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


def cosine(a, b):
    return cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


def fits_into_bfloat16(x):
    return torch.equal(x, x.bfloat16().float())


@everywhere
def test_audio_states_and_tails_keep_the_weights_dtype(name):
    steps = group(ALL[name], autocast)
    for step in steps:
        assert step.prediction.dtype == step.state.rnn.dtype == torch.float32
        assert all(tail.dtype == torch.float32 for tail in step.state.tails)
    if ALL[name].spn:
        states, leaf = steps[0].seam
        assert states.dtype == leaf.dtype == torch.float32


@everywhere
def test_convolutions_and_the_signal_run_in_bfloat16(name):
    config = ALL[name]
    effect, spn = networks(config)
    shrinking = list(spn.blocks) if spn else []
    signals = [*(block.activation for block in (*effect.blocks, *shrinking)), *shrinking]
    seen = []
    for module in signals:
        module.register_forward_hook(lambda _, x, y: seen.append(y))
    x, y, controls = batch(config, 4 * config.pooling_size)
    with autocast():
        _, state = effect(x, controls, state=effect.initial_state(3))
        if spn:
            x, y, _ = batch(config, spn.lookback_length)
            spn(torch.cat([x, y], 1), controls)
    assert len(seen) == len(signals)
    assert all(signal.dtype == torch.bfloat16 for signal in seen)
    later = [tail for tail in state.tails[1:] if tail.numel()]
    assert all(fits_into_bfloat16(tail) for tail in later), "the steered signal is in bfloat16"


@everywhere
def test_no_recurrent_state_was_rounded(name):
    """Also not within: float32 in name only would hold values that bfloat16 can represent."""
    for step in group(ALL[name], autocast):
        assert all(not fits_into_bfloat16(rnn) for rnn in step.state.rnn)
        if step.seam and ALL[name].spn.linear_end:
            assert not fits_into_bfloat16(step.seam[0])


@everywhere
def test_the_recurrence_itself_is_that_of_float32(name):
    """What goes into a recurrent layer gives, without autocast, bit for bit what came out."""
    effect, _ = networks(ALL[name])
    calls = []
    for block in effect.blocks:
        block.rnn.register_forward_hook(lambda rnn, x, y: calls.append((rnn, x, y)))
    x, _, controls = batch(effect.config, 8 * effect.config.pooling_size)
    with autocast(), torch.no_grad():
        effect(x, controls, state=effect.initial_state(3))
    assert len(calls) == len(effect.blocks)
    for rnn, arguments, (frames, _) in list(calls):
        assert frames.dtype == torch.float32
        with torch.no_grad():
            assert torch.equal(rnn(*arguments)[0], frames)


@everywhere
@pytest.mark.parametrize(("gain", "shift"), [(1.0, 0.0), (0.7, 0.01)])
def test_audio_under_a_constant_modulation_is_bit_for_bit_that_of_float32(name, gain, shift):
    config = ALL[name]
    effect, _ = networks(config)
    C = config.input_channels
    with torch.no_grad():
        for block in effect.blocks:
            block.to_audio.weight.zero_()
            block.to_audio.bias.copy_(torch.tensor([gain] * C + [shift] * C))
    x, _, controls = batch(config, 4 * config.pooling_size)
    exact, _ = effect(x, controls, state=effect.initial_state(3))
    with autocast():
        y, _ = effect(x, controls, state=effect.initial_state(3))
    assert torch.equal(y, exact)
    if gain == 1:
        assert torch.equal(y, x[:, :C])


@pytest.mark.parametrize("size", [7, 64, 300])
def test_modulation_between_frames_is_rounded_to_24_bits(size):
    """Gain and shift go in straight lines from frame to frame: 8 bits would make steps of them."""
    config = replace(LSTM, pooling_size=size)
    effect, _ = networks(config)
    modulations = []
    effect.blocks[0].register_forward_hook(lambda _, x, y: modulations.append((x[2], y)))
    x, _, controls = batch(config, 6 * size)
    with autocast():
        effect(x, controls, state=effect.initial_state(3))
    modulation = modulations[0][1][0]
    assert modulation.dtype == torch.float32
    bends = modulation.unflatten(-1, (6, size)).double().diff(n=2).abs().max()
    assert bends < 1e-6  # bfloat16 near 0.1 has steps of 5e-4


@everywhere
def test_what_the_controls_make_is_never_rounded(name):
    def made(context):
        effect, spn = networks(ALL[name])
        values = []
        nets = [m.net for net in (effect, spn) if net for m in net.modules() if isinstance(m, FiLM)]
        for net in [*nets, *([effect.condition] if effect.condition else [])]:
            net.register_forward_hook(lambda _, x, y: values.append(y))
        x, y, controls = batch(effect.config, 64)
        with context():
            effect(x, controls, state=effect.initial_state(3))
            if spn:
                x, y, _ = batch(effect.config, spn.lookback_length)
                spn(torch.cat([x, y], 1), controls)
        return values

    exact, rounded = made(nullcontext), made(autocast)
    assert bool(exact) == bool(ALL[name].n_params)
    assert all(torch.equal(a, b) for a, b in zip(exact, rounded, strict=True))


@pytest.mark.parametrize("size", [64, 100, 1000])
def test_positions_between_frames_are_rounded_once(size):
    frames = torch.tensor([0.0, 1.0]).expand(1, 1, 2)
    exact = upsample(frames, size)
    assert torch.equal(upsample(frames.bfloat16(), size), exact.bfloat16())


@everywhere
def test_the_output_is_close_to_that_of_float32(name):
    for rounded, exact in zip(group(ALL[name], autocast), group(ALL[name]), strict=True):
        assert relative_error(rounded.prediction, exact.prediction) < 2e-3
        assert relative_error(rounded.state.rnn, exact.state.rnn) < 5e-3
        if exact.seam:
            assert relative_error(rounded.seam[0], exact.seam[0]) < 1e-2


@everywhere
@pytest.mark.parametrize("blocks", [(1,) * 12, (5, 7), (2, 1, 3, 6), (11, 1)])
def test_streaming_in_any_blocks_equals_one_pass(name, blocks):
    config = ALL[name]
    (effect, _), P = networks(config), config.pooling_size
    x, _, controls = batch(config, 12 * P)
    with autocast():
        whole, end = effect(x, controls, state=effect.initial_state(3))
        state, parts = effect.initial_state(3), []
        for part in x.split([n * P for n in blocks], dim=-1):
            y, state = effect(part, controls, state=state)
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts, -1), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(state.rnn, end.rnn, atol=1e-4, rtol=0)


@everywhere
def test_gradients_are_float32_and_point_where_those_of_float32_do(name):
    """Each network's as a whole, and each parameter's that has 3 % of its norm.

    Less may turn further: in a fresh SPN max pooling chooses among nearly equal values, where
    rounding decides, so its first convolution's gradient, next to nothing, can point anywhere.
    """
    for rounded, exact in zip(gradients(ALL[name], autocast), gradients(ALL[name]), strict=True):
        assert all(g.dtype == torch.float32 for g in rounded.values())
        assert all(torch.isfinite(g).all() for g in rounded.values())
        whole, whole_exact = (
            torch.cat([g.flatten() for g in grads.values()]) for grads in (rounded, exact)
        )
        assert cosine(whole, whole_exact) > 0.999
        for key, g in exact.items():
            if g.norm() > 0.03 * whole_exact.norm():
                assert cosine(rounded[key], g) > 0.99, key


@pytest.mark.parametrize("context", [nullcontext, autocast])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_losses_are_float32_whatever_the_prediction(dtype, context):
    _, target, _ = batch(LSTM, 4096)
    prediction = (0.9 * target).to(dtype)
    with context():
        terms, none = Loss()(prediction, target), Loss()(prediction, prediction)
    assert all(term.dtype == torch.float32 for term in (*terms, *none))
    assert all(term == 0 for term in none)
    assert terms == Loss()(prediction.float(), target)
