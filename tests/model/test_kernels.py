"""Fast and plain kernels against the definition: outputs, states and gradients of whole groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from models import MODELS
from plain import PlainLoss, PlainSPN, PlainSPTMod
from torch import Tensor, nn

from sptmod_dist.losses import Loss, LossConfig
from sptmod_dist.model import SPTMod, SPTModConfig, kernels, sptmod24, sptmod25
from sptmod_dist.model.kernels import Kernels, is_fast, use_kernels
from sptmod_dist.model.spn import StatePredictionNetwork
from sptmod_dist.tbptt import Schedule, forward, spn_loss

CONFIGS: dict[str, SPTModConfig] = {
    **{name: config for name, config in MODELS.items() if isinstance(config, SPTModConfig)},
    "sptmod24": sptmod24(2),
    "sptmod25": sptmod25(1),
}
SMALL = LossConfig(windows=(8, 16))


@pytest.fixture(autouse=True)
def default_again() -> Iterator[None]:
    yield
    use_kernels("fast")


def run(
    effect: nn.Module, spn: nn.Module | None, loss: Loss, config: SPTModConfig, dtype: torch.dtype
) -> list[Tensor]:
    """Predictions, states, losses and gradients of a group of two."""
    length = 24 * config.frame + 1200 // config.frame * config.frame
    schedule = Schedule(config, [length + 3, length])
    generator = torch.Generator().manual_seed(1)

    def noise(channels: int) -> Tensor:
        shape = (2, channels, schedule.sequence_length)
        return torch.randn(shape, generator=generator, dtype=dtype) / 5

    x, y = noise(config.input_channels + config.sidechain_channels), noise(config.input_channels)
    controls = torch.rand(2, config.n_params, generator=generator, dtype=dtype)
    state, found = None, []
    for sub in schedule.split(x, y, controls):
        step = forward(effect, spn, sub, state)
        terms = loss(step.prediction, sub.target)
        terms.total.backward()
        if step.seam is not None:
            spn_loss(step.seam).backward()
        state = step.state.detach()
        found += [step.prediction.detach(), state.rnn, *state.tails, terms.total.detach()]
    for network in (effect, spn):
        for parameter in network.parameters() if network is not None else ():
            if parameter.grad is not None:
                found.append(parameter.grad)
    effect.zero_grad()
    if spn is not None:
        spn.zero_grad()
    return found


def scale(found: list[Tensor]) -> float:
    """The greatest number in them, 1 at least."""
    return max(1.0, *(each.abs().max().item() for each in found if each.numel()))


@pytest.mark.parametrize("chosen", ["fast", "plain"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_group_is_that_of_the_definition(name: str, chosen: Kernels) -> None:
    """In float64, where all that differs is the order of sums."""
    torch.manual_seed(0)
    config = CONFIGS[name]
    effect = SPTMod(config).double()
    spn = StatePredictionNetwork(config).double() if config.spn else None
    plain = run(
        PlainSPTMod(effect), PlainSPN(spn) if spn else None, PlainLoss(SMALL), config, torch.float64
    )
    use_kernels(chosen)
    ours = run(effect, spn, Loss(SMALL), config, torch.float64)
    assert len(ours) == len(plain) > 10
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10 * scale(plain))


@pytest.mark.parametrize("name", ["sptmod24", "sptmod25"])
def test_in_float32_the_fast_forms_stay_within_1e_6(name: str) -> None:
    torch.manual_seed(0)
    config = CONFIGS[name]
    effect, spn, loss = SPTMod(config), StatePredictionNetwork(config), Loss(SMALL)
    fast = run(effect, spn, loss, config, torch.float32)
    use_kernels("plain")
    plain = run(effect, spn, loss, config, torch.float32)
    for a, b in zip(fast[:2], plain[:2], strict=True):  # prediction and states
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for a, b in zip(fast, plain, strict=True):  # gradients are sums over thousands of samples
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6 * scale(plain))


@pytest.mark.parametrize("name", ["sptmod24", "sptmod25"])
def test_a_row_is_the_same_bits_in_any_batch(name: str) -> None:
    """So that it does not matter over how many processes a batch is spread."""
    torch.manual_seed(0)
    config = CONFIGS[name]
    effect, spn = SPTMod(config), StatePredictionNetwork(config)
    schedule = Schedule(config, [2048, 2048])
    x = torch.randn(4, 1, schedule.sequence_length) / 5
    controls = torch.rand(4, config.n_params)

    def predictions(rows: slice) -> Tensor:
        state, found = None, []
        for sub in schedule.split(x[rows], x[rows] / 2, controls[rows]):
            step = forward(effect, spn, sub, state)
            state = step.state.detach()
            found.append(step.prediction.detach())
        return torch.cat(found, dim=2)

    whole = predictions(slice(0, 4))
    for rows in (slice(0, 2), slice(1, 3), slice(2, 4)):  # torch's own layers differ for one row
        assert torch.equal(predictions(rows), whole[rows])


def test_plain_kernels_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch reaches every fast form: none of them is entered."""
    config = replace(CONFIGS["sptmod25"], n_params=1)
    x = torch.zeros(1)
    assert is_fast(x) and is_fast(x.double()) and not is_fast(x.bfloat16())
    with torch.autocast("cpu"):
        assert not is_fast(x)
    with torch.no_grad():
        assert not is_fast(x) and is_fast(torch.zeros(kernels.LEAST_SAMPLES))
    use_kernels("plain")
    assert not is_fast(x) and kernels._chosen == "plain"

    def entered(*_: object) -> None:
        raise AssertionError("a fast form")

    for place in ("sptmod.steer", "sptmod.activate_and_pool", "spn.pooled_conv", "layers.tap_conv"):
        monkeypatch.setattr(f"sptmod_dist.model.{place}", entered)
    run(SPTMod(config), StatePredictionNetwork(config), Loss(SMALL), config, torch.float32)
    use_kernels("fast")
    with pytest.raises(AssertionError, match="a fast form"):
        run(SPTMod(config), StatePredictionNetwork(config), Loss(SMALL), config, torch.float32)
