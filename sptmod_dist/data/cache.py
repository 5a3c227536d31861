"""Shards that came over the network, kept on this node's disk up to a limit.

Any number of processes and threads of a node share one folder. Locks are files' locks, which the
kernel takes from a process that dies; a shard is visible only when it is whole; and who opens one
gets a descriptor, which lives on when the shard has to leave. Where shards come from is not known
here.

    FOLDER/SET/shard-00000.tar      whole
    FOLDER/SET/shard-00000.part     on its way, as large as it will be
    FOLDER/SET/.shard-00000.lock    held by whoever fetches it
    FOLDER/.lock                    held for moments, while room is made
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.shard_index import Shard

Fetch = Callable[[int], None]
"""Writes a shard to a descriptor, or raises a ShardError."""

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
        self.folder, self.limit = Path(folder).expanduser(), limit
        with self._explained():
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / ".lock"):
                pass

    def path(self, name: str, shard: Shard) -> Path:
        """Where a shard of a set stands."""
        return self.folder / name / shard.name

    def open(self, name: str, shard: Shard, fetch: Fetch) -> int:
        """A descriptor of a shard, which is fetched if it is not there; the caller closes it.

        Args:
            name: of the set: letters and digits.
            shard: of the set.
            fetch: gets it; called by one thread of one process of the node at a time.

        Raises:
            ShardError: there is no room for it, or whatever `fetch` raises.
        """
        path = self.path(name, shard)
        found = _take(path, shard)
        if found is not None:
            return found
        with self._explained():
            path.parent.mkdir(exist_ok=True)
            with _locked(_lock_of(path)):
                found = _take(path, shard)
                return self._fetched(path, shard, fetch) if found is None else found

    def _fetched(self, path: Path, shard: Shard, fetch: Fetch) -> int:
        part = path.with_suffix(".part")
        descriptor = self._reserve(part, shard.bytes)
        try:
            fetch(descriptor)
            os.fsync(descriptor)  # a power cut must not leave its size without its content
            part.rename(path)
        except BaseException:
            os.close(descriptor)
            part.unlink(missing_ok=True)
            raise
        return descriptor

    def _reserve(self, part: Path, size: int) -> int:
        """Make room, and a file of this size in it; waits while others' shards are on their way."""
        if size > self.limit:
            raise ShardError(
                f"{part.stem} of {size} bytes is larger than the cache in {self.folder} may be: "
                "set data.cache_gigabytes higher"
            )
        while True:
            with _locked(self.folder / ".lock"):
                self._sweep()
                if self._make_room(size):
                    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
                    try:
                        _allocate(descriptor, size)
                        return descriptor
                    except BaseException:
                        os.close(descriptor)
                        part.unlink(missing_ok=True)
                        raise
            time.sleep(0.05)

    def _make_room(self, size: int) -> bool:
        """Remove what was used longest ago; False where only shards on their way are left."""
        files = [*self.folder.glob("*/shard-*.tar"), *self.folder.glob("*/shard-*.part")]
        states = {}
        for file in files:
            with suppress(FileNotFoundError):
                states[file] = file.stat()
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
        for part in self.folder.glob("*/shard-*.part"):
            with suppress(BlockingIOError), _locked(_lock_of(part), wait=False):
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


def _allocate(descriptor: int, size: int) -> None:
    """Take a file's room now, so that a full disk is said at once; or else only count it."""
    try:
        if hasattr(os, "posix_fallocate"):
            return os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
    os.ftruncate(descriptor, size)


def _take(path: Path, shard: Shard) -> int | None:
    """A descriptor of a whole shard, which has been used just now; None where it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ShardError(
            f"{path} cannot be read ({error.strerror}): delete it, it is fetched again"
        ) from None
    if os.fstat(descriptor).st_size != shard.bytes:
        os.close(descriptor)
        return None  # damaged: what is fetched takes its place
    with suppress(OSError):  # another user's: it only looks longer unused
        os.utime(path)
    return descriptor


@contextmanager
def _locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a file's lock, against other processes and other threads."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
