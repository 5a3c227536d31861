"""Real processes: a capture that is killed goes on, one that is interrupted leaves nothing running,
and the benchmark of capturing runs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest

from tests.capture.sessions import plan_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
PROGRAM = [sys.executable, "-m", "sptmod_dist"]
TAKES = 40


def sums(folder: Path) -> dict[str, str]:
    files = [*folder.glob("dry/*"), *folder.glob("wet/*"), folder / "items.csv"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def start(folder: Path, *device: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*PROGRAM, "capture", str(folder), *device],
        env=processes.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for_lines(folder: Path, count: int) -> None:
    """Until so many takes are in the journal."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        journal = folder / "journal.jsonl"
        if journal.exists() and len(journal.read_bytes().splitlines()) >= count:
            return
        time.sleep(0.002)
    raise AssertionError("the capture did not begin")


def test_a_capture_killed_at_three_moments_ends_with_the_bytes_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    pytest.importorskip("pedalboard", reason="the extra 'devices' is not installed")
    gains = [-12.0 + 0.5 * number for number in range(TAKES)]
    plan_of(tmp_path / "whole", gains)
    done = processes.run([*PROGRAM, "capture", str(tmp_path / "whole"), "plugin", "Gain"])
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "killed"
    plan_of(folder, gains)
    for lines in (1, 5, 20):
        process = start(folder, "plugin", "Gain")
        wait_for_lines(folder, lines)
        process.kill()
        process.wait()
        done_all = len((folder / "journal.jsonl").read_bytes().splitlines()) >= TAKES
        assert done_all or not (folder / "manifest.yaml").exists()
    done = processes.run([*PROGRAM, "capture", str(folder), "plugin", "Gain"])
    assert done.returncode == 0, done.stderr
    assert "are there already" in done.stdout
    assert sums(folder) == sums(tmp_path / "whole")


def test_a_killed_capture_leaves_nothing_outside_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, folder = tmp_path / "system", tmp_path / "session"
    system.mkdir()
    monkeypatch.setenv("TMPDIR", str(system))
    plan_of(folder, [0.0])
    code = f'import time; open("{tmp_path}/begun", "w"); time.sleep(3)'
    process = start(
        folder, "command", f"{sys.executable} -c '{code}' {{input}} {{output}} {{gain}}"
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert list(folder.glob(".tmp/*/input.wav")) and not list(system.glob("*take*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_capture_ends_its_commands_at_once(tmp_path: Path, number: int) -> None:
    plan_of(tmp_path, [0.0] * 4)
    mark = tmp_path / "pids"
    code = f'import os, time; open("{mark}", "a").write(f"{{{{os.getpid()}}}} "); time.sleep(60)'
    line = f"{sys.executable} -c '{code}' {{input}} {{output}} {{gain}}"
    process = start(tmp_path, "command", line)
    deadline = time.monotonic() + 60
    while not (mark.exists() and mark.read_text().endswith(" ")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode in (130, 143)
    assert b"0 of 4 takes are there; the same command records the rest" in said
    for pid in map(int, mark.read_text().split()):
        deadline = time.monotonic() + 10  # whoever inherits what was killed may take its time
        while is_there(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_there(pid)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(
    not Path("/usr/lib/vst3/ZamComp.vst3").exists(), reason="zam-plugins is not installed"
)
def test_a_killed_capture_leaves_no_plug_in_running(tmp_path: Path) -> None:
    pytest.importorskip("pedalboard", reason="the extra 'devices' is not installed")
    plan_of(tmp_path, [0.5 * number for number in range(TAKES)])
    process = start(tmp_path, "plugin", "/usr/lib/vst3/ZamComp.vst3", "--map", "gain=makeup")
    wait_for_lines(tmp_path, 3)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
    ).stdout.split()
    assert children
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(Path("/proc", pid).exists() for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if Path("/proc", pid).exists()]


def test_the_benchmark_of_capturing_prints_its_figures_and_targets(tmp_path: Path) -> None:
    pytest.importorskip("pedalboard", reason="the extra 'devices' is not installed")
    file = tmp_path / "figures.json"
    bench = [sys.executable, str(processes.ROOT / "launch" / "bench.py"), "capture"]
    done = processes.run([*bench, "--quick", "--json", str(file)], limit=240)
    assert done.returncode == 0, done.stderr
    figures = {figure["name"]: figure for figure in json.loads(file.read_text())}
    assert set(figures) == {
        f"capture.compressor.{name}" for name in ("real_time", "seconds", "written")
    }
    assert figures["capture.compressor.real_time"]["target"] == 50
    assert all(f"`{name}`" in done.stdout for name in figures)

