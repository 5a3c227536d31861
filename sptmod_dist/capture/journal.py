"""The journal of a session: a line for each take that was recorded, added when its files are there.

A capture that was killed at any moment leaves whole lines and at most one torn end, which is not
read. It must not know of devices or audio.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


class Journal:
    """The lines of `path` by take; a later line of a take replaces the earlier one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._entries = _read(path)

    def get(self, take: str) -> dict[str, Any] | None:
        """What was written of a take."""
        with self._lock:
            return self._entries.get(take)

    def add(self, entry: dict[str, Any]) -> None:
        """Write a line and flush it to the disk; `entry["take"]` is the take's id."""
        line = json.dumps(entry, allow_nan=False)
        with self._lock:
            with open(self.path, "ab") as file:
                torn = file.tell() > 0 and not _ends_a_line(self.path)
                file.write((b"\n" if torn else b"") + line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._entries[entry["take"]] = entry


def _read(path: Path) -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
            entries[str(entry["take"])] = entry
        except (ValueError, KeyError, TypeError):
            continue  # torn by a kill: that take is recorded again
    return entries


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
