"""The learning rate of each iteration."""

from __future__ import annotations

import pytest

from sptmod_dist.train.config import OptimizerConfig, ScheduleConfig
from sptmod_dist.train.schedule import learning_rate


def rates(n: int, reductions: int = 0, **schedule) -> list[float]:
    config = OptimizerConfig(learning_rate=2.0, schedule=ScheduleConfig(**schedule))
    return [learning_rate(config, iteration, reductions) for iteration in range(n)]


def test_a_constant_rate_is_constant():
    assert rates(5) == [2.0] * 5


@pytest.mark.parametrize("kind", ["constant", "cosine", "plateau"])
def test_a_warm_up_rises_in_a_line_to_the_rate_and_never_stands_at_zero(kind):
    found = rates(6, kind=kind, warmup=4, iterations=1000)
    assert found[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0], rel=1e-5)


def test_half_a_cosine_goes_from_the_rate_over_its_middle_to_the_final_share():
    found = rates(40, kind="cosine", warmup=10, iterations=30, final=0.1)
    assert found[10] == 2.0 and found[20] == pytest.approx(1.1)
    assert found[30:] == pytest.approx([0.2] * 10)
    assert all(a > b for a, b in zip(found[10:30], found[11:31], strict=True))


def test_each_plateau_lowers_the_rate_by_the_factor_until_the_final_share():
    shares = [rates(1, n, kind="plateau", factor=0.5, final=0.2)[0] / 2 for n in range(4)]
    assert shares == [1.0, 0.5, 0.25, 0.2]
    assert rates(1, 3) == [2.0], "other kinds have no plateaus"
