"""The account of a set: what copies of lookbacks cost, and the cut with which they cost less."""

from __future__ import annotations

from pathlib import Path

import pytest

from sptmod_dist.data.controls import Control
from sptmod_dist.data.geometry import Geometry
from sptmod_dist.data.recordings import Recording
from sptmod_dist.data.shard_account import (
    BEARABLE,
    account,
    advice,
    advised,
    describe,
    inflation,
    inflation_at,
)
from sptmod_dist.data.shard_index import Index, Item, Provenance
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.train.data import needs_of
from sptmod_dist.train.options import load_config
from tests.data.small_sets import GEOMETRY, HOP, LOOKBACK, noise, store

CONFIGS = Path(__file__).parents[2] / "launch" / "configs"
LONG = Geometry(8000, 1, 0, GEOMETRY.controls, (16,), 16 + 400)  # lookback 400, hop 16


def recorded(*samples: int) -> dict[str, Recording]:
    return {f"item-{n}": noise(count, seed=n) for n, count in enumerate(samples)}


def index_of(folder: Path) -> Index:
    return ShardSet.open(folder).index


@pytest.mark.parametrize("held", [1, 2, 5, 30, 1000])
def test_the_inflation_at_a_cut_is_that_of_a_set_cut_so(tmp_path: Path, held: int) -> None:
    wholes = recorded(2000, 1111, 700)
    plain = index_of(store(tmp_path / "one", wholes, 1, geometry=LONG))
    cut = index_of(store(tmp_path / "many", wholes, held, geometry=LONG))
    assert inflation_at(plain, held) == pytest.approx(inflation(cut), abs=1e-12)


def test_the_advised_cut_is_the_smallest_that_suffices(tmp_path: Path) -> None:
    index = index_of(store(tmp_path / "one", recorded(2000, 1111, 700), 1, geometry=LONG))
    held = advised(index)
    assert inflation_at(index, held) < BEARABLE <= inflation_at(index, held - 1)
    assert f"data.sequences_per_record {held} makes it {inflation_at(index, held):.2f}" in advice(
        index
    )


def test_there_is_always_a_cut_that_suffices(tmp_path: Path) -> None:
    """Even where the lookback is nearly all of a recording."""
    index = index_of(store(tmp_path / "one", recorded(432, 433), 1, geometry=LONG))
    assert inflation(index) > BEARABLE
    assert advised(index) == 2 and inflation_at(index, 2) <= 1


def test_a_set_that_takes_little_more_than_its_recordings_gets_no_advice(tmp_path: Path) -> None:
    index = index_of(store(tmp_path / "sets", recorded(LOOKBACK + 9 * HOP), 1))
    assert inflation(index) == 9 * (LOOKBACK + HOP) / (LOOKBACK + 9 * HOP) < BEARABLE
    assert "sequences_per_record" not in advice(index)
    assert "copies of lookbacks take" in advice(index)


@pytest.mark.parametrize("name", ["sptmod24", "sptmod25"])
def test_the_larger_settings_have_the_advised_cut(name: str) -> None:
    """For items of 96 s, as their comments say."""
    config = load_config([CONFIGS / f"{name}.yaml"], {})
    controls = [Control(f"{n}", 0, 1) for n in range(config.model.n_params)]
    geometry = needs_of(config).geometry(44100, controls, name)
    samples = 96 * 44100
    item = Item("a", {}, [], samples, geometry.n_sequences(samples), 0, "0" * 64)
    provenance = Provenance("0", "a box", "", "")
    items = [item] * 128
    index = Index("train", "sequences", 1, "float32", 0, geometry, [], items, [], provenance)
    assert advised(index) == config.data.sequences_per_record == 13
    figures = [f"{inflation_at(index, held):.2f} times" for held in (1, 13)]
    text = (CONFIGS / f"{name}.yaml").read_text()
    assert all(figure in text for figure in figures)


def test_the_account_counts_items_sequences_and_what_is_dropped(tmp_path: Path) -> None:
    index = index_of(store(tmp_path / "sets", recorded(LOOKBACK + 4 * HOP + 80, 100), 2))
    assert account(index).startswith("train: 2 items, 4 sequences, 0.000 hours, 0.0 MB (0.80 times")
    assert account(index).endswith(f"{(80 + 100) / 8000:.2f} s dropped")


@pytest.mark.parametrize("held", [0, 1, 3])
@pytest.mark.parametrize("sample_format", ["float32", "pcm16", "flac"])
def test_a_description_tells_all_of_a_set(tmp_path: Path, held: int, sample_format: str) -> None:
    folder = store(tmp_path / "sets", recorded(1000, 800), held, sample_format)
    shard_set = ShardSet.open(folder)
    text = describe(shard_set)
    rows = {line[:19].strip(): line[20:] for line in text.splitlines()}
    assert rows["split"] == ("train (sequences)" if held else "validation (items)")
    assert rows["sequences"] == f"{7 + 5} of 164 samples"
    assert rows["samples"].startswith(sample_format)
    assert rows["bytes"].startswith(f"{sum(p.stat().st_size for p in folder.glob('*.tar'))} ")
    assert rows["fingerprint"] == shard_set.fingerprint
    assert rows["items"] == "2, with 1 settings of the controls"
    for words in ("8000 Hz", "[64, 32, 32]", "ratio 2.0 to 8.0:1 (log)", "a box of noise"):
        assert words in text
    assert text.endswith(advice(shard_set.index))
