"""Building sets: equal recordings give equal bytes, and nothing is lost or left half-made."""

from __future__ import annotations

import os
import shutil
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist import audio
from sptmod_dist.data import shard_build
from sptmod_dist.data.geometry import Needs, ShardError
from sptmod_dist.data.recordings import Manifest, Recording, load_item
from sptmod_dist.data.shard_account import advice
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from tests.data.small_sets import NEEDS, RATE, RATIO, SAMPLES, SEQUENCE, build, record, snapshot


def test_equal_recordings_give_equal_bytes(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert snapshot(first) == snapshot(second)
    prints = {ShardSet.open(folder / "train").fingerprint for folder in (first, second)}
    assert len(prints) == 1


def test_no_path_of_this_machine_is_stored(built: Path) -> None:
    for path in built.rglob("*.*"):
        assert str(built.parent).encode() not in path.read_bytes()


def test_the_account_tells_what_was_made(tmp_path: Path) -> None:
    said: list[str] = []
    build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=said.append)
    assert said.pop(0) == "train: item 'train-short' is shorter than one sequence and is left out"
    assert said.pop() == f"train: {advice(ShardSet.open(tmp_path / 'out' / 'train').index)}"
    assert [line.split(":")[0] for line in said] == ["train", "validation", "test"]
    stored, source = 17 * SEQUENCE, sum(SAMPLES[n] for n in SAMPLES if n.startswith("train"))
    assert f"({stored / source:.2f} times the recordings' samples)" in said[0]
    assert "4 items, 17 sequences" in said[0]


def test_the_right_sets_are_not_built_again(sets: Path) -> None:
    before = snapshot(sets), (sets / "train" / "index.json").stat().st_mtime_ns
    said: list[str] = []
    build_sets(record(sets.parent / "recordings"), sets, NEEDS, 6000, say=said.append)
    assert (snapshot(sets), (sets / "train" / "index.json").stat().st_mtime_ns) == before
    assert said == [f"{sets}: train, validation, test are up to date"]


@pytest.mark.parametrize(
    "options, said",
    [
        ({"sequences_per_record": 2}, "train has 1 sequences a record instead of 2"),
        ({"sample_format": "pcm16"}, "test is kept as float32 instead of pcm16"),
        ({"shard_bytes": 60_000}, "train has shards of another size"),
    ],
)
def test_sets_that_are_cut_in_another_way_are_others(
    sets: Path, options: dict[str, Any], said: str
) -> None:
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    options = {"shard_bytes": 6000, **options}
    with pytest.raises(ShardError, match=f"{said}.*--overwrite"):
        build_sets(manifest, sets, NEEDS, say=lambda _: None, **options)
    for _ in range(2):
        build_sets(manifest, sets, NEEDS, overwrite=True, say=lambda _: None, **options)
        lines: list[str] = []
        build_sets(manifest, sets, NEEDS, say=lines.append, **options)
        assert lines == [f"{sets}: train, validation, test are up to date"]
    assert [verify(sets / split) for split in ("train", "validation", "test")] == [[], [], []]


def test_what_a_sample_format_cannot_hold_is_refused_by_the_items_name(tmp_path: Path) -> None:
    manifest = record(tmp_path / "in")
    samples, rate = audio.read(tmp_path / "in" / "train-b-out.wav")
    audio.write(tmp_path / "in" / "train-b-out.wav", samples * 3, rate, "FLOAT")
    with pytest.raises(ShardError, match="output of item 'train-b' cannot be stored as pcm16"):
        build_sets(manifest, tmp_path / "out", NEEDS, sample_format="pcm16", say=lambda _: None)
    assert list((tmp_path / "out").iterdir()) == []
    build_sets(manifest, tmp_path / "out", NEEDS, say=lambda _: None)


def test_recordings_that_change_meanwhile_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shorter(manifest: Manifest, item: Any) -> Recording:
        whole = load_item(manifest, item)
        return replace(whole, input=whole.input[:, 1:], output=whole.output[:, 1:])

    monkeypatch.setattr(shard_build, "load_item", shorter)
    with pytest.raises(ShardError, match="has changed since the build began"):
        build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=lambda _: None)


def test_a_recording_that_is_written_over_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sum, by which leaks are found, would be that of other audio."""

    def writing(manifest: Manifest, item: Any) -> Recording:
        samples, rate = audio.read(item.output)
        audio.write(item.output, samples * 0.5, rate, "FLOAT")
        return load_item(manifest, item)

    monkeypatch.setattr(shard_build, "load_item", writing)
    with pytest.raises(ShardError, match=r"-out.wav has changed since the build began"):
        build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=lambda _: None)
    assert not list((tmp_path / "out").glob("[!.]*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thread_holds_one_recording_at_a_time_whatever_set_it_is_of(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, most = set[str](), list[int]()

    def counted(manifest: Manifest, item: Any) -> Recording:
        whole = load_item(manifest, item)
        alive.add(item.id)
        most.append(len(alive))
        weakref.finalize(whole, alive.discard, item.id)
        return whole

    monkeypatch.setattr(shard_build, "load_item", counted)
    build(tmp_path, workers=workers)
    assert len(most) >= len(SAMPLES) - 1 and max(most) <= workers


def test_former_sets_that_cannot_be_removed_hinder_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where a file that somebody reads stays."""
    remove = shutil.rmtree
    monkeypatch.setattr(
        shutil, "rmtree", lambda p, **how: None if ".replaced-" in str(p) else remove(p, **how)
    )
    manifest = record(tmp_path / "in")
    for _ in range(3):
        build_sets(manifest, tmp_path / "out", NEEDS, overwrite=True, say=lambda _: None)


def test_a_reader_of_a_set_that_is_replaced_gets_right_data_or_a_sentence(tmp_path: Path) -> None:
    """While builders change places as fast as they can, each reader keeps the set it opened."""
    manifests, right = [], {}
    for number, name in enumerate("ab"):
        manifests.append(record(tmp_path / name, {"train-a": 2000 + number, "train-b": 1500}))
        first, rate = audio.read(tmp_path / name / "train-a-out.wav")
        audio.write(tmp_path / name / "train-a-out.wav", first * (1 - number / 2), rate)
        build_sets(manifests[-1], tmp_path / f"{name}-sets", NEEDS, 20_000, say=lambda _: None)
        alone = ShardSet.open(tmp_path / f"{name}-sets" / "train")
        right[alone.fingerprint] = [alone.sequence(n).output for n in range(alone.n_sequences)]
    build_sets(manifests[0], tmp_path / "out", NEEDS, 20_000, say=lambda _: None)
    done, outcomes = threading.Event(), Counter[str]()
    wrong: list[Any] = []

    def read() -> None:
        while not done.is_set():
            try:
                shards = ShardSet.open(tmp_path / "out" / "train")
                for number in range(shards.n_sequences):
                    output = shards.sequence(number).output
                    if not np.array_equal(output, right[shards.fingerprint][number]):
                        wrong.append((shards.fingerprint, number))
                    outcomes[shards.fingerprint] += 1
            except ShardError:
                pass
            except Exception as error:
                wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(16):
        options: dict[str, Any] = {"overwrite": True, "say": lambda _: None}
        build_sets(manifests[1 - number % 2], tmp_path / "out", NEEDS, 20_000, **options)
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert outcomes.keys() == right.keys()


def other_audio(folder: Path) -> None:
    path = folder.parent / "recordings" / "train-a-out.wav"
    samples, rate = audio.read(path)
    audio.write(path, samples * 0.5, rate, "FLOAT")


def without_test(folder: Path) -> None:
    path = folder.parent / "recordings" / "manifest.yaml"
    manifest = Manifest.read(path)
    kept = tuple(item for item in manifest.items if item.split != "test")
    Manifest(path, RATE, manifest.device, manifest.controls, kept).write(path)


@pytest.mark.parametrize(
    "change, needs, said",
    [
        (other_audio, NEEDS, "made of other recordings"),
        (without_test, NEEDS, "there are no test items now"),
        (None, Needs((64, 64), 100, n_params=1), r"lengths \[64, 32, 32\] instead of \[64, 64\]"),
        (None, Needs(NEEDS.lengths, 99, n_params=1), "input_length 100 instead of 99"),
        (lambda sets: os.truncate(sets / "test" / "shard-00000.tar", 99), NEEDS, "truncated"),
        (lambda sets: (sets / "test" / "index.json").unlink(), NEEDS, "index.json cannot be read"),
        (lambda sets: (sets / "train").rename(sets / "else"), NEEDS, "train is missing"),
    ],
)
def test_other_sets_are_replaced_only_when_told_to(
    sets: Path, change: Callable[[Path], Any] | None, needs: Needs, said: str
) -> None:
    if change is not None:
        change(sets)
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    before = snapshot(sets)
    with pytest.raises(ShardError, match=f"{said}.*--overwrite"):
        build_sets(manifest, sets, needs, say=lambda _: None)
    assert snapshot(sets) == before
    if "index.json cannot" in said:
        return  # a folder without an index is not known to be ours: see the next test
    folders = build_sets(manifest, sets, needs, overwrite=True, say=lambda _: None)
    assert [verify(folder) for folder in folders] == [[]] * len(folders)
    assert {p.name for p in sets.iterdir()} - {"else"} == {folder.name for folder in folders}
    assert ShardSet.open(sets / "train").geometry == needs.geometry(RATE, [RATIO], "")


@pytest.mark.parametrize("stranger", ["notes.txt", "holiday.tar", ".hidden"])
def test_nothing_is_replaced_that_is_not_a_set(sets: Path, stranger: str) -> None:
    (sets / "validation" / stranger).write_text("mine")
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    with pytest.raises(ShardError, match=f"{stranger}.*move it away"):
        build_sets(manifest, sets, NEEDS, overwrite=True, say=lambda _: None)
    assert (sets / "validation" / stranger).read_text() == "mine"


@pytest.mark.parametrize("kind", ["file", "link", "no index"])
def test_a_stranger_in_the_place_of_a_set_is_left_alone(sets: Path, kind: str) -> None:
    if kind == "no index":
        (sets / "test" / "index.json").unlink()
    else:
        (sets / "test").rename(sets / "aside")
        if kind == "file":
            (sets / "test").write_text("mine")
        else:
            (sets / "test").symlink_to("aside")
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    before = snapshot(sets)
    with pytest.raises(ShardError, match="test stands where a set of shards would be"):
        build_sets(manifest, sets, NEEDS, overwrite=True, say=lambda _: None)
    assert snapshot(sets) == before


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    manifest = record(tmp_path / "demo" / "recordings")
    for overwrite in (False, True):
        build_sets(manifest, tmp_path / "demo", NEEDS, overwrite=overwrite, say=lambda _: None)
        names = {path.name for path in (tmp_path / "demo").iterdir()}
        assert names == {"recordings", "train", "validation", "test"}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError(28, "No space left")])
def test_a_build_that_fails_half_way_leaves_what_was_there(
    sets: Path, existing: bool, error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sets if existing else sets.parent / "new"
    before = snapshot(out)
    calls: list[str] = []

    def failing(manifest: Manifest, item: Any) -> Recording:
        calls.append(item.id)
        if item.split == "validation":
            raise error
        return load_item(manifest, item)

    monkeypatch.setattr(shard_build, "load_item", failing)
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    with pytest.raises(ShardError if isinstance(error, OSError) else error):
        build_sets(manifest, out, NEEDS, overwrite=True, say=lambda _: None)
    assert "validation-a" in calls
    kept = [path for path in out.iterdir() if path.name.startswith(".")]
    assert bool(kept) == (error is KeyboardInterrupt)  # to go on with: see test_shard_kills.py
    for path in kept:
        shutil.rmtree(path)
    assert snapshot(out) == before
    assert sorted(p.name for p in out.iterdir()) == sorted({name.split("/")[0] for name in before})


def test_old_sets_come_back_when_the_new_cannot_take_their_place(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(sets)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if Path(target) == sets / "validation" and self.name == "validation":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    manifest = Manifest.read(sets.parent / "recordings" / "manifest.yaml")
    with pytest.raises(ShardError, match="Input/output error"):
        build_sets(manifest, sets, NEEDS, overwrite=True, say=lambda _: None)
    assert snapshot(sets) == before


def test_old_sets_that_cannot_even_go_back_are_kept_until_the_next_build(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = record(sets.parent / "other", {"train-z": 500, "test-z": 400})
    before, rename = snapshot(sets), Path.rename
    moved: list[Path] = []

    def failing(self: Path, target: Path) -> Path:
        if len(moved) == 4:
            raise OSError(5, "Input/output error")
        moved.append(self)
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        with pytest.raises(ShardError, match="Input/output error"):
            build_sets(manifest, sets, NEEDS, overwrite=True, say=lambda _: None)
    contents = snapshot(sets).values()
    assert all(data in contents for data in before.values())
    said: list[str] = []
    build_sets(manifest, sets, NEEDS, say=said.append)
    assert said == [f"{sets}: train, test are up to date"]
    assert sorted(path.name for path in sets.iterdir()) == ["test", "train"]


def test_a_killed_builds_leftovers_are_named(tmp_path: Path) -> None:
    (tmp_path / "out" / ".building-dead").mkdir(parents=True)
    said: list[str] = []
    build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=said.append)
    assert any(".building-dead was left" in line for line in said)
    assert (tmp_path / "out" / ".building-dead").is_dir()


BAD_BUILDS: list[tuple[dict[str, Any], Needs, str]] = [
    ({"samples": {"train-a": 500, "test-a": SEQUENCE - 1}}, NEEDS, "test item 'test-a' has 163"),
    ({"samples": {"train-a": 99, "train-b": 9}}, NEEDS, "train item 'train-a' has 99 samples"),
    ({"channels": 2}, NEEDS, "item 'train-a' has 2 input channels"),
    ({"sidechain": 1}, NEEDS, "item 'train-a' has 2 input channels"),
    ({}, Needs((64,), 100), r"1 controls \(ratio\) where the model takes 0"),
    ({}, Needs((64,), 100, sidechain_channels=1, n_params=1), "has 1 input channels"),
]


@pytest.mark.parametrize("recorded, needs, said", BAD_BUILDS)
def test_recordings_that_cannot_serve_are_refused_and_nothing_is_left(
    tmp_path: Path, recorded: dict[str, Any], needs: Needs, said: str
) -> None:
    manifest = record(tmp_path / "in", **recorded)
    with pytest.raises(ShardError, match=said):
        build_sets(manifest, tmp_path / "out", needs, say=lambda _: None)
    assert list((tmp_path / "out").glob("*")) == []


def test_a_faulty_recording_is_refused_by_its_own_name(tmp_path: Path) -> None:
    manifest = record(tmp_path / "in")
    audio.write(tmp_path / "in" / "test-a-out.wav", np.full((1, 292), np.nan), RATE, "FLOAT")
    with pytest.raises(UserError, match="test-a-out.wav"):
        build_sets(manifest, tmp_path / "out", NEEDS, say=lambda _: None)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ShardError, match="out cannot be made"):
        build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=lambda _: None)


def test_a_disk_that_is_too_small_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10_000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(ShardError, match="the sets take 0.0 GB more"):
        build_sets(record(tmp_path / "in"), tmp_path / "out", NEEDS, say=lambda _: None)
