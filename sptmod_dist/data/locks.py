"""Locks on files, against other processes and other threads.

The kernel lets go of a lock when its process ends, however that happens. What is guarded by one is
not known here.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[int]:
    """Hold the lock of the file that stands at a path; gives its descriptor.

    The file is made where it is missing, and stays: whoever removes it does so within the lock.

    Args:
        path: in a folder that exists; a link is refused.
        wait: until whoever holds it lets go.

    Raises:
        BlockingIOError: somebody holds it, and `wait` is false.
        OSError: the file cannot be made, or its file system has no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(descriptor, path):  # else its file has been removed meanwhile
                yield descriptor
                return
        finally:
            with suppress(OSError):  # else a process that was forked meanwhile would hold it on
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def lock_at_once(descriptor: int) -> bool:
    """Lock an open file alone, if nobody else has locked it; whether that was so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still stands there."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
