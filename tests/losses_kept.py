"""Every iteration's figures of a training, in full precision: what TensorBoard rounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest import MonkeyPatch

from sptmod_dist.losses import LossTerms
from sptmod_dist.train.monitor import Monitor

NAME = "losses.jsonl"


@contextmanager
def keeping_losses(run: Path) -> Iterator[None]:
    """Write a line a group into RUN/losses.jsonl: iteration, rate, terms of each sub-sequence."""
    group = Monitor.group

    def keeping(self, iteration, values, learning_rate):
        if self._is_main:
            terms = values[:, : len(LossTerms._fields)].tolist()
            with open(run / NAME, "a") as file:
                file.write(json.dumps([iteration, learning_rate, terms]) + "\n")
        group(self, iteration, values, learning_rate)

    with MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "group", keeping)
        yield


def rates_of(run: Path) -> list[float]:
    """The learning rate of each group's last iteration."""
    return [json.loads(line)[1] for line in (run / NAME).read_text().splitlines()]


def losses_of(run: Path) -> list[float]:
    """The terms of all iterations in a row."""
    groups = [json.loads(line) for line in (run / NAME).read_text().splitlines()]
    return [value for _, _, terms in groups for row in terms for value in row]
