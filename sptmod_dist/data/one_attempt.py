"""One attempt for all who wait: a fault is met once, not by each of many processes in turn.

Each of them would try for minutes, and one after the other. The fault is noted in the file whose
lock they wait for. What is attempted is not known here.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.locks import locked


@contextmanager
def one_attempt(path: Path, place: str) -> Iterator[None]:
    """Hold a file's lock around an attempt, unless one just failed that was waited for.

    Args:
        path: of the lock.
        place: where it is tried; a fault from elsewhere is not taken over.

    Raises:
        ShardError: whatever the block raises, or raised meanwhile in another process or thread.
        OSError: as `locked`.
    """
    before = _noted(path)
    with locked(path) as lock:
        if (meanwhile := _noted(path)) != before:
            _take_over(meanwhile, place)
        try:
            yield
        except ShardError as fault:
            _note(lock, json.dumps([place, str(fault), secrets.token_hex(8)]))
            raise
        _note(lock, "")


def _noted(path: Path) -> bytes:
    """The last attempt's fault, in a note that is equal to no other; nothing if it went well."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _note(lock: int, note: str) -> None:
    with suppress(OSError):  # a full disk: then each tries for itself
        os.ftruncate(lock, 0)
        os.pwrite(lock, note.encode(), 0)


def _take_over(note: bytes, place: str) -> None:
    with suppress(ValueError):  # it went well, or a process was killed while it wrote
        where, fault, _ = json.loads(note)
        if where == place:
            raise ShardError(fault)
