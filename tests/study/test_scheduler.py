"""Which training a worker takes, when there is room for it, and when it gives one up."""

from __future__ import annotations

from pathlib import Path

import pytest
from study.made_results import study_of

from sptmod_dist.study.children import Ended
from sptmod_dist.study.claims import Claim, attempts, claim
from sptmod_dist.study.estimate import Estimate
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.grid import Training, trainings_of
from sptmod_dist.study.machine import Gpu, Machine
from sptmod_dist.study.scheduler import KILLS, Child, Worker
from sptmod_dist.study.study_file import read_study

GB = 1e9


def needs(seconds: float, memory: float = GB, gpu_memory: float = 0.0) -> Estimate:
    return Estimate(100, seconds, 0.1, memory, gpu_memory, 1e6)


class World:
    """A worker that starts nothing: what it would start is noted."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        grid = {"B": [2, 4, 6, 8, 10], "L": [64]}
        self.study = read_study(study_of(folder, grid=grid, splits="given"))
        self.trainings = trainings_of(self.study)
        self.folder = StudyFolder(self.study)
        self.folder.prepare(self.trainings)
        self.begun: list[tuple[int, str]] = []

        def fork(worker: Worker, training: Training, taken: Claim, gpu: str) -> None:
            self.begun.append((training.config.batch_size, gpu))
            worker._children.append(Child(training, taken, 1, gpu, 0.0))

        patch.setattr(Worker, "_fork", fork)

    def worker(self, estimates: list[Estimate | None], machine: Machine, jobs: int) -> Worker:
        each = zip(self.trainings, estimates, strict=True)
        known = {training.id: found for training, found in each if found}
        return Worker(self.study, self.trainings, known, machine, jobs, say=lambda line: None)

    def fill(self, worker: Worker) -> list[tuple[int, str]]:
        """What is begun until no more has room."""
        self.begun.clear()
        while worker._start():
            pass
        return list(self.begun)

    def end(self, worker: Worker, batch: int) -> None:
        child = next(c for c in worker._children if c.training.config.batch_size == batch)
        worker._children.remove(child)
        child.claim.end("finished", 0)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_the_longest_goes_first_and_no_more_than_asked_at_once(world: World) -> None:
    times = [needs(seconds) for seconds in (3, 5, 1, 4, 2)]
    worker = world.worker(times, Machine(8, 100 * GB, ()), jobs=2)
    assert world.fill(worker) == [(4, ""), (8, "")]
    world.end(worker, 8)
    assert world.fill(worker) == [(2, "")]


def test_what_has_no_room_waits_for_what_has(world: World) -> None:
    sizes = [needs(9, 5 * GB), needs(8, 4 * GB), needs(7, 2 * GB), needs(6, 30 * GB), needs(5)]
    worker = world.worker(sizes, Machine(8, 8 * GB, ()), jobs=5)
    assert world.fill(worker) == [(2, ""), (6, ""), (10, "")]
    for batch in (2, 6, 10):
        world.end(worker, batch)
    assert world.fill(worker) == [(4, "")]
    world.end(worker, 4)
    assert world.fill(worker) == [(8, "")], "alone: the estimate may be wrong"


def test_what_could_not_be_measured_goes_first_and_alone(world: World) -> None:
    some = [needs(9), needs(8), None, needs(7), needs(6)]
    worker = world.worker(some, Machine(8, 100 * GB, ()), jobs=4)
    assert world.fill(worker) == [(6, "")]
    world.end(worker, 6)
    assert world.fill(worker) == [(2, ""), (4, ""), (8, ""), (10, "")]


def test_without_any_estimate_as_many_as_asked_begin(world: World) -> None:
    worker = world.worker([None] * 5, Machine(8, GB, ()), jobs=3)
    assert [batch for batch, _ in world.fill(worker)] == [10, 8, 6]


def test_the_gpu_with_fewest_trainings_that_has_room_is_taken(world: World) -> None:
    gpus = (Gpu("a", "one", 10 * GB), Gpu("b", "one", 10 * GB))
    sizes = [needs(9 - n, GB, size * GB) for n, size in enumerate((6, 6, 3, 5, 3))]
    worker = world.worker(sizes, Machine(8, 100 * GB, gpus), jobs=5)
    assert world.fill(worker) == [(2, "a"), (4, "b"), (6, "a"), (10, "b")]
    world.end(worker, 4)
    assert world.fill(worker) == [(8, "b")]


def killed(worker: Worker, batch: int) -> None:
    """As the system does it to one that takes too much memory."""
    child = next(c for c in worker._children if c.training.config.batch_size == batch)
    worker._children.remove(child)
    worker._conclude(child, Ended(-9, 0.0, 0.0))


def test_one_that_is_killed_again_and_again_has_failed(world: World) -> None:
    worker = world.worker([needs(n) for n in (5, 1, 1, 1, 1)], Machine(8, 9 * GB, ()), jobs=1)
    for _ in range(KILLS):
        assert world.fill(worker) == [(2, "")]
        killed(worker, 2)
    result = world.folder.result(world.trainings[0].id)
    assert result is not None and result.state == "failed"
    assert "SIGKILL" in result.why and f"({KILLS} times in a row)" in result.why
    assert result.attempts == KILLS
    assert world.fill(worker)[0][0] != 2


def test_one_that_takes_its_worker_along_fails_too(world: World) -> None:
    name, machine = world.trainings[0].id, Machine(8, 9 * GB, ())
    times = [needs(n) for n in (5, 1, 1, 1, 1)]
    for _ in range(KILLS):  # a worker that is killed says nothing
        worker = world.worker(times, machine, jobs=1)
        assert world.fill(worker) == [(2, "")]
        worker._children[0].claim.release()
    assert world.fill(world.worker(times, machine, jobs=1))[0][0] != 2
    result = world.folder.result(name)
    assert result is not None and result.state == "failed" and "with its worker" in result.why
    assert len(attempts(world.folder.state(name))) == KILLS + 1


def test_one_that_gets_further_between_has_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, at = [needs(n) for n in (5, 1, 1, 1, 1)], iter(range(10, 1000, 10))
    for _ in range(2 * KILLS):
        now = next(at)
        monkeypatch.setattr(Worker, "_iteration", lambda worker, name, now=now: now)
        worker = world.worker(times, Machine(8, 9 * GB, ()), jobs=1)
        assert world.fill(worker) == [(2, "")]
        worker._children[0].claim.release()


def test_stops_are_no_kills(world: World) -> None:
    times = [needs(n) for n in (5, 1, 1, 1, 1)]
    for _ in range(2 * KILLS):
        worker = world.worker(times, Machine(8, 9 * GB, ()), jobs=1)
        assert world.fill(worker) == [(2, "")]
        worker._children[0].claim.end("stopped", 0)


def test_what_another_worker_has_is_left_to_it(world: World) -> None:
    taken = claim(world.folder.state(world.trainings[0].id))
    assert taken is not None
    worker = world.worker([needs(n) for n in (5, 4, 3, 2, 1)], Machine(8, 9 * GB, ()), jobs=2)
    assert world.fill(worker) == [(4, ""), (6, "")]
    taken.end("finished", 0)
