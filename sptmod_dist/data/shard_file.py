"""One shard: a tar file of plain arrays, written deterministically, read by byte range.

The only file that knows tar and npy. What the members mean and which of them exist is the matter
of the index.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.shard_index import HOW_TO_BUILD, Member, Shard


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
    with tarfile.open(path, "r:") as tar:
        return {info.name: (info.offset_data, info.size) for info in tar if info.isreg()}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            sha256.update(piece)
    return sha256.hexdigest()


def npy_bytes(array: np.ndarray) -> bytes:
    """An array as the bytes of a .npy file, little-endian float32 in C order."""
    stream = io.BytesIO()
    plain = np.ascontiguousarray(array, dtype="<f4")
    np.lib.format.write_array(stream, plain, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def npy_array(data: bytearray, shape: tuple[int, int]) -> np.ndarray:
    """The array in the bytes of a .npy file, which must be float32 in C order of this shape.

    Nothing but numbers is ever made of the bytes; the array shares their memory.

    Raises:
        ValueError: it is anything else.
    """
    stream = io.BytesIO(data[: 2**16])  # the header ends before this
    try:
        np.lib.format.read_magic(stream)
        found, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # numpy lets its parser's errors of many kinds out
        raise ValueError(f"its header cannot be read, {type(error).__name__}") from None
    if found != shape or fortran or dtype != np.dtype("<f4"):
        raise ValueError(f"it holds {dtype} {found} where the index has float32 {shape}")
    array = np.frombuffer(data, dtype="<f4", offset=stream.tell())
    return array.reshape(shape).astype(np.float32, copy=False)


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
        raise _faulty(path, f"cannot be read ({error.strerror})") from None


def check_shard(path: Path, shard: Shard) -> None:
    """Look at a shard from outside.

    Raises:
        ShardError: it is missing, no plain file, or of another size than the index says.
    """
    try:
        status = path.lstat()
    except OSError as error:
        raise _faulty(path, f"cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise _faulty(path, "is a link or no plain file")
    if status.st_size != shard.bytes:
        what = "truncated" if status.st_size < shard.bytes else "longer than it was made"
        raise _faulty(path, f"is {what}, {status.st_size} bytes instead of {shard.bytes}")


def read_member(descriptor: int, path: Path, name: str, member: Member) -> bytearray:
    """The bytes of a member, whose CRC-32 fits.

    Args:
        descriptor: of the shard at `path`.
        name: of the member, for messages.

    Raises:
        ShardError: they cannot be read, end early, or have changed.
    """
    data = bytearray(member.size)
    try:
        done = _read_into(descriptor, data, member.offset)
    except OSError as error:
        raise _faulty(path, f"cannot be read at {name} ({error.strerror})") from None
    if done < member.size:
        raise _faulty(path, f"ends within {name}")
    if zlib.crc32(data) != member.crc32:
        raise _faulty(path, f"has changed bytes in {name} (its CRC-32 differs)")
    return data


def read_array(
    descriptor: int, path: Path, name: str, member: Member, shape: tuple[int, int]
) -> np.ndarray:
    """The float32 array of a member.

    Raises:
        ShardError: as `read_member`, or it is no such array.
    """
    data = read_member(descriptor, path, name, member)
    try:
        return npy_array(data, shape)
    except ValueError as error:
        raise _faulty(path, f"has no usable array in {name} ({error})") from None


def _read_into(descriptor: int, data: bytearray, offset: int) -> int:
    view, done = memoryview(data), 0
    while done < len(data):  # one call reads at most 2 GiB, and may be cut short by a signal
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def _faulty(path: Path, fault: str) -> ShardError:
    return ShardError(
        f"{path} {fault}: copy the set again or build it anew with `{HOW_TO_BUILD} --overwrite`"
    )
