"""Checkpoints: whole or absent, checked byte by byte, and never executed."""

from __future__ import annotations

import pickle

import pytest
import torch

from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint, CheckpointError
from sptmod_dist.train.run_folder import RunError, RunFolder

SAVED = Checkpoint(
    weights={"effect.a": torch.randn(3, 4), "spn.b": torch.randn(2, dtype=torch.float64)},
    moments={"effect.a.exp_avg": torch.randn(3, 4), "effect.a.step": torch.tensor(7.0)},
    state={"progress": {"iteration": 7}, "config": {"name": "x"}},
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


def test_the_newest_whole_checkpoint_is_taken(tmp_path):
    run = RunFolder(tmp_path)
    assert run.last_checkpoint() is None
    for n in (1, 2):
        checkpoint.save(run.checkpoints, f"step-{n:08d}", SAVED)
    (run.checkpoints / "step-00000002" / "state.json").write_text("{}")
    path, _ = run.last_checkpoint()
    assert path.name == "step-00000001"
    (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match="step-00000002"):
        run.last_checkpoint()


def prepare(path, **arguments):
    RunFolder(path).prepare("name: x\n", **{"resuming": False, "overwrite": False, **arguments})


def test_a_run_is_never_written_over_unasked(tmp_path):
    run = tmp_path / "run"
    prepare(run)
    (run / "notes.txt").write_text("mine")
    (run / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match="--resume.*--overwrite"):
        prepare(run)
    prepare(run, resuming=True)
    assert (run / "metrics.jsonl").exists()
    prepare(run, overwrite=True)
    assert not (run / "metrics.jsonl").exists() and (run / "notes.txt").read_text() == "mine"


def test_a_folder_that_is_no_run_is_never_cleared(tmp_path):
    (tmp_path / "logs").mkdir()
    with pytest.raises(RunError, match="holds no run"):
        prepare(tmp_path, overwrite=True)
    assert (tmp_path / "logs").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        prepare(tmp_path / "file")
