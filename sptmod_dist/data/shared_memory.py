"""Memory that the processes of one node share, filled by the first of them to come.

It is a file in the system's memory file system, locked by whoever uses it; the kernel lets go of a
lock when its process ends, however that happens, so that what a killed training has left is known
and removed by the next one. It knows nothing of what the memory holds.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sptmod_dist.data.free_memory import free_memory
from sptmod_dist.data.locks import is_at, lock_at_once
from sptmod_dist.errors import UserError

FOLDER = Path("/dev/shm")
_PREFIX = "sptmod-dist-"
_FILLED = b"filled.\n"


class SharedMemory:
    """Float32 numbers in memory that this node's processes share under a name.

    The first process to come fills it while the others wait. When all have come, `unlink` takes the
    name away: the memory is then gone as soon as the last process is.

    Args:
        name: letters and digits, the same in all processes and in no other training.
        size: how many numbers.
        fill: writes them into an array [size].

    Raises:
        UserError: there is no such memory, or too little; or whatever `fill` raises.
    """

    def __init__(self, name: str, size: int, fill: Callable[[np.ndarray], None]) -> None:
        self.path, self._size = FOLDER / f"{_PREFIX}{name}", size
        _sweep(self.path)
        self._descriptor = self._open_locked()
        try:
            self.array = self._map()
            if not self._is_filled(self._descriptor):
                fill(self.array)
                os.pwrite(self._descriptor, _FILLED, 4 * size)
        except BaseException:
            self.unlink()
            os.close(self._descriptor)
            raise
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)  # until this process ends: it is in use

    def unlink(self) -> None:
        """Take the name away; every process may."""
        self.path.unlink(missing_ok=True)

    def _open_locked(self) -> int:
        """A descriptor whose lock is held: alone by who is to fill it, shared once it is filled."""
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise UserError(
                    f"{self.path} cannot be made ({error.strerror}), and processes share memory "
                    "there: set data.resident to null, or train with one process"
                ) from None
            alone = lock_at_once(descriptor)
            if not alone:
                fcntl.flock(descriptor, fcntl.LOCK_SH)  # waits until it is filled
            if is_at(descriptor, self.path) and (alone or self._is_filled(descriptor)):
                return descriptor
            os.close(descriptor)  # another process failed to fill it, and took it away

    def _map(self) -> np.ndarray:
        length, state = 4 * self._size + len(_FILLED), os.fstatvfs(self._descriptor)
        free = min(state.f_bavail * state.f_frsize, free_memory())
        try:
            if os.fstat(self._descriptor).st_size < length and free < length:
                raise OSError(errno.ENOMEM, "a job that takes more than it may is killed")
            os.posix_fallocate(self._descriptor, 0, length)
            memory = mmap.mmap(self._descriptor, length)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            raise UserError(
                f"the recordings take {length / 1e9:.2f} GB and {free / 1e9:.2f} GB are left in "
                f"{FOLDER}: make it larger (a container's --shm-size) or give the job more memory, "
                "or set data.resident to null"
            ) from None
        return np.frombuffer(memory, np.float32, self._size)

    def _is_filled(self, descriptor: int) -> bool:
        return os.pread(descriptor, len(_FILLED), 4 * self._size) == _FILLED


def _sweep(keep: Path) -> None:
    """Remove what killed processes have left: nobody holds its lock."""
    for path in FOLDER.glob(f"{_PREFIX}*"):
        if path == keep:
            continue
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # another user's, or just gone
            continue
        try:
            if lock_at_once(descriptor):  # else it is in use
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
