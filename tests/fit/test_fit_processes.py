"""A fit with real processes: two of them, killed ones, and an installed wheel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from processes import ROOT, end, environment, run

from tests.fit.pairs import write_pair, write_settings
from tests.test_wheel import install_wheel

pytestmark = pytest.mark.system
FIT = [sys.executable, "-m", "sptmod_dist", "fit", "dry.wav", "wet.wav"]


def test_two_processes_learn_a_pair_without_a_gpu(tmp_path):
    write_pair(tmp_path)
    options = [f"--config={write_settings(tmp_path)}", "--distributed.processes=2"]
    done = run([*FIT, *options], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 processes on the CPU" in done.stdout and "2 processes on cpu" in done.stderr


def test_a_fit_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path):
    write_pair(tmp_path)
    options = [f"--config={write_settings(tmp_path)}", "--distributed.processes=1"]
    endless = [*FIT, *options, "--stopping.max_iterations=1000000"]
    mark = f"SPTMOD_TEST=killed-{os.getpid()}"
    variables = environment(**dict([mark.split("=")]))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(endless, cwd=tmp_path, env=variables, **quiet)
    checkpoints = tmp_path / "fits/wet/run/checkpoints"
    deadline = time.monotonic() + 60
    while not list(checkpoints.glob("step-*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert end(mark)  # the fit and its training, at once and without a word
    assert process.wait() == -signal.SIGKILL
    newest = max(int(path.name[5:]) for path in checkpoints.glob("step-*"))
    done = run([*FIT, *options, f"--stopping.max_iterations={newest + 8}"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "continuing from" in done.stderr and "best static gain" in done.stdout


def test_an_installed_wheel_fits_in_an_empty_folder(tmp_path):
    site, empty = install_wheel(tmp_path), tmp_path / "empty"
    empty.mkdir()
    write_pair(empty)
    options = [f"--config={write_settings(tmp_path)}", "--distributed.processes=1"]
    done = run([*FIT, *options], cwd=empty, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    render = [sys.executable, "-m", "sptmod_dist", "render", "fits/wet/run", "dry.wav", "out.wav"]
    assert run(render, cwd=empty, PYTHONPATH=str(site)).returncode == 0
    assert (empty / "out.wav").is_file()
    assert str(ROOT) not in (empty / "fits/wet/run/logs/rank0.log").read_text()
