"""One set of whole recordings serves every (N, L), bit for bit as a set built for each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study.made_results import study_of
from toy import toy_config, write_recordings

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.data.resident import InMemory
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from sptmod_dist.study.grid import shards_folder, trainings_of
from sptmod_dist.study.shard_sets import fold_of, prepare_sets
from sptmod_dist.study.study_file import Splits, StudyFile, read_study
from sptmod_dist.train.data import needs_of


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.mark.parametrize("lengths", [(64,), (128,), (64, 32), (96, 32, 64)])
@pytest.mark.parametrize("sample_format", ["float32", "pcm16", "flac"])
def test_whole_recordings_give_the_sequences_of_any_lengths(
    tmp_path: Path, manifest: Manifest, lengths: tuple[int, ...], sample_format: str
) -> None:
    whole, cut = toy_config(tmp_path), toy_config(tmp_path, lengths=list(lengths))
    how = {"say": lambda line: None, "sample_format": sample_format}
    build_sets(manifest, tmp_path / "whole", needs_of(whole), sequences_per_record=0, **how)
    build_sets(manifest, tmp_path / "cut", needs_of(cut), **how)
    for split in ("train", "validation", "test"):
        one = ShardSet.open(tmp_path / "whole" / split)
        ours, theirs = one.cut_for(needs_of(cut)), ShardSet.open(tmp_path / "cut" / split)
        ours.require(theirs.geometry)
        assert ours.n_sequences == theirs.n_sequences > 0 and ours.fingerprint == one.fingerprint
        resident = InMemory.load(ours, 1)
        for number in range(ours.n_sequences):
            a, b = ours.sequence(number), theirs.sequence(number)
            c = [np.empty_like(a.input), np.empty_like(a.output)]
            resident.read_into(number, *c)
            for x, y, z in zip(a[:2], b[:2], c, strict=True):
                assert np.array_equal(x, y) and np.array_equal(x, z)
            assert ours.locate(number) == theirs.locate(number)
            assert np.array_equal(a.controls, b.controls)


def test_a_set_of_sequences_is_not_cut_anew(tmp_path: Path, manifest: Manifest) -> None:
    config, other = toy_config(tmp_path), toy_config(tmp_path, lengths=[64])
    build_sets(manifest, tmp_path / "sets", needs_of(config), say=lambda line: None)
    train = ShardSet.open(tmp_path / "sets" / "train")
    assert train.cut_for(needs_of(other)) is train


def test_a_validation_item_that_is_too_short_for_the_lengths_is_refused(
    tmp_path: Path, manifest: Manifest
) -> None:
    config, other = toy_config(tmp_path), toy_config(tmp_path, lengths=[64, 1600])
    build_sets(manifest, tmp_path / "sets", needs_of(config), say=lambda line: None)
    items = ShardSet.open(tmp_path / "sets" / "validation")
    with pytest.raises(ShardError, match="item 'validation0' has 1500 samples.*needs"):
        items.cut_for(needs_of(other))


def study_on(folder: Path, **changes: object) -> StudyFile:
    write_recordings(folder / "recordings")
    return read_study(study_of(folder, **changes))


def test_a_fold_is_built_once_for_all_who_need_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_on(tmp_path)
    first, built = trainings_of(study)[0], []

    def build(manifest: Manifest, folder: Path, *how: object, **more: object) -> object:
        built.append(folder)
        return build_sets(manifest, folder, *how, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("sptmod_dist.study.shard_sets.build_sets", build)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda fold: prepare_sets(study, first, fold), [0, 1, 2] * 4))
    assert sorted(built) == [shards_folder(study, "toy", fold) for fold in range(3)]


def test_a_killed_build_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_on(tmp_path)
    first = trainings_of(study)[0]

    def fail(*how: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("sptmod_dist.data.shard_build.store_sets", fail)
        prepare_sets(study, first, 0)
    prepare_sets(study, first, 0)
    assert ShardSet.open(shards_folder(study, "toy", 0) / "train").n_sequences > 0


def test_other_splits_in_a_folder_that_was_built_are_refused(tmp_path: Path) -> None:
    study = study_on(tmp_path)
    prepare_sets(study, trainings_of(study)[0], 0)
    other = replace(study, splits=replace(study.splits, seed=5))
    with pytest.raises(UserError, match="toy-fold0 was made of other recordings.*another folder"):
        prepare_sets(other, trainings_of(other)[0], 0)


def test_folds_may_be_given(tmp_path: Path) -> None:
    study = study_on(tmp_path, splits="given")
    manifest = fold_of(study.datasets[0], study.splits, 0)
    assert [len(manifest.of_split(s)) for s in ("train", "validation", "test")] == [3, 3, 1]
    for fold in range(2):
        manifest.write(manifest.path.with_name(f"manifest-fold{fold}.yaml"))
    files = Splits("files", 2)
    assert fold_of(study.datasets[0], files, 1).items == manifest.items
    with pytest.raises(UserError, match="manifest-fold2.yaml: cannot be read"):
        fold_of(study.datasets[0], files, 2)
    shuffled = fold_of(study.datasets[0], Splits("count", 3, "3/3/1"), 1)
    assert [len(shuffled.of_split(s)) for s in ("train", "validation", "test")] == [3, 3, 1]
    assert shuffled.items != manifest.items
