"""Writing files whole: to a temporary name beside the target, flushed to disk, then renamed.

A reader sees the old file or the new one, never half of either; a failure leaves what was there.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def fsync_dir(folder: Path) -> None:
    """Flush a folder's entries, so that a rename inside it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_file(path: Path) -> None:
    """Flush a file's bytes to the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def read_plain(path: Path) -> bytes:
    """What is in a plain file; opening a pipe would wait for ever.

    Raises:
        OSError: it is none, or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no plain file", str(path))
    return path.read_bytes()


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well.

    The temporary name keeps the suffix of `path`, since some writers choose a format by it. When
    the block raises, the temporary file is removed and `path` is left as it was.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files private; results are for the team
        fsync_file(temporary)
        os.replace(temporary, path)
        fsync_dir(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
