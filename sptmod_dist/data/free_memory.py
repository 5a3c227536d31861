"""How much memory this process may still take, as far as the system tells.

It knows the machine's memory and the limits of containers and jobs, nothing of what is kept there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_PROCESS, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_FILES = {  # limit, use, and how its account begins names, by the version of control groups
    "": ("", "memory.max", "memory.current", ""),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}


def free_memory() -> int:
    """Bytes: the machine's, or what a control group leaves where that is less."""
    return min([psutil.virtual_memory().available, *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """What each group leaves that this process is in, and each group around those."""
    with suppress(OSError):  # macOS has none
        for line in _PROCESS.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers in _FILES:
                version, *files = _FILES[controllers]
                folder = _GROUPS / version / group.lstrip("/")
                for around in (folder, *folder.parents):
                    yield from _left(around, *files)


def _left(folder: Path, limit: str, used: str, total: str) -> Iterator[int]:
    with suppress(OSError, ValueError, KeyError):  # it is not there, or says "max"
        most, taken = (int((folder / name).read_text()) for name in (limit, used))
        account = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # Copies of files count as used and give way.
        yield most - taken + sum(int(account[f"{total}{a}active_file"]) for a in ("", "in"))
