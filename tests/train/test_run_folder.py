"""A run's folder: never written over unasked, by two at once, or by what a kill has left."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sptmod_dist.train import checkpoint, run_folder
from sptmod_dist.train.checkpoint import Checkpoint, CheckpointError
from sptmod_dist.train.run_folder import RunError, RunFolder


def saved(iteration: int) -> Checkpoint:
    state = {"progress": {"iteration": iteration}, "config": {}, "data": {}}
    return Checkpoint({"effect.a": torch.ones(3)}, {}, state)


def save(run: RunFolder, kind: str, iteration: int) -> Path:
    return checkpoint.save(run.checkpoints, f"{kind}-{iteration:08d}", saved(iteration))


def begin(path: Path, *, resuming: bool = False, overwrite: bool = False, **more: Any) -> RunFolder:
    """As a training begins in a folder; it ends when the lock is released."""
    run = RunFolder(path)
    run.claim(resuming=resuming, overwrite=overwrite)
    try:
        run.prepare("name: x\n", resuming=resuming, **more)
    except RunError:
        run.lock.release()
        raise
    return run


def train(path: Path, **arguments: Any) -> RunFolder:
    run = begin(path, **arguments)
    run.lock.release()
    return run


def test_a_run_is_never_written_over_unasked(tmp_path: Path) -> None:
    path = tmp_path / "run"
    train(path)
    (path / "notes.txt").write_text("mine")
    (path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match="--resume.*--overwrite"):
        train(path)
    train(path, resuming=True)
    assert (path / "metrics.jsonl").exists()
    train(path, overwrite=True)
    assert not (path / "metrics.jsonl").exists() and (path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", run_folder.KINDS)
def test_a_run_that_is_further_is_not_thrown_back(tmp_path: Path, kind: str) -> None:
    run = train(tmp_path / "run")
    early, last = save(run, "step", 8), save(run, kind, 9)
    with pytest.raises(RunError, match="further than step-00000008"):
        train(run.path, resuming=True, source=early)
    train(run.path, resuming=True, source=last)


def test_a_checkpoint_of_another_run_takes_no_run_over(tmp_path: Path) -> None:
    """However much further it is: the other one's best and last would be pruned."""
    run, other = train(tmp_path / "run"), train(tmp_path / "other")
    here, later = save(run, "best", 9), save(other, "step", 24)
    with pytest.raises(RunError, match="another run than that of .*stands at iteration 9"):
        train(run.path, resuming=True, source=later)
    assert here.is_dir()
    train(tmp_path / "new", resuming=True, source=later)


def test_processes_that_do_not_share_the_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "_SEEN_WITHIN", 0.3)
    first, same, apart = (RunFolder(tmp_path / name) for name in ("a", "a", "b"))
    first.claim(resuming=False, overwrite=False)
    first.show("word")
    same.require_seen("word")
    with pytest.raises(RunError, match="b on .* is not the folder that the first process writes"):
        apart.require_seen("word")
    first.hide("word")
    with pytest.raises(RunError, match="give a runs_dir that all processes share"):
        same.require_seen("word")
    first.lock.release()
    assert not first.path.exists() and not apart.path.exists()


def test_two_trainings_never_write_one_run(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    for arguments in ({"resuming": True}, {"overwrite": True}):
        with pytest.raises(RunError, match="another training"):
            train(tmp_path / "run", **arguments)
    run.lock.release()
    train(tmp_path / "run", resuming=True)


def test_nothing_is_read_or_changed_before_the_folder_is_ours(tmp_path: Path) -> None:
    """A checkpoint that was chosen while another training went on would throw it back."""
    run = begin(tmp_path)
    left = [tmp_path / "requeue", run.checkpoints / ".replaced-step-00000009"]
    left[0].touch()
    save(run, "step", 9).rename(left[1])
    with pytest.raises(RunError, match="another training"):
        RunFolder(tmp_path).claim(resuming=True, overwrite=False)
    assert all(path.exists() for path in left)


def test_what_a_kill_between_two_renames_left_is_the_newest_checkpoint(tmp_path: Path) -> None:
    run = train(tmp_path)
    save(run, "step", 3)
    save(run, "step", 9).rename(run.checkpoints / ".replaced-step-00000009")
    (run.checkpoints / ".writing-step-00000009").mkdir()
    (tmp_path / ".status-abc.json").write_text("{")
    run.claim(resuming=True, overwrite=False)
    assert run.last_checkpoint()[0].name == "step-00000009"  # type: ignore[index]
    assert not (tmp_path / ".status-abc.json").exists()
    assert not (run.checkpoints / ".writing-step-00000009").exists()


def test_a_start_that_comes_to_nothing_leaves_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a" / "run")
    run.claim(resuming=False, overwrite=False)
    run.lock.release()
    assert not run.path.exists()
    (tmp_path / "mine").mkdir()
    mine = RunFolder(tmp_path / "mine")
    mine.claim(resuming=False, overwrite=False)
    mine.lock.release()
    assert mine.path.is_dir(), "it was there before"


def test_a_disk_that_is_full_at_the_start_does_not_lock_the_name_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sptmod_dist.files.fsync_file", full)
        with pytest.raises(RunError, match="No space left"):
            train(tmp_path / "run")
    train(tmp_path / "run")


def test_a_start_that_may_not_write_does_not_lock_the_name_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(run_folder, "require_writable", full)
    with pytest.raises(RunError, match="No space left"):
        train(tmp_path / "run")
    monkeypatch.undo()
    train(tmp_path / "run")


def test_a_start_that_was_killed_does_not_lock_the_name_out(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".config-abc.yaml").touch()
    train(tmp_path)


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(RunError, match="cannot be locked .No locks available.*choose a runs_dir"):
        train(tmp_path / "run")


def test_a_folder_that_was_replaced_while_waiting_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock of a file that somebody removed meanwhile keeps nobody out."""
    flock, other = fcntl.flock, RunFolder(tmp_path / "run")

    def late(file: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        os.unlink(file.name)
        other.lock.take()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(RunError, match="another training"):
        RunFolder(tmp_path / "run").lock.take()


@pytest.mark.parametrize("how", [shutil.rmtree, lambda path: path.rename(path.with_name("b"))])
def test_a_folder_that_vanished_is_made_anew(tmp_path: Path, how: Any) -> None:
    run = begin(tmp_path / "a")
    assert not run.restore()
    how(tmp_path / "a")
    assert run.restore() and run.is_run and not run.restore()
    with pytest.raises(RunError, match="another training"):
        train(tmp_path / "a", resuming=True)


def test_a_folder_in_which_another_training_has_begun_is_left_to_it(tmp_path: Path) -> None:
    run = begin(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    other = begin(tmp_path / "a")
    with pytest.raises(RunError, match="another training"):
        run.restore()
    assert other.is_run and not other.lock.is_lost


def test_a_launch_is_known_by_those_of_it_that_are_left(tmp_path: Path) -> None:
    run = train(tmp_path, launch=["node1 77 5", "node2 78 6"])
    assert run.lock.knows(["node2 78 6", "node3 1 1"])
    assert not run.lock.knows(["node2 79 6"]) and not run.lock.knows([])
    train(tmp_path, resuming=True, launch=["node3 1 1"])
    assert not run.lock.knows(["node2 78 6"])


@pytest.mark.parametrize("text", ["", "{", "null", "3", "[" * 100_000, "\xff"])
def test_a_lock_that_says_nothing_knows_nobody(tmp_path: Path, text: str) -> None:
    run = train(tmp_path, launch=["a"])
    run.lock.path.write_text(text, encoding="latin-1")
    assert not run.lock.knows(["a"])


@pytest.mark.parametrize("arguments", [{"overwrite": True}, {"resuming": True}])
def test_somebody_elses_config_yaml_makes_no_run(tmp_path: Path, arguments: Any) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "config.yaml").write_text("name: mine")
    with pytest.raises(RunError, match="holds no run"):
        train(tmp_path, **arguments)
    assert (tmp_path / "config.yaml").read_text() == "name: mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "evaluation"]


@pytest.mark.parametrize("damage", ["{", "{}", "[]", "", "[" * 100_000])
def test_a_damaged_summary_is_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / "summary.json").write_text(damage)
    assert not RunFolder(tmp_path).summary()


def test_nothing_waits_for_a_pipe(tmp_path: Path) -> None:
    run = train(tmp_path)
    newest = save(run, "step", 9)
    for path in (newest / "state.json", tmp_path / "summary.json", tmp_path / "status.json"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    assert run.summary() is None and run.status() is None
    with pytest.raises(CheckpointError, match="state.json is missing"):
        run.last_checkpoint()


def test_a_folder_that_is_no_run_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine").touch()
    with pytest.raises(RunError, match="holds no run"):
        train(tmp_path, overwrite=True)
    assert (tmp_path / "logs" / "mine").is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        train(tmp_path / "file")


# Checkpoints ---------------------------------------------------------------------------------


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.last_checkpoint() is None
    for n in (1, 2):
        save(run, "step", n)
    (run.checkpoints / "step-00000002" / "state.json").write_text("{}")
    path, _ = run.last_checkpoint()  # type: ignore[misc]
    assert path.name == "step-00000001"
    (path / "state.json").unlink()
    with pytest.raises(CheckpointError, match="step-00000002"):
        run.last_checkpoint()


def test_only_what_is_damaged_is_set_aside(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for kind, n in (("step", 1), ("best", 2), ("step", 2), ("epoch", 3)):
        save(run, kind, n)
    (run.checkpoints / "epoch-00000003" / "manifest.json").unlink()
    taken, _ = run.last_checkpoint()  # type: ignore[misc]
    assert run.set_aside_before(taken) == ["epoch-00000003"]
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names == ["best-00000002", "damaged-epoch-00000003", "step-00000001", "step-00000002"]
    assert run.set_aside_before(run.last_checkpoint()[0]) == []  # type: ignore[index]


def test_a_checkpoint_under_anothers_name_is_not_the_newest(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save(run, "step", 1)
    save(run, "step", 2).rename(run.checkpoints / "step-00000099")
    taken, _ = run.last_checkpoint()  # type: ignore[misc]
    assert taken.name == "step-00000001"
    assert run.set_aside_before(taken) == ["step-00000099"]


def test_a_best_one_that_is_damaged_is_none(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert not run.has_best(5)
    best = save(run, "best", 5)
    assert run.has_best(5) and not run.has_best(4)
    (best / "weights.safetensors").write_bytes(b"")
    assert not run.has_best(5)


def test_of_a_checkpoint_that_was_moved_and_linked_the_link_goes(tmp_path: Path) -> None:
    run, elsewhere = RunFolder(tmp_path / "run"), tmp_path / "elsewhere"
    save(run, "step", 1).rename(elsewhere)
    (run.checkpoints / "step-00000001").symlink_to(elsewhere)
    save(run, "step", 2)
    assert checkpoint.load(run.checkpoints / "step-00000001")
    checkpoint.prune(run.checkpoints, "step", 1)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000002"]
    assert checkpoint.load(elsewhere).state == saved(1).state
