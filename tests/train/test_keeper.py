"""When checkpoints are written, and what becomes of those that a full disk does not take."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.config import CheckpointConfig
from sptmod_dist.train.keeper import RETRY, Keeper
from sptmod_dist.train.run_folder import RunError, RunFolder

PROGRESS = {"iteration": 18, "epoch": 1, "best_iteration": 9, "best": 0.5}


class World:
    """A keeper whose clock and disk are ours."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, **config: Any) -> None:
        self.now, self.is_full, self.cost, self.said = 1000.0, False, 0.0, []
        self.run = RunFolder(folder)
        save = checkpoint.save

        def saving(*arguments: Any) -> Path:
            self.now += self.cost
            if self.is_full:
                raise OSError(28, "No space left on device")
            return save(*arguments)

        patch.setattr("time.monotonic", lambda: self.now)
        patch.setattr(checkpoint, "save", saving)
        told = self.said.append
        self.keeper = Keeper(self.run, CheckpointConfig(**config), 3600.0, 2, told)

    def after(self, seconds: float, at_epoch_end: bool = False) -> bool:
        self.now += seconds
        return self.keeper.is_due(at_epoch_end)

    def write(self, kind: str, iteration: int) -> None:
        state = {"progress": {"iteration": iteration}, "config": {}, "data": {}}
        saved = Checkpoint({"effect.a": torch.full((2,), float(iteration))}, {}, state)
        self.keeper.write(kind, iteration, saved)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.run.checkpoints.glob("[a-z]*"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch, minutes=10, keep=2)


def test_a_checkpoint_is_due_after_the_minutes(world: World) -> None:
    assert not world.after(599) and world.after(2)
    world.write("step", 1)
    assert not world.after(599) and world.after(2)


def test_an_epochs_end_is_taken_where_that_costs_less_than_a_hundredth(world: World) -> None:
    world.cost = 2.0
    world.write("step", 1)
    assert not world.after(199, at_epoch_end=True)
    assert not world.after(2, at_epoch_end=False)
    assert world.after(0, at_epoch_end=True)


def test_groups_count_from_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch, minutes=10, groups=3)
    assert [world.after(0) for _ in range(3)] == [False, False, True]
    world.write("step", 1)
    assert [world.after(0) for _ in range(3)] == [False, False, True]


def test_a_full_disk_is_tried_again_sooner_than_the_minutes(world: World) -> None:
    world.write("step", 1)
    world.is_full = True
    world.write("step", 2)
    assert "not written: step-00000002" in world.said[-1] and "No space" in world.said[-1]
    assert not world.after(RETRY - 1) and world.after(2)
    assert world.names == ["step-00000001"]
    world.is_full = False
    world.write("step", 3)
    assert world.names == ["step-00000001", "step-00000003"], "the one that was held is outdated"
    assert not world.after(599) and world.after(2)


@pytest.mark.parametrize("kind", ["best", "epoch"])
def test_what_comes_once_is_held_until_the_disk_takes_it(world: World, kind: str) -> None:
    world.is_full = True
    world.write(kind, 5)
    world.write("step", 5)
    world.is_full = False
    world.write("step", 8)
    assert world.names == [f"{kind}-00000005", "step-00000008"]
    held = checkpoint.load(world.run.checkpoints / f"{kind}-00000005")
    assert held.weights["effect.a"].tolist() == [5.0, 5.0]


def test_of_best_ones_that_are_held_the_latest_counts_and_of_epochs_all(world: World) -> None:
    world.is_full = True
    for kind, iteration in (("best", 1), ("epoch", 1), ("best", 2), ("epoch", 2)):
        world.write(kind, iteration)
    world.is_full = False
    world.keeper.settle()
    assert world.names == ["best-00000002", "epoch-00000001", "epoch-00000002"]


def test_a_training_is_not_finished_while_its_end_is_on_no_disk(world: World) -> None:
    world.is_full = True
    world.write("best", 7)
    with pytest.raises(RunError, match="best-00000007 could not be written .*No space"):
        world.keeper.settle()
    world.is_full = False
    world.keeper.settle()
    assert world.names == ["best-00000007"]


def test_what_cannot_be_removed_is_told_as_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint, "remove", failing)
    for iteration in (1, 2, 3):
        world.write("step", iteration)
    assert len(world.names) == 3
    assert world.said == [
        "a checkpoint that has had its time cannot be removed ([Errno 13] Permission denied)"
    ]


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_a_lock_that_cannot_be_looked_at_ends_no_training(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing(*_: object) -> bool:
        raise OSError(number, os.strerror(number))

    world.run.lock.take()
    monkeypatch.setattr(os.path, "samestat", failing)
    world.keeper.status("running", PROGRESS)
    monkeypatch.undo()
    assert world.run.status() is None
    assert bool(world.said) == (number != errno.ESTALE)
    world.keeper.status("running", PROGRESS)
    assert world.run.status()["state"] == "running"
    world.run.lock.release()


def test_a_run_that_stops_on_a_full_disk_says_what_is_missing(world: World) -> None:
    world.is_full = True
    world.write("step", 18)
    world.keeper.status("preempted", PROGRESS)
    assert world.run.status()["why"] == "step-00000018 not written"


def test_seconds_count_earlier_starts(world: World) -> None:
    world.now += 60
    assert world.keeper.seconds == 3660.0
