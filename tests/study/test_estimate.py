"""Estimates are sums of what was measured, counted as a training counts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from study.made_results import study_of
from toy import write_recordings

from sptmod_dist.errors import UserError
from sptmod_dist.study import children
from sptmod_dist.study.estimate import Audio, audio_of, estimate, shards_bytes
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.grid import trainings_of
from sptmod_dist.study.machine import Gpu, Machine
from sptmod_dist.study.plan import in_words, make_plan, read_plan
from sptmod_dist.study.study_file import read_study

MEASURED = {
    "first": 2.0, "later": 0.5, "warm_up": 10.0, "validation": 3.0, "checkpoint": 0.25,
    "parameters": 1000, "gpu_memory": 0.0, "memory": 1e9,
}  # fmt: skip


def test_time_is_groups_and_validations(tmp_path: Path) -> None:
    study = read_study(study_of(tmp_path))
    training = next(t for t in trainings_of(study) if t.id == "toy-N2-B2-L64-fold0-seed0")
    sequences = 7
    samples = 2 * 64 * sequences + 500  # a lookback, and a rest that fills no sequence
    has = Audio((samples,), (1000, 1000), (1000,))
    config = training.config
    plan = config.model.plan(64)
    count = (samples - plan.target_start) // 128
    epoch = count // 2 * 2  # iterations
    apart = -(-4 // epoch) * epoch
    validations = -(-12 // apart)
    found = estimate(study, config, has, MEASURED)
    groups = 6 * (2.0 + 0.5)
    assert found.iterations == 12 and found.per_iteration == 1.25
    assert found.seconds == pytest.approx(3.5 + 10 + groups + validations * (2 * 3.0 + 0.5) + 3.0)
    fewer = replace(study, expected_iterations=2, evaluate=False)
    assert estimate(fewer, config, has, MEASURED).seconds == pytest.approx(3.5 + 10 + 2.5 + 6.5)


def test_recordings_in_memory_count(tmp_path: Path) -> None:
    study = read_study(study_of(tmp_path))
    config = trainings_of(study)[0].config
    has = Audio((10_000_000,), (1000,), ())
    plain = estimate(study, config, has, MEASURED)
    ram = replace(config, data=replace(config.data, resident="ram"))
    assert estimate(study, ram, has, MEASURED).memory - plain.memory == 4 * 2 * 10_000_000
    device = replace(config, data=replace(config.data, resident="device"))
    on_gpu = estimate(study, device, has, MEASURED | {"gpu_memory": 1e9})
    assert on_gpu.memory == plain.memory and on_gpu.gpu_memory == 1e9 + 4 * 2 * 10_000_000


def test_a_plan_measures_each_shape_once_and_foresees_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sptmod_dist.study.calibrate.ENOUGH", 0.0)
    write_recordings(tmp_path / "recordings")
    study = read_study(study_of(tmp_path, grid={"B": [2, 4], "L": [64]}))
    trainings, said = trainings_of(study), list[str]()
    StudyFolder(study).prepare(trainings)
    machine = Machine(2, 1e10, ())
    plan = make_plan(study, trainings, machine, None, said.append)
    assert [line.split(":")[0] for line in said] == [f"measuring shape {k} of 2" for k in (1, 2)]
    make_plan(study, trainings, machine, None, said.append)
    assert len(said) == 2 and read_plan(StudyFolder(study)) == plan.estimates
    assert len(plan.estimates) == 6 and plan.jobs == 2
    assert all(e.seconds > 0 and e.memory > 1e8 for e in plan.estimates.values())
    assert plan.shards == 3 * 7 * 1500 * 2 * 4  # folds, items, samples, channels, bytes
    assert "6 trainings: 2 configurations" in in_words(trainings, plan)
    tight = Machine(64, 2.5 * max(e.memory for e in plan.estimates.values()), ())
    assert make_plan(study, trainings, tight, None, said.append).jobs == 2
    gpus = tuple(Gpu(str(k), "one", 1e9) for k in range(2))
    some = {name: replace(e, gpu_memory=4e8) for name, e in plan.estimates.items()}
    monkeypatch.setattr("sptmod_dist.study.plan.estimate", lambda *_: next(iter(some.values())))
    monkeypatch.setattr("sptmod_dist.study.estimate.Calibration.measure", lambda *_: MEASURED)
    assert make_plan(study, trainings, Machine(64, 1e12, gpus), None, said.append).jobs == 4


def test_shards_are_counted_once_a_fold(tmp_path: Path) -> None:
    study = read_study(study_of(tmp_path))
    has = Audio((100,), (10,), (5,))
    assert shards_bytes(trainings_of(study), lambda dataset, fold: has) == 3 * 115 * 2 * 4


def test_missing_recordings_and_other_controls_are_refused(tmp_path: Path) -> None:
    study = read_study(study_of(tmp_path))
    first = trainings_of(study)[0]
    with pytest.raises(UserError, match="manifest.yaml: cannot be read"):
        audio_of(study, first, 0)
    write_recordings(tmp_path / "recordings")
    assert audio_of(study, first, 0).train == (1500,) * 3


def test_a_child_answers_or_its_end_is_told() -> None:
    assert children.ask(lambda: {"a": 1})["a"] == 1
    assert children.ask(lambda: {})["memory"] > 1e6

    def refuse() -> dict[str, object]:
        raise UserError("it cannot be")

    with pytest.raises(UserError, match="^it cannot be$"):
        children.ask(refuse)
    with pytest.raises(UserError, match="killed by SIGKILL: was it out of memory"):
        children.ask(lambda: os.kill(os.getpid(), 9) or {})  # type: ignore[func-returns-value]
    with pytest.raises(UserError, match="ended with code 70"):
        children.ask(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
