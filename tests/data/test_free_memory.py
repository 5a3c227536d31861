"""The memory that is left: the machine's or the job's, whichever is less."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from sptmod_dist.data import free_memory as module
from sptmod_dist.data.free_memory import free_memory

NAMES = {  # mount, limit, use, and how the account begins names
    "2": ("", "memory.max", "memory.current", ""),
    "1": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}


def group(folder: Path, version: str, path: str, most: int | str, used: int, files: int) -> None:
    """Write what the kernel shows of a control group."""
    mount, limit, usage, total = NAMES[version]
    place = folder / mount / path
    place.mkdir(parents=True, exist_ok=True)
    (place / limit).write_text(f"{most}\n")
    (place / usage).write_text(f"{used}\n")
    (place / "memory.stat").write_text(
        f"anon 5\n{total}active_file {files - 1}\n{total}inactive_file 1\n"
    )


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    class Machine:
        available = 10**9

    monkeypatch.setattr(psutil, "virtual_memory", Machine)
    monkeypatch.setattr(module, "_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "_GROUPS", tmp_path / "groups")
    return tmp_path


LINES = {"2": "0::/job/step", "1": "12:cpu,cpuacct:/\n4:memory:/job/step\n0::/"}


@pytest.mark.parametrize("version", LINES)
@pytest.mark.parametrize("limited", ["job", "job/step"])
def test_the_limit_of_any_group_around_counts_and_copies_of_files_do_not(
    system: Path, version: str, limited: str
) -> None:
    (system / "cgroup").write_text(LINES[version])
    for path in ("job", "job/step"):
        most = 700 if path == limited else ("max" if version == "2" else 2**63 - 4096)
        group(system / "groups", version, path, most, 500, 100)
    assert free_memory() == 300


@pytest.mark.parametrize("written", [None, "", "0::/nowhere", "0::/"])
def test_without_a_limit_it_is_the_machines(system: Path, written: str | None) -> None:
    if written is not None:
        (system / "cgroup").write_text(written)
    assert free_memory() == 10**9


def test_here_there_is_some() -> None:
    assert free_memory() > 10**6
