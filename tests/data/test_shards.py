"""A set of shards gives back exactly what was recorded, here and to other readers."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist.data.controls import Control
from sptmod_dist.data.geometry import Geometry, Needs, ShardError
from sptmod_dist.data.recordings import load_item
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shard_index import Provenance
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.data.shard_writer import SetWriter
from sptmod_dist.data.shards import ShardSet, describe
from tests.data.small_sets import (
    GEOMETRY,
    HOP,
    LOOKBACK,
    NEEDS,
    SAMPLES,
    SEQUENCE,
    record,
    recordings,
)

# What is read is what was recorded


def test_train_sequences_are_the_windows_that_tile_the_recordings(built: Path) -> None:
    train, recorded = ShardSet.open(built / "train"), recordings(built)
    expected = [
        (name, start)
        for name in ("train-a", "train-b", "train-c")
        for start in range(0, SAMPLES[name] - SEQUENCE + 1, HOP)
    ]
    assert train.n_sequences == len(expected) == 17
    for number, (name, start) in enumerate(expected):
        sequence, whole = train.sequence(number), recorded[name]
        assert np.array_equal(sequence.input, whole.input[:, start : start + SEQUENCE])
        assert np.array_equal(sequence.output, whole.output[:, start : start + SEQUENCE])
        assert sequence.controls.tolist() == pytest.approx(whole.vector)


def test_an_item_is_its_whole_recording(built: Path) -> None:
    validation, recorded = ShardSet.open(built / "validation"), recordings(built)
    for number, item in enumerate(validation.items):
        audio_of_item, whole = validation.item(number), recorded[item.id]
        assert np.array_equal(audio_of_item.input, whole.input)
        assert np.array_equal(audio_of_item.output, whole.output)
        assert item.dropped == 0


def test_sequences_of_a_set_of_items_are_windows_of_the_items(built: Path) -> None:
    validation = ShardSet.open(built / "validation")
    assert [item.sequences for item in validation.items] == [3, 1]
    for item, numbers in enumerate((range(0, 3), range(3, 4))):
        whole = validation.item(item)
        for place, number in enumerate(numbers):
            sequence = validation.sequence(number)
            window = slice(place * HOP, place * HOP + SEQUENCE)
            assert np.array_equal(sequence.input, whole.input[:, window])
            assert np.array_equal(sequence.output, whole.output[:, window])


@pytest.mark.parametrize("held", [1, 2, 3, 5, 100])
def test_sequences_are_the_same_however_many_a_record_holds(
    built: Path, tmp_path: Path, held: int
) -> None:
    recorded = recordings(built)
    writer = SetWriter(tmp_path, "train", GEOMETRY, held, 6000, "float32")
    for name in ("train-a", "train-b", "train-short", "train-c"):
        whole = recorded[name]
        writer.add(name, {"ratio": 2.0}, whole.vector, whole.input, whole.output, "0" * 64)
    index = writer.finish(Provenance("0", "a box", "", ""))
    assert len(index.records) == sum(-(-count // held) for count in (5, 4, 8))
    assert verify(tmp_path) == []
    shards, plain = ShardSet.open(tmp_path), ShardSet.open(built / "train")
    for number in np.random.default_rng(0).permutation(plain.n_sequences):
        assert np.array_equal(shards.sequence(number).input, plain.sequence(number).input)
        assert np.array_equal(shards.sequence(number).output, plain.sequence(number).output)


def test_outputs_after_the_lookback_tile_the_recording(built: Path) -> None:
    train = ShardSet.open(built / "train")
    outputs = [train.sequence(n).output[:, LOOKBACK:] for n in range(train.items[0].sequences)]
    whole = recordings(built)["train-a"].output
    assert np.array_equal(np.concatenate(outputs, axis=1), whole[:, LOOKBACK:])


def test_what_is_read_may_be_written_to_and_is_read_afresh(built: Path) -> None:
    for name in ("train", "validation"):
        shards = ShardSet.open(built / name)
        first = shards.sequence(0)
        kept = first.input.copy()
        first.input[:] = 7.0
        assert np.array_equal(shards.sequence(0).input, kept)
        assert first.input.dtype == first.output.dtype == first.controls.dtype == np.float32


@pytest.mark.parametrize("channels, sidechain", [(1, 1), (2, 0), (2, 2)])
def test_channels_and_sidechain_keep_their_places(
    tmp_path: Path, channels: int, sidechain: int
) -> None:
    manifest = record(tmp_path / "in", {"train-a": 500, "test-a": 400}, channels, sidechain)
    needs = Needs(NEEDS.lengths, NEEDS.input_length, channels, sidechain, 1)
    build_sets(manifest, tmp_path / "out", needs, say=lambda _: None)
    sequence = ShardSet.open(tmp_path / "out" / "train").sequence(1)
    whole = load_item(manifest, manifest.items[0])
    assert np.array_equal(sequence.input, whole.input[:, HOP : HOP + SEQUENCE])
    assert sequence.input.shape[0] == channels + sidechain
    assert sequence.output.shape == (channels, SEQUENCE)


def test_what_is_dropped_is_counted(built: Path) -> None:
    items = {item.id: item for item in ShardSet.open(built / "train").items}
    dropped = {name: item.dropped for name, item in items.items()}
    assert dropped == {
        "train-a": 0,
        "train-b": 50,
        "train-short": SAMPLES["train-short"],
        "train-c": 127,
    }
    assert items["train-short"].sequences == 0


def test_shards_are_closed_before_they_grow_too_large(built: Path) -> None:
    index = ShardSet.open(built / "train").index
    assert len(index.shards) > 3
    assert all(shard.bytes <= 6000 + tarfile.RECORDSIZE for shard in index.shards)


def test_numbers_beyond_the_set_are_no_sequences(built: Path) -> None:
    train = ShardSet.open(built / "train")
    for number in (-1, train.n_sequences):
        with pytest.raises(IndexError):
            train.sequence(number)


def test_a_set_travels_to_another_process(built: Path) -> None:
    validation = ShardSet.open(built / "validation")
    validation.sequence(0)
    copy = pickle.loads(pickle.dumps(validation))
    assert np.array_equal(copy.sequence(1).input, validation.sequence(1).input)


# Other readers


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_webdataset_reads_the_same_without_pickle(
    built: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr(webdataset.utils, "enforce_security", True)
    shards = ShardSet.open(built / split)
    urls = [str(built / split / shard.name) for shard in shards.index.shards]
    dataset = webdataset.WebDataset(urls, shardshuffle=False).decode()
    seen = 0
    for number, (sample, rec) in enumerate(zip(dataset, shards.index.records, strict=True)):
        own = shards.sequence(number) if split == "train" else shards.item(number)
        assert sample["__key__"] == rec.key
        assert np.array_equal(sample["input.npy"], own.input)
        assert np.array_equal(sample["output.npy"], own.output)
        item = shards.items[rec.item]
        assert sample["json"]["item"] == item.id
        assert sample["json"]["start"] == rec.start
        assert sample["json"]["settings"] == item.settings
        assert sample["json"]["controls"] == item.controls
        seen += 1
    assert seen == len(shards.index.records)


def test_the_example_in_the_description_of_the_format_runs(built: Path) -> None:
    pytest.importorskip("webdataset")
    readme = Path(__file__).parents[2] / "shards" / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(), flags=re.DOTALL)
    code = code.replace("shards/data/demo", str(built)) + "assert webdataset.utils.enforce_security"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("ratio") == 17


# Sets for something else


@pytest.mark.parametrize(
    "change, said",
    [
        ({"sample_rate": 44100}, "sample_rate 8000 Hz instead of 44100 Hz"),
        ({"input_channels": 2}, "input_channels 1 instead of 2"),
        ({"sidechain_channels": 1}, "sidechain_channels 0 instead of 1"),
        ({"lengths": (64, 32)}, r"lengths \[64, 32, 32\] instead of \[64, 32\]"),
        ({"input_length": 101}, "input_length 100 instead of 101"),
        ({"controls": ()}, "controls ratio 2.0 to 8.0:1 .log. instead of none"),
        ({"controls": (Control("ratio", 2, 8.5, "log", ":1"),)}, "to 8.5:1"),
        ({"controls": (Control("ratio", 2, 8, "linear", ":1"),)}, "instead of .*linear"),
    ],
)
def test_a_set_for_something_else_is_refused_with_every_difference(
    built: Path, change: dict[str, Any], said: str
) -> None:
    train = ShardSet.open(built / "train")
    train.require(GEOMETRY, "make it so")
    needed = Geometry(**{**vars(GEOMETRY), **change})
    with pytest.raises(ShardError, match=f"{said}.*`make it so`"):
        train.require(needed, "make it so")


def test_all_differences_are_listed_at_once(built: Path) -> None:
    needed = Geometry(44100, 2, 1, (), (64,), 99)
    with pytest.raises(ShardError) as caught:
        ShardSet.open(built / "train").require(needed, "make it so")
    assert all(name in str(caught.value) for name in vars(needed))


def test_a_set_of_pieces_has_no_whole_items(built: Path) -> None:
    with pytest.raises(ShardError, match="no whole recordings"):
        ShardSet.open(built / "train").item(0)


def test_a_description_tells_what_a_set_is_for(built: Path) -> None:
    text = describe(built / "train")
    for words in ("train (sequences)", "a box of noise", "17 of 164 samples", "8000 Hz", "[64, 32"):
        assert words in text
