"""A switch with named positions goes all the way: table, manifest, shards, model, command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny_run import RATE, SNAPSHOT, make_run

from sptmod_dist.cli import main
from sptmod_dist.data.controls import Control
from sptmod_dist.data.geometry import Needs, ShardError
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shards import ShardSet
from tests.data.damage import at, forge
from tests.data.small_sets import NEEDS, RATIO, build, record

MODE = Control("mode", scale="list", positions=("fast", "medium", "slow"), default="slow")
STEPS = Control("steps", scale="list", positions=(2, 4, 20), unit=":1")
NEEDS_3 = Needs(NEEDS.lengths, NEEDS.input_length, n_params=3)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """A range and two switches, one of texts, with the items in a table."""
    bare = record(tmp_path / "recordings")
    items = tuple(
        replace(item, settings={
            **item.settings, "mode": MODE.positions[n % 3], "steps": STEPS.positions[n % 2]
        })
        for n, item in enumerate(bare.items)
    )  # fmt: skip
    whole = replace(bare, controls=(RATIO, MODE, STEPS), items=items)
    whole.write(whole.path, "items.csv")
    return Manifest.read(whole.path)


def built(manifest: Manifest, **options: Any) -> Path:
    out = manifest.path.parent.parent / "sets"
    build_sets(manifest, out, NEEDS_3, 6000, say=lambda _: None, **options)
    return out


def test_sets_hold_positions_by_name_and_models_see_equal_steps(manifest: Manifest) -> None:
    found = ShardSet.open(built(manifest) / "train")
    assert found.index.geometry.controls == manifest.controls
    by_id = {item.id: item for item in found.index.items}
    for n, item in enumerate(manifest.of_split("train")):
        if item.id in by_id:
            assert by_id[item.id].settings == item.settings
            assert by_id[item.id].controls[1:] == [n % 3 / 2, n % 2 / 2]


@pytest.mark.parametrize(
    ("value", "words"),
    [("fats", "'fats' is none of its positions"), (None, "None"), (["fast"], "none of its")],
)
def test_an_index_with_a_position_that_is_none_is_refused(
    manifest: Manifest, value: Any, words: str
) -> None:
    folder = built(manifest) / "train"
    forge(folder / "index.json", at("items", 0, "settings", "mode", value=value))
    with pytest.raises(ShardError, match=words):
        ShardSet.open(folder)


def test_the_same_position_in_two_splits_is_found_where_that_is_refused(
    manifest: Manifest,
) -> None:
    same = tuple(
        replace(item, settings={"ratio": 2.0, "mode": "fast", "steps": 4.0})
        if item.id in ("train-a", "test-a") else item for item in manifest.items
    )  # fmt: skip
    with pytest.raises(ShardError, match="'train-a'.*'test-a'.*same setting"):
        built(replace(manifest, items=same), distinct_settings=True)


def test_a_set_of_ranges_says_of_them_what_it_always_said(tmp_path: Path) -> None:
    """So that sets of before and of now have the same fingerprints."""
    text = (build(tmp_path) / "train" / "index.json").read_text()
    entry = {"name": "ratio", "minimum": 2.0, "maximum": 8.0, "scale": "log", "unit": ":1"}
    assert json.dumps([entry])[1:-1] in text
    assert "positions" not in text and "default" not in text


@pytest.mark.parametrize(("given", "vector"), [("fast", 0.0), ("slow", 1.0)])
def test_a_position_is_given_by_name_to_render(
    tmp_path: Path, given: str, vector: float, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out.wav"
    make_run(run, replace(SNAPSHOT, n_params=1), [MODE])
    make_run(tmp_path / "range", replace(SNAPSHOT, n_params=1), [Control("place", 0, 1)])
    noise = np.random.default_rng(0).uniform(-0.4, 0.4, 4000).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", noise, RATE, "FLOAT")
    assert main(["render", str(run), str(tmp_path / "in.wav"), str(out),
                 "--control", f"mode={given}"]) == 0  # fmt: skip
    assert main(["render", str(tmp_path / "range"), str(tmp_path / "in.wav"),
                 str(tmp_path / "same.wav"), "--control", f"place={vector}"]) == 0  # fmt: skip
    assert np.array_equal(soundfile.read(out)[0], soundfile.read(tmp_path / "same.wav")[0])
    capsys.readouterr()
    assert main(["render", str(run), str(tmp_path / "in.wav"), str(tmp_path / "no.wav"),
                 "--control", "mode=quick"]) == 2  # fmt: skip
    assert "give one of fast, medium, slow" in capsys.readouterr().err
    assert not (tmp_path / "no.wav").exists()
