"""Sets made of sets: what the recordings would have given, as far as the old sets hold it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sptmod_dist import cli
from sptmod_dist.data import shard_convert
from sptmod_dist.data.geometry import Needs, ShardError
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shard_convert import convert_sets
from sptmod_dist.data.shard_plan import Cut
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.data.shards import ShardSet
from tests.data.small_sets import HOP, LOOKBACK, NEEDS, build, record, snapshot

OTHERS = [  # needs, and sequences per record
    (Needs((64, 32, 32), 100, n_params=1), 3),
    (Needs((128,), 164, n_params=1), 1),
    (Needs((32, 32), 60, n_params=1), 4),
    (Needs((16,), 52, n_params=1), 1),
    (Needs((100, 7), 150, n_params=1), 2),
]


def silent(_: str) -> None:
    """Say nothing."""


def convert(
    sets: Path, out: Path, needs: Needs = NEEDS, held: int = 1, sample_format: str = "float32"
) -> list[str]:
    """Convert; the lines of the account."""
    said: list[str] = []
    convert_sets(sets, out, needs, Cut(held, sample_format, 6000), say=said.append)
    return said


def shards(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in snapshot(folder).items() if name.endswith(".tar")}


@pytest.mark.parametrize("needs, held", OTHERS)
def test_whole_items_give_what_the_recordings_give(
    built: Path, tmp_path: Path, needs: Needs, held: int
) -> None:
    convert(built, tmp_path / "converted", needs, held)
    manifest = record(tmp_path / "recordings")
    build_sets(manifest, tmp_path / "sets", needs, 6000, say=silent, sequences_per_record=held)
    for split in ("validation", "test"):
        converted, own = (ShardSet.open(tmp_path / f / split) for f in ("converted", "sets"))
        assert shards(tmp_path / "converted" / split) == shards(tmp_path / "sets" / split)
        provenance = converted.index.provenance
        assert provenance.converted_from == ShardSet.open(built / split).fingerprint
        assert (
            replace(converted.index, provenance=replace(provenance, converted_from=""))
            == own.index
        )


@pytest.mark.parametrize("source_held", [1, 3])
@pytest.mark.parametrize("needs, held", OTHERS)
def test_sequences_give_what_the_recordings_give_but_for_their_ends(
    tmp_path: Path, needs: Needs, held: int, source_held: int
) -> None:
    source = build(tmp_path, sequences_per_record=source_held)
    said = convert(source, tmp_path / "converted", needs, held)
    manifest = record(tmp_path / "recordings")
    whole = tmp_path / "whole"
    build_sets(manifest, whole, needs, 6000, say=silent, sequences_per_record=held)
    converted, own = (ShardSet.open(f / "train") for f in (tmp_path / "converted", whole))
    assert verify(tmp_path / "converted" / "train") == []
    theirs = {own.locate(n): n for n in range(own.n_sequences)}
    lost = own.n_sequences - converted.n_sequences
    assert (f"it would give more sequences: {lost}" in "\n".join(said)) == bool(lost)
    for number in range(converted.n_sequences):
        sequence, same = converted.sequence(number), own.sequence(theirs[converted.locate(number)])
        assert np.array_equal(sequence.input, same.input)
        assert np.array_equal(sequence.output, same.output)
        assert np.array_equal(sequence.controls, same.controls)
    for old, new in zip(ShardSet.open(source / "train").items, converted.items, strict=True):
        covered = old.samples - old.dropped
        assert new.sequences == converted.geometry.n_sequences(covered)
        assert (new.samples, new.sha256) == (old.samples, old.sha256)


def test_the_same_cut_gives_the_same_shards(built: Path, tmp_path: Path) -> None:
    convert(built, tmp_path / "converted")
    assert shards(tmp_path / "converted") == shards(built)


def test_there_and_back_gives_the_same_shards_where_no_end_is_lost(tmp_path: Path) -> None:
    samples = {"train-a": LOOKBACK + 8 * HOP, "validation-a": 500, "test-a": 400}
    sets = build(tmp_path, samples=samples)
    said = convert(sets, tmp_path / "there", Needs((64,), 100, n_params=1), 5)
    assert not any("lacks" in line for line in said)
    convert(tmp_path / "there", tmp_path / "back")
    assert shards(tmp_path / "back") == shards(sets)


@pytest.mark.parametrize("sample_format", ["pcm24", "pcm16", "flac"])
def test_the_loss_of_a_sample_format_is_said_and_happens_once(
    built: Path, tmp_path: Path, sample_format: str
) -> None:
    said = convert(built, tmp_path / "small", held=2, sample_format=sample_format)
    assert not any("exact" in line for line in said)
    said = convert(tmp_path / "small", tmp_path / "again", held=2, sample_format=sample_format)
    loss = f"keeps samples as {sample_format}, and the new set cannot be more exact"
    assert any(loss in line for line in said)
    assert shards(tmp_path / "again") == shards(tmp_path / "small")
    step = 2.0 ** -(15 if sample_format == "pcm16" else 23)
    exact, rounded = (ShardSet.open(f / "train") for f in (built, tmp_path / "small"))
    for number in range(exact.n_sequences):
        difference = exact.sequence(number).output - rounded.sequence(number).output
        assert 0 < np.abs(difference).max() <= 0.5 * step * 1.001


def test_a_conversion_may_take_the_place_of_its_source(sets: Path, tmp_path: Path) -> None:
    convert(sets, tmp_path / "elsewhere", *OTHERS[0])
    before = snapshot(sets)
    with pytest.raises(ShardError, match="--overwrite"):
        convert(sets, sets, *OTHERS[0])
    assert snapshot(sets) == before
    needs, held = OTHERS[0]
    convert_sets(sets, sets, needs, Cut(held, "float32", 6000), overwrite=True, say=silent)
    assert shards(sets) == shards(tmp_path / "elsewhere")


def test_no_other_builder_comes_between_while_sets_take_their_own_place(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might bring a set that was never read, and would be replaced all the same."""

    def meanwhile(*_: object) -> None:
        with pytest.raises(ShardError, match="another build is running there"):
            build_sets(record(sets.parent / "recordings"), sets, NEEDS, 6000, True, silent)
        raise ShardError("so far")

    monkeypatch.setattr(shard_convert, "check_leaks", meanwhile)
    with pytest.raises(ShardError, match="so far"):
        convert_sets(sets, sets, NEEDS, Cut(1, "float32", 6000), overwrite=True, say=silent)


def test_sets_that_a_killed_builder_was_moving_are_converted_too(
    built: Path, sets: Path, tmp_path: Path
) -> None:
    folder = sets / ".building-0123456789abcdef"
    folder.mkdir()
    (sets / "train").rename(folder / "train")
    (folder / "moves.json").write_text('{"old": [], "new": ["train"]}')
    convert(sets, tmp_path / "out")
    assert shards(tmp_path / "out") == shards(built) == shards(sets)


def test_the_right_sets_are_not_converted_again(built: Path, tmp_path: Path) -> None:
    convert(built, tmp_path / "out", held=2)
    assert "up to date" in convert(built, tmp_path / "out", held=2)[0]
    with pytest.raises(ShardError, match="2 sequences a record instead of 3.*--overwrite"):
        convert(built, tmp_path / "out", held=3)
    with pytest.raises(ShardError, match="not made in the same way"):
        manifest = record(tmp_path / "in")
        build_sets(manifest, tmp_path / "out", NEEDS, 6000, say=silent, sequences_per_record=2)


BAD = [
    (Needs((64,), 100), r"1 controls \(ratio\) where the model takes 0"),
    (Needs((64,), 100, n_params=1, sidechain_channels=1), "has 1 channels and 0 of a sidechain"),
    (Needs((64,), 100, n_params=1, input_channels=2), "has 1 channels and 0 of a sidechain"),
    (Needs((64,), 165, n_params=1), "validation item 'validation-b' has 164 samples"),
    (Needs((9000,), 9000, n_params=1), "train item 'train-a' has 676 samples"),
]


@pytest.mark.parametrize("needs, said", BAD)
def test_what_the_sets_do_not_hold_is_refused(
    built: Path, tmp_path: Path, needs: Needs, said: str
) -> None:
    with pytest.raises(ShardError, match=said) as caught:
        convert(built, tmp_path / "out", needs)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_set_is_refused_and_nothing_is_left(sets: Path, tmp_path: Path) -> None:
    path = sets / "train" / "shard-00001.tar"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="shard-00001.tar has changed bytes"):
        convert(sets, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_set_under_another_splits_name_is_refused(sets: Path, tmp_path: Path) -> None:
    shutil.rmtree(sets / "train")
    (sets / "test").rename(sets / "train")
    with pytest.raises(ShardError, match="a test set: give a train set"):
        convert(sets, tmp_path / "out")


def test_a_folder_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="holds no sets"):
        convert(tmp_path, tmp_path / "out")


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a model that reads few samples, on recordings of a few seconds."""
    sets = build(tmp_path, samples={"train-a": 30_000, "validation-a": 30_000})
    options = ["--model.preset", "tiny", "--model.n_params", "1", "--lengths", "[4096]"]
    options += ["--data.sequences_per_record", "3", "--data.shard_megabytes", "1"]
    arguments = ["shards", "convert", str(sets), str(tmp_path / "out"), *options, "--workers", "2"]
    assert cli.main(arguments) == 0
    assert "train: 1 items" in capsys.readouterr().out
    train = ShardSet.open(tmp_path / "out" / "train")
    assert (train.index.sequences_per_record, train.geometry.lengths) == (3, (4096,))
    assert cli.main(["shards", "info", str(tmp_path / "out" / "train")]) == 0
    assert train.fingerprint in capsys.readouterr().out
