"""Locks of files: one holder at a time, also where the file is removed under those who wait."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from sptmod_dist.data.locks import is_at, locked


def test_who_does_not_wait_is_told(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as descriptor:
        assert is_at(descriptor, tmp_path / "lock")
        with pytest.raises(BlockingIOError), locked(tmp_path / "lock", wait=False):
            pass
    with locked(tmp_path / "lock", wait=False):
        pass


def test_of_those_who_wait_one_is_in_at_a_time_although_each_removes_the_file(
    tmp_path: Path,
) -> None:
    path, inside, most = tmp_path / "lock", list[int](), list[int]()

    def enter() -> None:
        for _ in range(20):
            with locked(path):
                inside.append(0)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()
                path.unlink()

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 120 and max(most) == 1


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()
