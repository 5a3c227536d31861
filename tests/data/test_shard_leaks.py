"""Leaks between splits are refused: a recording, and if asked a setting, stands on one side."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sptmod_dist import audio
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.shard_build import build_sets
from tests.data.small_sets import NEEDS, record


def give(folder: Path, item: str, of: str) -> None:
    """Give an item a copy of another one's output, and of its input."""
    for kind in ("in", "out"):
        shutil.copy(folder / f"{of}-{kind}.wav", folder / f"{item}-{kind}.wav")


@pytest.mark.parametrize("item, of", [("test-a", "train-b"), ("validation-b", "test-a")])
def test_one_recording_in_two_splits_is_refused(tmp_path: Path, item: str, of: str) -> None:
    """Whatever its file is called; that inputs are shared is no leak."""
    manifest = record(tmp_path / "in")
    give(tmp_path / "in", item, of)
    words = f"'{of}' .*and '{item}' .*same recording|'{item}' .*and '{of}' .*same recording"
    with pytest.raises(ShardError, match=words):
        build_sets(manifest, tmp_path / "out", NEEDS, say=lambda _: None)
    assert not (tmp_path / "out").exists()
    samples, rate = audio.read(tmp_path / "in" / f"{item}-out.wav")
    audio.write(tmp_path / "in" / f"{item}-out.wav", samples * 0.9, rate)
    build_sets(manifest, tmp_path / "out", NEEDS, say=lambda _: None)


def test_one_recording_twice_in_one_split_is_no_leak(tmp_path: Path) -> None:
    manifest = record(tmp_path / "in")
    give(tmp_path / "in", "train-a", "train-b")
    build_sets(manifest, tmp_path / "out", NEEDS, say=lambda _: None)


def test_a_setting_in_two_splits_is_refused_if_asked(tmp_path: Path) -> None:
    manifest = record(tmp_path / "in")
    build_sets(manifest, tmp_path / "a", NEEDS, distinct_settings=True, say=lambda _: None)
    *others, last = manifest.items
    manifest = replace(manifest, items=(*others, replace(last, settings={"ratio": 4.0})))
    words = r"'train-short' \(train\) and 'test-a' \(test\) have the same setting"
    with pytest.raises(ShardError, match=words):
        build_sets(manifest, tmp_path / "b", NEEDS, distinct_settings=True, say=lambda _: None)
    build_sets(manifest, tmp_path / "b", NEEDS, say=lambda _: None)


def test_settings_of_a_snapshot_cannot_be_distinct(tmp_path: Path) -> None:
    manifest = record(tmp_path / "in")
    items = tuple(replace(item, settings={}) for item in manifest.items)
    manifest, needs = replace(manifest, controls=(), items=items), replace(NEEDS, n_params=0)
    with pytest.raises(ShardError, match="the device has no controls"):
        build_sets(manifest, tmp_path / "out", needs, distinct_settings=True, say=lambda _: None)
