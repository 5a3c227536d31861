"""Shards that came over the network, kept on this node's disk up to a limit.

Any number of processes and threads of a node share one folder. Locks are files' locks, which the
kernel takes from a process that dies; a shard is visible only when it is whole; and who opens one
gets a descriptor, which lives on when the shard has to leave. Where shards come from is not known
here.

    FOLDER/<SHA-256>.tar      whole
    FOLDER/<SHA-256>.part     on its way, as large as it will be
    FOLDER/.<SHA-256>.lock    held by whoever fetches it; says what went wrong last; stays
    FOLDER/.lock              held for moments, while room is made

A whole shard is not hashed again: whoever reads it checks sums of all that is read. The files are
made with the process's umask: users share a folder that is theirs by its group and umask 002.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.locks import is_at, locked
from sptmod_dist.data.one_attempt import one_attempt
from sptmod_dist.data.shard_index import Shard

Fetch = Callable[[int], None]
"""Writes a shard to a descriptor, or raises a ShardError."""

_SHA256 = "[0-9a-f]" * 64  # whatever else is in the folder is not ours to count or to remove
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


class Cache:
    """A folder of shards that holds no more than a limit; the longest unused leave it first.

    Args:
        folder: is made where it is missing; `~` is the home folder.
        limit: bytes.

    Raises:
        ShardError: the folder cannot be made or written to, or its file system has no locks.
    """

    def __init__(self, folder: str | Path, limit: int) -> None:
        try:
            self.folder, self.limit = Path(folder).expanduser(), limit
        except RuntimeError:
            raise ShardError(
                f"{folder}: there is no such home folder: set data.cache_folder to another folder"
            ) from None
        with self._explained():
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock"):
                pass

    def path(self, shard: Shard) -> Path:
        """Where a shard stands, of whatever set it is."""
        return self.folder / f"{shard.sha256}.tar"

    def require_room(self, shard: Shard, place: str) -> None:
        """Refuse a shard that could never be kept.

        Args:
            place: of its set, for the message.

        Raises:
            ShardError: it is larger than all that the cache may hold.
        """
        if shard.bytes > self.limit:
            raise ShardError(
                f"{place}: {shard.name} has {shard.bytes / 1e9:.3g} GB and the cache may hold "
                f"{self.limit / 1e9:.3g}: set data.cache_gigabytes higher"
            )

    def open(self, shard: Shard, fetch: Fetch, place: str = "") -> int:
        """A descriptor of a shard, which is fetched if it is not there; the caller closes it.

        Args:
            shard: one that passed `require_room`.
            fetch: gets it; called by one thread of one process of the node at a time.
            place: where from; see `one_attempt`.

        Raises:
            ShardError: there is no room for it, or whatever `fetch` raises, here or for another
                that was waited for.
        """
        with self._explained():
            found = self._take(shard)
            if found is not None:
                return found
            self.folder.mkdir(parents=True, exist_ok=True)  # it may have been emptied meanwhile
            with one_attempt(_lock_of(self.path(shard)), place):
                found = self._take(shard)
                return self._fetched(shard, fetch) if found is None else found

    def _take(self, shard: Shard) -> int | None:
        """A descriptor of a whole shard, which has been used just now; None if it is not there."""
        try:  # without waiting for a writer, should it be a pipe
            path = self.path(shard)
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != shard.bytes:
            os.close(descriptor)
            return None  # damaged: what is fetched takes its place
        with suppress(OSError):  # another user's: it only looks longer unused
            os.utime(descriptor)
        return descriptor

    def _fetched(self, shard: Shard, fetch: Fetch) -> int:
        part = self.path(shard).with_suffix(".part")
        descriptor = self._reserve(part, shard.bytes)
        try:
            fetch(descriptor)
            os.fsync(descriptor)  # a power cut must not leave its size without its content
            with locked(self.folder / ".lock"):
                if is_at(descriptor, part):  # else somebody has emptied the folder by hand
                    part.rename(self.path(shard))
        except BaseException:
            if is_at(descriptor, part):
                part.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return descriptor

    def _reserve(self, part: Path, size: int) -> int:
        """Make room, and a file of this size in it; waits while others' shards are on their way."""
        if size > self.limit:  # or it would wait for ever
            raise ValueError(f"{part} of {size} bytes in a cache of {self.limit}")
        while True:
            with locked(self.folder / ".lock"):
                part.unlink(missing_ok=True)  # of somebody who was killed
                self._sweep()
                if self._make_room(size):
                    return _allocated(part, size)
            time.sleep(0.05)

    def _make_room(self, size: int) -> bool:
        """Remove what was used longest ago; False where only shards on their way are left."""
        states = {}
        for file in [*self.folder.glob(f"{_SHA256}.tar"), *self.folder.glob(f"{_SHA256}.part")]:
            with suppress(FileNotFoundError):
                states[file] = file.lstat()
        used = sum(state.st_size for state in states.values())
        whole = [file for file in states if file.suffix == ".tar"]
        for file in sorted(whole, key=lambda file: states[file].st_mtime_ns):
            if used + size <= self.limit:
                break
            file.unlink(missing_ok=True)
            used -= states[file].st_size
        return used + size <= self.limit

    def _sweep(self) -> None:
        """Remove what killed processes have left on its way: nobody holds its lock."""
        for part in self.folder.glob(f"{_SHA256}.part"):
            with suppress(BlockingIOError), locked(_lock_of(part), wait=False):
                part.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise ShardError(
                    f"{self.folder} is on a file system without locks: set data.cache_folder to a "
                    "folder on a local disk"
                ) from None
            raise ShardError(
                f"{self.folder} cannot keep shards ({error.strerror or error}): free some room, or "
                "set data.cache_folder to another folder"
            ) from None


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.stem}.lock")


def _allocated(part: Path, size: int) -> int:
    """A new file that has its room on the disk already."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(part, flags, 0o666)
    try:
        _allocate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        part.unlink(missing_ok=True)
        raise
    return descriptor


def _allocate(descriptor: int, size: int) -> None:
    """Take a file's room now, so that a full disk is said at once; or else only count it."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
            return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
    os.ftruncate(descriptor, size)
