"""Where the bytes of a set come from: what any source can do, and a folder on a disk.

A source gives an index that is checked and descriptors of shards; what is in them is the matter of
`shards`. Another source, such as a cache before a server, stands in a file of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO, Protocol

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.index_checks import read_index
from sptmod_dist.data.recordings import SPLITS
from sptmod_dist.data.shard_file import check_shard, open_shard
from sptmod_dist.data.shard_index import HOW_TO_BUILD, INDEX_NAME, Index, Shard

_REPLACING = 0.2  # seconds: while a build puts a new set in its place, there is none for a moment


class Source(Protocol):
    """Gives the bytes of one set, to any number of threads at once."""

    @property
    def place(self) -> str:
        """What messages call it: the folder or the URL."""

    def read_index(self) -> tuple[Index, str]:
        """The set's index as it is now, checked, and its fingerprint.

        Raises:
            ShardError: it is missing, unreadable or faulty.
        """

    def check(self, shard: Shard) -> None:
        """A cheap look at a shard, when a set is opened.

        Raises:
            ShardError: it cannot be the one of the index.
        """

    def open(self, shard: Shard) -> int:
        """A descriptor of a shard, for `os.pread`; the caller closes it.

        Raises:
            ShardError: there is none, or it is not the one of the index.
        """

    def stream(self, shard: Shard) -> BinaryIO:
        """A shard from its first byte on, kept nowhere; the caller reads it once and closes it.

        Raises:
            ShardError: there is none, or it is not the one of the index; reading may raise it too.
        """

    def path(self, shard: Shard) -> Path | str:
        """What messages call a shard."""

    def prefetch(self, shards: Iterable[int]) -> AbstractContextManager[None]:
        """While it is entered, get what will be read, in this order, ahead of the reader.

        Args:
            shards: places in the index's list.
        """


class LocalFolder:
    """A set in a folder of a file system.

    Args:
        folder: with an index.json and its shards.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def place(self) -> str:
        """See `Source`."""
        return str(self.folder)

    def read_index(self) -> tuple[Index, str]:
        """See `Source`."""
        folder = self.folder
        try:
            is_there, has_index = folder.is_dir(), (folder / INDEX_NAME).exists()
            inside = [split for split in SPLITS if (folder / split / INDEX_NAME).exists()]
        except OSError as error:  # such as a name that is too long
            raise ShardError(f"{str(folder):.100} cannot be read ({error.strerror})") from None
        if not is_there:
            raise ShardError(
                f"{folder} is no folder with shards (looked in {folder.absolute().parent}): build "
                f"it with `{HOW_TO_BUILD}`"
            )
        if inside and not has_index:
            raise ShardError(
                f"{folder} holds the sets {', '.join(inside)}: name one, such as "
                f"{folder / inside[0]}"
            )
        return read_index(folder / INDEX_NAME)

    def check(self, shard: Shard) -> None:
        """See `Source`."""
        check_shard(self.path(shard), shard)

    def open(self, shard: Shard) -> int:
        """See `Source`."""
        if not self.path(shard).exists():
            time.sleep(_REPLACING)
        return open_shard(self.folder, shard)

    def stream(self, shard: Shard) -> BinaryIO:
        """See `Source`."""
        return os.fdopen(self.open(shard), "rb", buffering=0)

    def path(self, shard: Shard) -> Path:
        """See `Source`."""
        return self.folder / shard.name

    def prefetch(self, shards: Iterable[int]) -> AbstractContextManager[None]:
        """See `Source`: all is there already."""
        return nullcontext()
