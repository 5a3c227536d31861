"""`inspect`: what is in a checkpoint is told, and nothing in it is ever executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import toy_config

from sptmod_dist.cli import main
from sptmod_dist.train import checkpoint
from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.config import to_dict
from sptmod_dist.train.progress import Progress
from sptmod_dist.train.run_folder import HEADER

WEIGHTS = {
    "effect.conv.weight": torch.full((3, 1, 4), 0.5),
    "effect.gain": torch.tensor(-2.0),
    "spn.bias": torch.tensor([3.0, 4.0], dtype=torch.float64),
}
MOMENTS = {"spn.bias.step": torch.tensor(1.0), "spn.bias.exp_avg": torch.zeros(2)}
FILES = ("manifest.json", "moments.safetensors", "state.json", "weights.safetensors")


def save(folder: Path, iteration: int = 20, **changes: Any) -> Path:
    """A checkpoint of a toy training."""
    progress = Progress(epoch=1, group=3, iteration=iteration, best=0.75, best_iteration=10)
    state = {
        "progress": progress.to_dict(),
        "config": to_dict(toy_config(folder)),
        "data": {"sample_rate": 8000, "fingerprints": {"train": "abc", "validation": "def"}},
        "versions": {"torch": "9.9.9"},
        "seconds": 1800.0,
    }
    saved = Checkpoint(WEIGHTS, MOMENTS, {**state, **changes})
    return checkpoint.save(folder / "run" / "checkpoints", f"step-{iteration:08d}", saved)


def inspect(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["inspect", str(path)])
    return code, *capsys.readouterr()


def test_a_whole_checkpoint_is_told_in_every_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path)
    code, out, err = inspect(path, capsys)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    sizes = {name: (path / name).stat().st_size for name in FILES}
    for line in (
        "format sptmod-checkpoint-1, every file whole",
        "iteration 20",
        "epoch 1, group 3 next",
        "best ST 0.7500 at iteration 10",
        "hours 0.50",
        "torch 9.9.9",
        "batch_size 4 16",
        "optimizer.learning_rate 0.002 0.0005",
        "sample_rate 8000",
        'fingerprints.train "abc"',
        *(f"{name} {size} whole" for name, size in sizes.items()),
        "effect.conv.weight 3x1x4 1.73205",
        "effect.gain scalar 2",
        "spn.bias 2 5",
        "effect: 13 parameters, 52 bytes, norm 2.64575",
        "spn: 2 parameters, 16 bytes, norm 5",
        "moments: 2 tensors, 12 bytes",
        "averages: 0 tensors, 0 bytes",
    ):
        assert line in lines, out
    assert not any(line.startswith("optimizer.weight_decay") for line in lines), "a default"


def make_run(folder: Path) -> Path:
    """A run with checkpoints of iterations 10 and 20."""
    for iteration in (10, 20):
        save(folder, iteration)
    (folder / "run" / "config.yaml").write_text(HEADER)
    return folder / "run"


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "is damaged"),
    "flipped": (flip, "is damaged"),
    "removed": (Path.unlink, "is missing"),
    "a link to nowhere": (link, "is missing"),
    "a pipe": (pipe, "is no plain file"),
}


@pytest.mark.parametrize("file", FILES[1:])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_the_code_is_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, damage: str
) -> None:
    path = save(tmp_path)
    put_in, words = DAMAGES[damage]
    put_in(path / file)
    code, out, _ = inspect(path, capsys)
    (line,) = (line for line in out.splitlines() if file in line)
    assert code == 2 and line.endswith(words)


def test_of_a_run_the_newest_whole_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    assert "step-00000020\n  format" in inspect(run, capsys)[1]
    truncate(run / "checkpoints" / "step-00000020" / "weights.safetensors")
    code, out, _ = inspect(run, capsys)
    assert code == 0
    assert "step-00000020 is damaged\n" in out and "step-00000010\n  format" in out
    truncate(run / "checkpoints" / "step-00000010" / "weights.safetensors")
    assert inspect(run, capsys)[0] == 2


def test_a_newest_one_without_a_manifest_is_damaged_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path)
    (run / "checkpoints" / "step-00000020" / "manifest.json").unlink()
    code, out, _ = inspect(run, capsys)
    assert code == 0
    assert "step-00000020 is damaged\n" in out and "step-00000010\n  format" in out


class Malice:
    """What a pickle can do to whoever loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.path,)


def rewrite_manifest(path: Path) -> None:
    """As somebody would who wants the files to count as whole."""
    manifest = json.loads((path / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        entry["sha256"] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("file", [*FILES, "averages.safetensors", "model.pt", "evil.pkl"])
@pytest.mark.parametrize("in_the_manifest", [False, True])
def test_a_malicious_pickle_in_a_checkpoint_is_never_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, in_the_manifest: bool
) -> None:
    proof = tmp_path / "executed"
    path = save(tmp_path)
    (path / file).write_bytes(pickle.dumps(Malice(proof)))
    if in_the_manifest and file != "manifest.json":
        rewrite_manifest(path)
    code, out, err = inspect(path, capsys)
    assert not proof.exists()
    if file not in FILES:
        assert code == 0 and "not ours, not opened" in out
    elif in_the_manifest and file != "manifest.json":
        assert code == 2 and "cannot be read" in err
    else:
        assert code == 2 and re.search(f"{file} .* is (damaged|unreadable)", out)
    pickle.loads((path / file).read_bytes())
    assert proof.exists(), "it would have been executed"


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "x.PKL", "missing.pth"])
def test_a_pickle_is_refused_unopened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    proof, path = tmp_path / "executed", tmp_path / name
    if name != "missing.pth":
        path.write_bytes(pickle.dumps(Malice(proof)))
    code, out, err = inspect(path, capsys)
    assert (code, out) == (2, "") and not proof.exists()
    assert f"{name} is a pickle, which can run anything when it is read" in err


def test_what_is_no_checkpoint_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "optim.pt").touch()
    empty_run = tmp_path / "empty"
    empty_run.mkdir()
    (empty_run / "config.yaml").write_text(HEADER)
    for where, words in {
        path / "state.json": f"is a file: give its folder, {path}",
        tmp_path / "nowhere": "nowhere does not exist",
        foreign: "(no manifest.json), only pickles, which are never opened (optim.pt)",
        tmp_path: "(no manifest.json): give a run's folder",
        empty_run: "has no checkpoint yet",
    }.items():
        code, out, err = inspect(where, capsys)
        assert (code, out, err.count("\n")) == (2, "", 1) and words in err


@pytest.mark.parametrize(("changes", "words"), [
    ({"progress": {"epoch": 1}}, "progress.group is missing"),
    ({"config": 3}, "lacks 'config'"),
    ({"data": None}, "lacks 'data'"),
])
def test_a_state_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    code, _, err = inspect(save(tmp_path, **changes), capsys)
    assert code == 2 and words in err


def test_a_state_nested_without_end_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path)
    (path / "state.json").write_text("[" * 100_000)
    rewrite_manifest(path)
    code, _, err = inspect(path, capsys)
    assert code == 2 and "cannot be read (maximum recursion" in err


def test_odd_but_harmless_states_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(
        tmp_path,
        config={"later": {"setting": 3}, "name": "\x1b[2J"},
        data={},
        versions=["?"],
        seconds="long",
    )
    code, out, _ = inspect(path, capsys)
    assert code == 0 and "\x1b" not in out
    assert ["later.setting", "3", "not", "known"] in [line.split() for line in out.splitlines()]
