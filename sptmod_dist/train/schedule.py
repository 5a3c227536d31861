"""The learning rate of each iteration: a pure function of settings and progress.

Iterations are ours, counted over all groups; nothing here is stepped, so no number of processes or
resumes can step it twice.
"""

from __future__ import annotations

import math

from sptmod_dist.train.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, iteration: int, reductions: int) -> float:
    """The rate of one iteration.

    Args:
        iteration: how many came before it.
        reductions: how many plateaus there were.
    """
    schedule = config.schedule
    share = 1.0
    if schedule.kind == "plateau":
        share = max(schedule.factor**reductions, schedule.final)
    elif schedule.kind == "cosine":
        assert schedule.iterations is not None
        way = (iteration - schedule.warmup) / (schedule.iterations - schedule.warmup)
        fall = (1 + math.cos(math.pi * min(max(way, 0.0), 1.0))) / 2
        share = schedule.final + (1 - schedule.final) * fall
    warm = min((iteration + 1) / (schedule.warmup + 1), 1.0)
    return config.learning_rate * share * warm
