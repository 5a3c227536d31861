"""A study's file: what comes out of it, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import ROOT
from study.made_results import MODEL, study_of

from sptmod_dist.errors import UserError
from sptmod_dist.study.folder import StudyFolder
from sptmod_dist.study.grid import trainings_of
from sptmod_dist.study.study_file import read_study
from sptmod_dist.train.config import TrainConfig
from sptmod_dist.train.options import load_config

CONFIGS = ROOT / "launch" / "configs"


def test_the_papers_study_is_57_configurations_of_10_splits_for_2_datasets() -> None:
    study = read_study(CONFIGS / "study_paper.yaml")
    trainings = trainings_of(study)
    assert len(study.points) == 57 and len(trainings) == study.count == 2 * 570
    assert len({t.id for t in trainings}) == 1140
    assert len({t.configuration for t in trainings}) == 2 * 57
    shapes = {(len(t.config.lengths), t.config.batch_size, t.config.lengths[0]) for t in trainings}
    assert len(shapes) == 57 and not {s for s in shapes if s[1:] == (128, 32768)}
    assert {t.config.stopping.patience for t in trainings} == {76_800}
    assert {t.config.optimizer.learning_rate for t in trainings} == {5e-4}
    assert {(t.dataset.name, t.config.model.n_params) for t in trainings} == {
        ("snapshot", 0), ("threshold_ratio", 2)
    }  # fmt: skip
    sets = {(t.dataset.name, t.fold): t.config.data.train for t in trainings}
    assert len({t.config.data.train for t in trainings}) == len(sets) == 20  # one serves 57


@pytest.mark.parametrize("name, count", [("smoke", 24), ("small", 12)])
def test_the_other_studies_can_be_read(name: str, count: int) -> None:
    assert len(trainings_of(read_study(CONFIGS / f"study_{name}.yaml"))) == count


def test_an_id_is_readable_and_a_function_of_its_values_alone(tmp_path: Path) -> None:
    few = trainings_of(read_study(study_of(tmp_path)))
    assert few[0].id == "toy-N1-B2-L64-fold0-seed0"
    assert few[-1].values == {"dataset": "toy", "N": 2, "B": 4, "L": 128, "fold": 2, "seed": 0}
    more = {"N": [3, 2, 1], "L": [128, 64], "B": [4, 8, 2]}
    many = trainings_of(read_study(study_of(tmp_path, grid=more, seeds=[1, 0])))
    assert {t.id: t.config for t in few}.items() <= {t.id: t.config for t in many}.items()


def test_any_setting_can_be_in_the_grid(tmp_path: Path) -> None:
    grid = {"model.hidden_size": [4, 5], "optimizer.learning_rate": [1e-3], "lengths": [[64], [96]]}
    trainings = trainings_of(read_study(study_of(tmp_path, grid=grid, seeds=[7])))
    assert len(trainings) == 2 * 2 * 3
    first = trainings[0]
    name = "toy-lengths=_64_-model.hidden_size=4-optimizer.learning_rate=0.001~"
    assert first.id.startswith(name)
    assert first.config.model.hidden_size == 4  # type: ignore[union-attr]
    assert first.config.lengths == (64,) and first.config.seed == 7
    assert first.config.model.channels == tuple(MODEL["channels"])  # type: ignore[arg-type]


def test_several_grids_are_joined_and_stand_there_once(tmp_path: Path) -> None:
    grids: list[Any] = [{"B": [2], "L": [64]}, {"B": [2, 4], "L": [64]}]
    grids += [{"model.preset": ["tiny", "sptmod25"]}]
    settings = {"lengths": [4096], "model": {"n_params": 1}}
    path = study_of(tmp_path, grid=grids[2:], settings=settings)
    presets = trainings_of(read_study(path))
    assert [t.config.model.n_params for t in presets] == [1] * 6
    assert presets[0].config.model != presets[-1].config.model
    joined = read_study(study_of(tmp_path, grid=grids[:2]))
    assert joined.points == ({"B": 2, "L": 64}, {"B": 4, "L": 64})


def test_settings_go_over_files_and_datasets_over_settings(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump({"model": MODEL, "monitor": {"every": 3}, "name": "base"}))
    settings = {"monitor": {"every": 5}, "loss": {"windows": [16]}, "optimizer": {"average": 0.5}}
    data = {"a": {"manifest": "a.yaml", "settings": {"optimizer": {"average": 0.9}}},
            "b": {"manifest": "b.yaml"}}  # fmt: skip
    path = study_of(tmp_path, config=str(base), settings=settings, datasets=data)
    averages = {t.dataset.name: t.config.optimizer.average for t in trainings_of(read_study(path))}
    assert averages == {"a": 0.9, "b": 0.5}
    assert trainings_of(read_study(path))[0].config.monitor.every == 5


def test_a_trainings_settings_train_by_themselves(tmp_path: Path) -> None:
    study = read_study(study_of(tmp_path))
    trainings, folder = trainings_of(study), StudyFolder(study)
    folder.prepare(trainings)
    path = folder.settings(trainings[3].id)
    assert load_config([path], {}) == trainings[3].config


def test_settings_that_change_under_a_begun_training_are_refused(tmp_path: Path) -> None:
    study = read_study(study_of(tmp_path))
    trainings, folder = trainings_of(study), StudyFolder(study)
    folder.prepare(trainings)
    changed = [replace(t, config=_faster(t.config)) for t in trainings]
    folder.prepare(changed)  # nothing was begun
    folder.run(trainings[1].id).path.mkdir(parents=True)
    with pytest.raises(UserError, match=r"toy-N1-B2-L64-fold1-seed0 was begun.*5e-4|0\.0005"):
        folder.prepare(trainings)


def _faster(config: TrainConfig) -> TrainConfig:
    return replace(config, optimizer=replace(config.optimizer, learning_rate=1e-2))


BOMB = {"A": list(range(1000)), "C": list(range(1000))}
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "another format": ({"format": "sptmod-study-9"}, "format is 'sptmod-study-9'"),
    "a misspelt key": ({"gird": {}}, "'gird': did you mean grid"),
    "no grid": ({"grid": None}, "lacks the key 'grid'"),
    "an empty grid": ({"grid": []}, "grid is empty"),
    "a grid of one value": ({"grid": {"B": 8}}, r"grid.B must be a list"),
    "a value twice": ({"grid": {"B": [8, 8]}}, r"grid.B must be a list of values that differ"),
    "text where a number is": ({"grid": {"B": ["many"]}}, "grid.B is 'many'.*whole number"),
    "true for a number": ({"grid": {"N": [True]}}, "grid.N is True"),
    "no such setting": ({"grid": {"batch_sise": [8]}}, "batch_sise.*batch_size"),
    "no such inner setting": ({"grid": {"model.hiden_size": [8]}}, "model.hidden_size"),
    "a wrong type": ({"grid": {"model.hidden_size": ["a"]}}, "model.hidden_size is 'a'"),
    "a setting of its own": ({"grid": {"seed": [1]}}, "grid.seed is the study's own"),
    "a path for a key": ({"grid": {"../x": [1]}}, "has the key '../x'"),
    "lengths and L": ({"grid": {"L": [64], "lengths": [[64]]}}, "lengths beside N or L"),
    "B and batch_size": ({"grid": {"B": [2], "batch_size": [2]}}, "batch_size beside B"),
    "a bomb": ({"grid": BOMB}, "more than 100000 configurations"),
    "too many trainings": (
        {"grid": {"B": list(range(1, 300))}, "splits": 999}, "are 298701 trainings"),
    "too long sub-sequences": ({"grid": {"N": [2], "L": [72]}}, r"lengths\[1\] is 72.*64 or 80"),
    "too short ones": ({"grid": {"L": [8]}}, "shorter than the loss's longest window"),
    "an exclusion of nothing": ({"exclude": [{"B": 3}]}, r"exclude has \{'B': 3\}, which nothing"),
    "an exclusion of no key": ({"exclude": [{"K": 3}]}, "no key of the grid"),
    "all excluded": ({"grid": {"B": [2]}, "exclude": [{"B": 2}]}, "no configuration"),
    "no datasets": ({"datasets": {}}, "datasets must be names"),
    "a dataset out of the folder": (
        {"datasets": {"../x": {"manifest": "a"}}}, "must be a plain name"),
    "a dataset without a manifest": ({"datasets": {"a": {}}}, "datasets.a lacks the key"),
    "tables of nobody": (
        {"datasets": {"a": {"manifest": "a", "published": "snapshots"}}}, "did you mean snapshot"),
    "a name that is a path": ({"name": "a/b"}, "name is 'a/b', but must be a plain name"),
    "a name that is a list": ({"name": ["a"]}, "must be a plain name"),
    "a folder that moves the cursor": ({"folder": "a\x1b[2J"}, "folder is .* must be text"),
    "no folds": ({"splits": 0}, "splits.count is 0"),
    "splits of text": ({"splits": "ten"}, "splits must be keys and values"),
    "a seed twice": ({"seeds": [1, 1]}, "seeds must be whole numbers that differ"),
    "a negative seed": ({"seeds": [-1]}, "seeds is -1"),
    "iterations of text": ({"expected_iterations": "many"}, "expected_iterations is 'many'"),
    "a model for the settings": ({"settings": [1]}, "settings must be keys with values"),
    "a model that is none": ({"settings": {"model": {"preset": "sptmod26"}}}, "sptmod26"),
    "a config that is not there": ({"config": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("change, said", HOSTILE.values(), ids=HOSTILE)
def test_a_faulty_file_is_refused_in_a_sentence(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        trainings_of(read_study(study_of(tmp_path, **change)))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not (tmp_path / "study").exists()


def test_exclusions_are_partial_choices(tmp_path: Path) -> None:
    study = read_study(study_of(tmp_path, exclude=[{"B": 4, "L": 128}, {"N": 2}]))
    assert [tuple(p.values()) for p in study.points] == [(1, 2, 64), (1, 2, 128), (1, 4, 64)]
