"""A disk that fills up during a training, and folders that cannot be written at all."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.runs_apart import differences
from toy import make_toy, toy_config

from sptmod_dist.errors import UserError
from sptmod_dist.train.keeper import Keeper
from sptmod_dist.train.main import train
from sptmod_dist.train.run_folder import HEADER, RunFolder
from sptmod_dist.train.trainer import Trainer


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    make_toy(folder)
    train(toy_config(folder, name="whole"))
    return folder


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "sptmod", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_disk_that_is_full_for_a_while_costs_no_more_than_a_checkpoint(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = toy / "small"
    learn, write = Trainer._learn, Keeper.write
    whole_at: list[str] = []

    def learning(self, group):
        if self.progress.iteration == 9:
            fill(disk)
        if self.progress.iteration == 18:
            (disk / "filler").unlink()
        return learn(self, group)

    def writing(self, kind, iteration, saved):
        write(self, kind, iteration, saved)
        whole_at.append(RunFolder(disk / "full").last_checkpoint()[0].name)

    monkeypatch.setattr(Trainer, "_learn", learning)
    monkeypatch.setattr(Keeper, "write", writing)
    config = toy_config(toy, name="full", runs_dir=str(disk), checkpoint={"groups": 2})
    with mounted(disk, "size=1m"):
        assert train(config) == 0
        assert "not written: step-00000010" in capsys.readouterr().err or (
            "No space left" in (disk / "full" / "logs" / "rank0.log").read_text()
        )
        assert whole_at[:3] == ["step-00000006", "step-00000006", "step-00000006"]
        assert whole_at[-1] == "step-00000024"
        assert differences(toy / "runs" / "whole", disk / "full") == []


@pytest.mark.parametrize("part", ["", "run", "run/checkpoints"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(
    toy: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "fit", lambda self: pytest.fail("a step was taken"))
    runs = toy / f"readonly-{part.replace('/', '-')}"
    (runs / part).mkdir(parents=True)
    if part:
        (runs / "run" / "config.yaml").write_text(HEADER)
    config = toy_config(toy, name="run", runs_dir=str(runs))
    with mounted(runs / part, "ro,size=1m"):
        with pytest.raises(UserError, match="cannot be written .Read-only file system.: mend"):
            train(config, resume="auto")
