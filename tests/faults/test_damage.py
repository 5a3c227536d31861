"""A newest checkpoint that is damaged, in whatever file and way, costs no more than itself."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.runs_apart import differences
from toy import make_toy, toy_config

from sptmod_dist.errors import UserError
from sptmod_dist.train.checkpoint import AVERAGES, MANIFEST, MOMENTS, STATE, WEIGHTS
from sptmod_dist.train.main import train
from sptmod_dist.train.run_folder import RunFolder

SETTINGS = {"optimizer": {"average": 0.9}, "checkpoint": {"groups": 1, "keep": 3}}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "flipped": flip,
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole training, and one that ended before its best validation, in one folder."""
    folder = tmp_path_factory.mktemp("damage")
    make_toy(folder)
    train(toy_config(folder, name="whole", **SETTINGS))
    train(toy_config(folder, name="stopped", stopping={"max_iterations": 15}, **SETTINGS))
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", [WEIGHTS, MOMENTS, AVERAGES, STATE, MANIFEST])
def test_the_next_older_one_is_taken_and_the_end_is_the_same(
    stopped: Path, file: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{damage}-{file}"
    run = RunFolder(stopped / "runs" / name)
    shutil.copytree(stopped / "runs" / "stopped", run.path)
    newest = [run.checkpoints / "step-00000015", run.checkpoints / "best-00000015"]
    for path in newest:
        DAMAGES[damage](path / file)
    assert train(toy_config(stopped, name=name, **SETTINGS), resume="auto") == 0
    said = capsys.readouterr().err
    assert "continuing from" in said and "step-00000012" in said
    assert "damaged checkpoints were set aside: step-00000015, best-00000015" in said
    assert (run.checkpoints / "damaged-step-00000015").is_dir(), "nothing is thrown away"
    for kind in ("weights", "moments", "averages"):
        assert kind not in differences(stopped / "runs" / "whole", run.path)


def test_a_run_of_which_every_checkpoint_is_damaged_says_so_and_stays(stopped: Path) -> None:
    run = RunFolder(stopped / "runs" / "hopeless")
    shutil.copytree(stopped / "runs" / "stopped", run.path)
    for path in run.checkpoints.iterdir():
        truncate(path / WEIGHTS)
    before = sorted(path.name for path in run.checkpoints.iterdir())
    with pytest.raises(UserError, match="weights.safetensors is damaged"):
        train(toy_config(stopped, name="hopeless", **SETTINGS), resume="auto")
    assert sorted(path.name for path in run.checkpoints.iterdir()) == before


class Malice:
    """What a pickle can do to whoever loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], object], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", [WEIGHTS, MOMENTS, AVERAGES, STATE, MANIFEST, "pytorch_model.bin"])
def test_nothing_in_a_checkpoint_is_ever_executed(
    stopped: Path, file: str, tmp_path: Path
) -> None:
    run = RunFolder(stopped / "runs" / f"malice-{file}")
    shutil.copytree(stopped / "runs" / "stopped", run.path)
    proof = tmp_path / "executed"
    for path in run.checkpoints.iterdir():
        (path / file).write_bytes(pickle.dumps(Malice(proof)))
    name = run.path.name
    if file == "pytorch_model.bin":  # nobody reads it
        assert train(toy_config(stopped, name=name, **SETTINGS), resume="auto") == 0
    else:
        with pytest.raises(UserError, match="is damaged|is missing or unreadable"):
            train(toy_config(stopped, name=name, **SETTINGS), resume="auto")
    assert not proof.exists()
