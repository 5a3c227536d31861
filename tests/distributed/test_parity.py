"""One process, two or four: the same training. Every launch is a real one over gloo."""

from __future__ import annotations

import pytest
import torch
from losses_kept import rates_of
from parity import (
    ONE,
    PROGRAM,
    largest,
    last,
    launch,
    losses,
    moments_apart,
    strayed,
    validations,
    worst_ratio,
)
from poisons import POISONS
from processes import torchrun
from rank_program import predictions
from safetensors.torch import load_file
from tensorboard_events import shown
from variants import IN_FLOAT32, IN_FLOAT64, PLATEAUS, STATES

pytestmark = pytest.mark.timeout(400)  # all variants train before the first test


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.system)])
def ddp(one_process, request):
    """All variants trained on so many processes, and the label of their runs."""
    label = f"ddp{request.param}"
    names = ["states", "poison:skipped", *IN_FLOAT64, *IN_FLOAT32, *PLATEAUS]
    launch(request.param, one_process, label, names)
    return one_process, label


@pytest.mark.parametrize("name", IN_FLOAT64)
def test_in_float64_weights_moments_and_losses_agree_to_1e_12(ddp, name):
    folder, label = ddp
    one, other = last(folder, name, ONE), last(folder, name, label)
    assert one.state["progress"]["iteration"] == other.state["progress"]["iteration"] >= 12
    for kind in ("weights", "moments"):
        assert largest(getattr(one, kind), getattr(other, kind)) <= 1e-12
    if one.averages:
        assert largest(one.averages, other.averages) <= 1e-12
        assert largest(one.averages, one.weights) > 1e-3
    moments = [value for key, value in other.moments.items() if key.endswith("exp_avg")]
    assert all(value.any() for value in moments)
    assert losses(folder, name, label) == pytest.approx(losses(folder, name, ONE), rel=1e-12)
    figures = validations(folder, name, label)
    assert figures == pytest.approx(validations(folder, name, ONE), rel=1e-12)


def test_excerpts_and_figures_are_shown_once_and_as_by_one_process(ddp):
    folder, label = ddp
    one, other = (shown(folder / "runs" / f"lstm-{which}") for which in (ONE, label))
    assert set(one) == set(other) and [step for step, _ in one["excerpt_1/target"]] == [12]
    for tag in one:
        assert [step for step, _ in one[tag]] == [step for step, _ in other[tag]]
        if tag.startswith("excerpt_") and tag.endswith(("input", "target", "prediction")):
            assert one[tag] == other[tag], "the very same audio"
        elif tag.startswith("validation_"):
            assert one[tag][0][1] == pytest.approx(other[tag][0][1], rel=1e-6)


def test_plateaus_of_the_streamed_loss_lower_the_rate_everywhere_alike(ddp):
    folder, label = ddp
    rates = rates_of(folder / "runs" / f"plateaus-{label}")
    assert rates == rates_of(folder / "runs" / f"plateaus-{ONE}")
    shares = [rate / 1e-12 for rate in rates]
    assert shares[::3] == pytest.approx([1, 1, 0.3, 0.09, 0.05])  # an epoch has three groups


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_in_float32_the_difference_is_small_beside_the_way_that_the_weights_went(ddp, name):
    folder, label = ddp
    assert strayed(folder, name, label) <= 2e-3
    one, other = (last(folder, name, which).moments for which in (ONE, label))
    assert moments_apart(one, other) <= 1e-4
    assert worst_ratio(losses(folder, name, ONE), losses(folder, name, label)) <= 1e-5


def test_moments_of_another_scale_would_be_noticed(one_process):
    one = last(one_process, "everything32", ONE).moments
    other = {k: v * 1.1 if k.startswith("spn") and "exp" in k else v for k, v in one.items()}
    assert moments_apart(one, other) > 0.05


@pytest.mark.parametrize("name", ["average32", "everything32"])
def test_with_average_pooling_float32_weights_agree_to_1e_6(ddp, name):
    folder, label = ddp
    assert largest(*(last(folder, name, which).weights for which in (ONE, label))) <= 1e-6


def test_a_group_that_is_not_finite_on_one_rank_is_undone_and_skipped_on_all(ddp):
    folder, label = ddp
    one, other = (last(folder, "skipped", which) for which in (ONE, label))
    assert largest(one.weights, other.weights) <= 1e-6
    assert largest(one.weights, last(folder, "average32", ONE).weights) > 1e-3
    assert one.state["progress"] | {"best": 0} == other.state["progress"] | {"best": 0}
    assert one.state["progress"]["group"] == 5


def test_each_ranks_states_are_its_own(ddp, engine):
    """Ranks get different audio; a broadcast of rank 0's buffers would show in every later part."""
    folder, label = ddp
    predictions(engine, folder)
    whole = load_file(folder / "states-1-0.safetensors")
    n = int(label.removeprefix("ddp"))
    ranks = [load_file(folder / f"states-{n}-{r}.safetensors") for r in range(n)]
    assert STATES.n_blocks and len(whole) == 6
    for key, value in whole.items():
        together = torch.cat([rank[key] for rank in ranks])
        torch.testing.assert_close(together, value, atol=1e-12, rtol=0)
        assert (ranks[0][key] - ranks[1][key]).abs().max() > 1e-3, "the ranks' audio must differ"


@pytest.fixture(scope="module")
def faulty(one_process):
    """Every fault put into a training on two processes."""
    launch(2, one_process, "faulty", [f"poison:{name}" for name in POISONS])
    return one_process


@pytest.mark.parametrize("poison", POISONS)
def test_a_fault_in_the_program_is_noticed(faulty, poison):
    """What the tests above would say of it: far beyond their bounds, in float32 as well."""
    variant = POISONS[poison][0]
    reference = "ratio" if poison == "ratio" else variant
    one, other = last(faulty, reference, ONE), last(faulty, poison, "faulty")
    assert largest(one.weights, other.weights) > 1e-4
    assert strayed(faulty, poison, "faulty", reference) > 2e-3


def test_ranks_at_different_groups_stop_with_both_positions(tmp_path):
    result = torchrun(2, PROGRAM, str(tmp_path), "desync", "desync", limit=60)
    assert result.returncode != 0
    assert "rank 0 is at epoch 3, group 8, rank 1 at epoch 3, group 9" in result.stderr
