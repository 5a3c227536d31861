"""One process or two: the same training. Every launch is a real one over gloo, limited in time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from processes import ROOT, torchrun
from safetensors.torch import load_file
from toy import make_toy, toy_config
from variants import STATES, VARIANTS

from sptmod_dist.model import SPTMod, StatePredictionNetwork
from sptmod_dist.train import checkpoint
from sptmod_dist.train.main import train
from sptmod_dist.train.run_folder import RunFolder

pytestmark = pytest.mark.timeout(300)  # all variants train twice before the first test
PROGRAM = str(ROOT / "tests" / "rank_program.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All variants trained on one process and on two."""
    folder = tmp_path_factory.mktemp("parity")
    make_toy(folder)
    for name, changes in VARIANTS.items():
        train(toy_config(folder, **changes, name=f"{name}-1"))
    result = torchrun(2, PROGRAM, str(folder), "states", *VARIANTS, limit=200)
    assert result.returncode == 0, result.stderr
    return folder


def last(folder: Path, name: str, processes: int) -> checkpoint.Checkpoint:
    return RunFolder(folder / "runs" / f"{name}-{processes}").last_checkpoint()[1]


def losses(folder: Path, name: str, processes: int) -> list[dict]:
    text = (folder / "runs" / f"{name}-{processes}" / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def largest_difference(a: dict, b: dict) -> float:
    assert set(a) == set(b)
    return max((a[key] - b[key]).abs().max().item() for key in a)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.endswith("float64")])
def test_in_float64_weights_moments_and_losses_agree_to_1e_12(folder, name):
    one, two = (last(folder, name, n) for n in (1, 2))
    assert one.state["progress"]["iteration"] == two.state["progress"]["iteration"] == 12
    assert largest_difference(one.weights, two.weights) <= 1e-12
    assert largest_difference(one.moments, two.moments) <= 1e-12
    assert any(key.endswith("exp_avg") and value.any() for key, value in one.moments.items())
    for a, b in zip(losses(folder, name, 1), losses(folder, name, 2), strict=True):
        for way in ("wt", "st", "st_whole"):
            assert a[way] == pytest.approx(b[way], abs=1e-12, rel=1e-12)


def initial_weights(config) -> dict[str, torch.Tensor]:
    torch.manual_seed(config.seed)
    nets = {"effect": SPTMod(config.model), "spn": StatePredictionNetwork(config.model)}
    return {f"{n}.{k}": p.detach() for n, net in nets.items() for k, p in net.named_parameters()}


def norm(weights: dict[str, torch.Tensor]) -> float:
    return torch.cat([w.flatten() for w in weights.values()]).norm().item()


@pytest.mark.parametrize(("name", "bound"), [("lstm-float32", 2e-3), ("average-float32", 2e-3)])
def test_in_float32_the_difference_is_small_beside_the_way_that_the_weights_went(
    folder, name, bound
):
    one, two = (last(folder, name, n).weights for n in (1, 2))
    start = initial_weights(toy_config(folder, **VARIANTS[name]))
    way = norm({key: one[key] - start[key] for key in one})
    assert way > 0.1
    assert norm({key: two[key] - one[key] for key in one}) / way <= bound


def test_with_average_pooling_float32_weights_agree_to_1e_6(folder):
    one, two = (last(folder, "average-float32", n).weights for n in (1, 2))
    assert largest_difference(one, two) <= 1e-6


def test_the_loss_at_every_record_agrees(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = []
    for n in (1, 2):
        events = EventAccumulator(str(folder / "runs" / f"lstm-float32-{n}" / "tensorboard"))
        events.Reload()
        curves.append({
            tag: [(e.step, e.value) for e in events.Scalars(tag)]
            for tag in events.Tags()["scalars"] if tag.startswith("train")
        })
    assert len(curves[0]["train/total"]) == 4 and set(curves[0]) == set(curves[1])
    for tag, points in curves[0].items():
        for (step, value), (other_step, other) in zip(points, curves[1][tag], strict=True):
            assert step == other_step and other == pytest.approx(value, rel=1e-5)


def test_ranks_at_different_groups_stop_with_both_positions(tmp_path):
    result = torchrun(2, PROGRAM, str(tmp_path), "desync", limit=60)
    assert result.returncode != 0
    assert "rank 0 is at epoch 3, group 8, rank 1 at epoch 3, group 9" in result.stderr


def test_each_ranks_states_are_its_own(folder):
    """Ranks get different audio; a broadcast of rank 0's buffers would show in every later part."""
    from rank_program import predictions

    from sptmod_dist.train.engine import Engine

    engine = Engine()
    predictions(engine, folder)
    engine.close()
    whole = load_file(folder / "states-1-0.safetensors")
    ranks = [load_file(folder / f"states-2-{r}.safetensors") for r in (0, 1)]
    assert STATES.n_blocks and len(whole) == 6
    for key, value in whole.items():
        together = torch.cat([rank[key] for rank in ranks])
        torch.testing.assert_close(together, value, atol=1e-12, rtol=0)
        assert (ranks[0][key] - ranks[1][key]).abs().max() > 1e-3, "the ranks' audio must differ"
