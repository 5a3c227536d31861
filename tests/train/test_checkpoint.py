"""Checkpoints: whole or absent, checked byte by byte, and never executed."""

from __future__ import annotations

import errno
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint, CheckpointError

SAVED = Checkpoint(
    weights={"effect.a": torch.randn(3, 4), "spn.b": torch.randn(2, dtype=torch.float64)},
    moments={"effect.a.exp_avg": torch.randn(3, 4), "effect.a.step": torch.tensor(7.0)},
    state={"progress": {"iteration": 7}, "config": {"name": "x"}, "data": {}},
)


@pytest.fixture
def saved(tmp_path):
    return checkpoint.save(tmp_path, "step-00000007", SAVED)


def test_what_was_saved_is_loaded_bit_for_bit(saved):
    loaded = checkpoint.load(saved)
    assert loaded.state == SAVED.state
    for ours, theirs in ((SAVED.weights, loaded.weights), (SAVED.moments, loaded.moments)):
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[k], theirs[k]) and ours[k].dtype == theirs[k].dtype
                   for k in ours)


FILES = ("weights.safetensors", "moments.safetensors", "state.json", "manifest.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["removed", "truncated", "flipped", "emptied"])
def test_a_damaged_checkpoint_is_refused_by_name(saved, file, damage):
    path = saved / file
    data = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    else:
        data[len(data) // 2] ^= 4
        new = {"truncated": data[: len(data) // 2], "flipped": data, "emptied": b""}[damage]
        path.write_bytes(bytes(new))
    with pytest.raises(CheckpointError, match=file):
        checkpoint.load(saved)


@pytest.mark.parametrize("number, works", [(errno.EIO, True), (errno.ESTALE, True), (13, False)])
def test_a_read_that_fails_once_is_no_damage(saved, monkeypatch, number, works):
    read, failed = checkpoint.read_plain, []

    def failing(file):
        if file.name == "weights.safetensors" and not failed:
            failed.append(file)
            raise OSError(number, "for once")
        return read(file)

    monkeypatch.setattr(checkpoint, "read_plain", failing)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    if works:
        checkpoint.load(saved)
    else:
        with pytest.raises(CheckpointError):
            checkpoint.load(saved)
    assert failed


def test_a_pickle_in_a_checkpoint_is_refused_and_not_run(saved, tmp_path):
    canary = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return (canary.write_text, ("",))

    (saved / "weights.safetensors").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)
    assert not canary.exists()


def test_a_failed_write_leaves_the_older_checkpoint_and_no_leftover(tmp_path, saved, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "fsync_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, "step-00000009", SAVED)
    assert [path.name for path in tmp_path.iterdir()] == [saved.name]
    checkpoint.load(saved)


def test_pruning_keeps_the_newest_and_removes_only_its_own(tmp_path):
    for n in (9, 10, 100, 20):
        checkpoint.save(tmp_path, f"step-{n:08d}", SAVED)
    checkpoint.save(tmp_path, "best-00000001", SAVED)
    (tmp_path / "step-mine").mkdir()
    checkpoint.prune(tmp_path, "step", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best-00000001", "step-00000020", "step-00000100", "step-mine"
    ]


@pytest.mark.parametrize("state", [{}, [], {"progress": {}, "config": {}}, {"progress": 3}])
def test_a_state_that_lacks_a_part_is_refused(tmp_path, state):
    path = checkpoint.save(tmp_path, "step-1", replace(SAVED, state=state))
    with pytest.raises(CheckpointError, match="lacks"):
        checkpoint.load(path)


def test_a_disk_that_is_really_full_is_an_oserror_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path, "step-1", SAVED)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_the_same_iteration_is_replaced_and_a_kill_in_between_is_mended(saved):
    folder = saved.parent
    checkpoint.save(folder, saved.name, SAVED)
    assert [path.name for path in folder.iterdir()] == [saved.name]
    saved.rename(folder / f".replaced-{saved.name}")  # killed between the two renames
    (folder / f".writing-{saved.name}").mkdir()
    checkpoint.save(folder, "step-00000008", SAVED)
    assert sorted(path.name for path in folder.iterdir()) == [saved.name, "step-00000008"]
    checkpoint.load(saved)


def test_a_checkpoint_that_cannot_be_replaced_stays(saved, monkeypatch):
    rename = Path.rename

    def failing(self, target):
        if self.name.startswith(".writing-"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        checkpoint.save(saved.parent, saved.name, SAVED)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    checkpoint.load(saved)


@pytest.mark.parametrize("file", ["state.json", "manifest.json"])
def test_what_is_nested_without_end_is_damaged(saved, file):
    (saved / file).write_text("[" * 100_000)
    if file == "state.json":
        manifest = json.loads((saved / "manifest.json").read_text())
        manifest["files"][file]["sha256"] = checkpoint.digest(saved / file)
        (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="cannot be read|unreadable"):
        checkpoint.load(saved)
