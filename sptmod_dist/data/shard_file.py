"""One shard as a file: a tar that is written deterministically, looked at and opened.

The only file that knows tar. Which members there are is the matter of the index; reading their
bytes, that of `members`.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.shard_index import HOW_TO_BUILD, Shard


class ShardFile:
    """A shard that is being written. It holds no owner and no time: equal content, equal bytes.

    Args:
        path: must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _HashingFile(path)
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def add(self, name: str, data: bytes) -> None:
        """Append a member."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def close(self) -> Shard:
        """End the tar and flush it to the disk."""
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self.size
        self._file.close()
        return Shard(self.path.name, size, self._file.sha256.hexdigest())

    def abandon(self) -> None:
        """Close after a failure, without another word to the disk than what is buffered."""
        self._file.close()


class _HashingFile(io.BufferedWriter):
    """A new file that takes the SHA-256 of what is written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "x"))
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return super().write(data)


def tar_places(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and size of the data of each plain file in a tar, by name."""
    with open(path, "rb") as file:
        return {m.name: (m.offset_data, m.size) for m in tar_members(file) if m.isreg()}


def tar_members(file: BinaryIO) -> list[tarfile.TarInfo]:
    """Everything in a tar that is open for reading."""
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        return tar.getmembers()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """The SHA-256 of a file that is open for reading, from its start."""
    file.seek(0)
    sha256 = hashlib.sha256()
    while piece := file.read(1 << 20):
        sha256.update(piece)
    return sha256.hexdigest()


def open_shard(folder: Path, shard: Shard) -> int:
    """A file descriptor of a shard that is still as long as the index says. Links are not followed.

    Raises:
        ShardError: it is missing, no plain file, or of another size.
    """
    path = folder / shard.name
    check_shard(path, shard)
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise faulty(path, f"cannot be read ({error.strerror})") from None


def check_shard(path: Path, shard: Shard) -> None:
    """Look at a shard from outside.

    Raises:
        ShardError: it is missing, no plain file, or of another size than the index says.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise faulty(path, f"cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise faulty(path, "is a link or no plain file")
    if status.st_size != shard.bytes:
        what = "truncated" if status.st_size < shard.bytes else "longer than it was made"
        raise faulty(path, f"is {what}, {status.st_size} bytes instead of {shard.bytes}")


def faulty(path: Path | str, fault: str) -> ShardError:
    """What is said of a shard that cannot be used."""
    return ShardError(
        f"{path} {fault}: copy the set again or build it anew with `{HOW_TO_BUILD} --overwrite`"
    )
