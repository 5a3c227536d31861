"""The program lives in the package: its wheel alone trains, evaluates and renders."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from processes import ROOT, run
from toy import make_toy, write_config

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def install_wheel(folder: Path) -> Path:
    source, site = folder / "source", folder / "site"
    source.mkdir()
    shutil.copytree(ROOT / "sptmod_dist", source / "sptmod_dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder), str(source)]
    result = run([*PIP, *build], limit=60)
    assert result.returncode == 0, result.stderr
    wheel = next(folder.glob("*.whl"))
    result = run([*PIP, "install", "-q", "--no-deps", "--target", str(site), str(wheel)], limit=60)
    assert result.returncode == 0, result.stderr
    return site


@pytest.mark.system
def test_an_installed_wheel_trains_and_renders_in_an_empty_directory(tmp_path):
    site = install_wheel(tmp_path)
    data, empty = tmp_path / "data", tmp_path / "empty"
    data.mkdir(), empty.mkdir()
    make_toy(data)
    config = write_config(data, runs_dir="runs", stopping={"max_iterations": 6})

    def command(*arguments: str):
        launch = [sys.executable, "-m", "sptmod_dist", *arguments]
        result = run(launch, limit=60, cwd=empty, PYTHONPATH=str(site))
        assert result.returncode == 0, result.stderr
        return result.stdout

    where = "import sptmod_dist; print(sptmod_dist.__file__)"
    found = run([sys.executable, "-c", where], cwd=empty, PYTHONPATH=str(site)).stdout
    assert Path(found.strip()).is_relative_to(site)
    ours, theirs = (
        {path.name for path in (folder / "sptmod_dist/data/clips").glob("*.flac")}
        for folder in (ROOT, site)
    )
    assert ours == theirs != set()
    command("train", "--config", str(config))
    assert (empty / "runs" / "toy" / "summary.json").is_file()
    assert "ESR" in command("evaluate", "runs/toy")
    source = str(data / "recordings" / "test0-in.wav")
    command("render", "runs/toy", source, "out.wav", "--control", "drive=4")
    assert (empty / "out.wav").is_file()
    assert str(ROOT) not in (empty / "runs" / "toy" / "logs" / "rank0.log").read_text()
