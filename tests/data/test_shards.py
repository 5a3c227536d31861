"""A set of shards gives back exactly what was recorded."""

from __future__ import annotations

import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sptmod_dist.data.checksums import BLOCK
from sptmod_dist.data.controls import Control
from sptmod_dist.data.geometry import Geometry, Needs, ShardError
from sptmod_dist.data.recordings import load_item
from sptmod_dist.data.sample_formats import FORMATS
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.data.shards import ShardSet
from tests.data.small_sets import (
    GEOMETRY,
    HOP,
    LONG,
    LOOKBACK,
    NEEDS,
    SAMPLES,
    SEQUENCE,
    longer,
    nearest,
    noise,
    record,
    recordings,
    store,
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
    whole = recordings(built)
    names = ("train-a", "train-b", "train-short", "train-c")
    folder = store(tmp_path, {name: whole[name] for name in names}, held)
    assert verify(folder) == []
    shards, plain = ShardSet.open(folder), ShardSet.open(built / "train")
    assert len(shards.index.records) == sum(-(-count // held) for count in (5, 4, 8))
    for number in np.random.default_rng(0).permutation(plain.n_sequences):
        assert np.array_equal(shards.sequence(number).input, plain.sequence(number).input)
        assert np.array_equal(shards.sequence(number).output, plain.sequence(number).output)


@pytest.mark.parametrize("sample_format", FORMATS)
@pytest.mark.parametrize("channels, sidechain", [(1, 0), (1, 1), (2, 1)])
@pytest.mark.parametrize("held", [0, 1, 4, 64])
def test_a_sequence_is_its_stretch_of_the_recording_bit_for_bit(
    tmp_path: Path, sample_format: str, channels: int, sidechain: int, held: int
) -> None:
    whole = {name: noise(LONG + 77 * k, channels, sidechain, k) for k, name in enumerate("ab")}
    geometry = longer(channels, sidechain)
    shards = ShardSet.open(store(tmp_path, whole, held, sample_format, geometry))
    assert shards.n_sequences == 9 + 9
    for number in range(18):
        item, start = number // 9, number % 9 * geometry.hop
        assert shards.locate(number) == (item, start)
        audio, window = whole["ab"[item]], slice(start, start + geometry.sequence_length)
        sequence = shards.sequence(number)
        assert np.array_equal(sequence.input, nearest(audio.input, sample_format)[:, window])
        assert np.array_equal(sequence.output, nearest(audio.output, sample_format)[:, window])


@pytest.mark.parametrize("sample_format", FORMATS)
@pytest.mark.parametrize("held", [0, 1, 4, 64])
def test_a_recording_is_put_together_of_its_records(
    tmp_path: Path, sample_format: str, held: int
) -> None:
    geometry = longer(1, 1)
    one = geometry.sequence_length
    lengths = {"short": one - 1, "long": LONG, "one": one} if held else {"long": LONG, "one": one}
    whole = {name: noise(samples, 1, 1) for name, samples in lengths.items()}
    shards = ShardSet.open(store(tmp_path, whole, held, sample_format, geometry))
    covered = [0, geometry.target_start + 9 * geometry.hop, one] if held else [LONG, one]
    for item, (audio, samples) in enumerate(zip(whole.values(), covered, strict=True)):
        assert shards.covered(item) == samples
        found = np.full((2, samples), np.nan, "f4"), np.full((1, samples), np.nan, "f4")
        shards.item_into(item, *found)
        assert np.array_equal(found[0], nearest(audio.input, sample_format)[:, :samples])
        assert np.array_equal(found[1], nearest(audio.output, sample_format)[:, :samples])


@pytest.mark.parametrize("sample_format", ["float32", "pcm24", "pcm16"])
def test_a_sequence_out_of_many_is_read_without_the_others(
    tmp_path: Path, sample_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = ShardSet.open(
        store(tmp_path, {"a": noise(LONG, 1, 1)}, 64, sample_format, longer(1, 1))
    )
    counts: list[int] = []
    (held_by,), preadv = shards.index.records, os.preadv
    monkeypatch.setattr(os, "preadv", lambda *read: counts.append(preadv(*read)) or counts[-1])
    width, geometry = FORMATS[sample_format].width, shards.geometry
    for number in range(9):
        counts.clear()
        shards.sequence(number)
        start = number * geometry.hop
        blocks = range(start // BLOCK, -(-(start + geometry.sequence_length) // BLOCK))
        samples = min(blocks.stop * BLOCK, held_by.samples) - blocks.start * BLOCK
        assert sum(counts) == 3 * width * samples


@pytest.mark.parametrize("sample_format", FORMATS)
def test_many_threads_read_what_one_reads(tmp_path: Path, sample_format: str) -> None:
    whole = {"a": noise(LONG, 2), "b": noise(LONG, 2, seed=1)}
    shards = ShardSet.open(store(tmp_path, whole, 8, sample_format, longer(2, 0)))
    expected = [shards.sequence(number) for number in range(shards.n_sequences)]
    order = np.random.default_rng(0).permutation(np.tile(np.arange(shards.n_sequences), 3))
    with ThreadPoolExecutor(8) as pool:
        for number, found in zip(order, pool.map(shards.sequence, order), strict=True):
            for one, other in zip(found, expected[number], strict=True):
                assert np.array_equal(one, other)


@pytest.mark.parametrize("sample_format", FORMATS)
@pytest.mark.parametrize("held", [1, 8])
def test_sequences_are_read_straight_into_a_batch(
    tmp_path: Path, sample_format: str, held: int
) -> None:
    shards = ShardSet.open(
        store(tmp_path, {"a": noise(LONG, 1, 1)}, held, sample_format, longer(1, 1))
    )
    batch = torch.full((4, 3, shards.geometry.sequence_length), torch.nan)
    for row, number in enumerate((3, 0, 7)):
        shards.read_into(number, batch[row, :2].numpy(), batch[row, 2:].numpy())
        expected = shards.sequence(number)
        assert np.array_equal(batch[row, :2].numpy(), expected.input)
        assert np.array_equal(batch[row, 2:].numpy(), expected.output)
    assert batch[3].isnan().all()


@pytest.mark.parametrize("held", [0, 1, 8])
def test_arrays_of_another_shape_are_not_filled(tmp_path: Path, held: int) -> None:
    shards = ShardSet.open(store(tmp_path, {"a": noise(2000)}, held))
    fits = np.empty((1, SEQUENCE), "f4")
    for shape, dtype in (((2, SEQUENCE), "f4"), ((1, SEQUENCE - 1), "f4"), (fits.shape, "f8")):
        for arrays in ((np.empty(shape, dtype), fits), (fits, np.empty(shape, dtype))):
            with pytest.raises(ValueError):
                shards.read_into(0, *arrays)
    with pytest.raises(ValueError):
        shards.item_into(0, fits, fits)


def test_a_sequence_knows_its_controls_its_shard_and_its_place(built: Path) -> None:
    train = ShardSet.open(built / "train")
    starts = [k * HOP for count in (5, 4, 8) for k in range(count)]
    items = [item for item, count in ((0, 5), (1, 4), (3, 8)) for _ in range(count)]
    assert [train.locate(n) for n in range(17)] == list(zip(items, starts, strict=True))
    assert [train.shard_of(n) for n in range(17)] == [r.shard for r in train.index.records]
    for number in range(17):
        controls = train.controls(number)
        assert controls.dtype == np.float32
        assert controls.tolist() == pytest.approx(train.items[items[number]].controls)
        controls[:] = 9.0  # one's own
        assert train.controls(number)[0] != 9.0


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


def test_an_index_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index.json")
    with pytest.raises(ShardError, match="index.json is no plain file"):
        ShardSet.open(tmp_path)
