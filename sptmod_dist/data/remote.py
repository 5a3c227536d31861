"""Sets that are not on this machine: whole shards come into a cache, ahead of whoever reads them.

Which bytes are the right ones is known from the index, by size and SHA-256. How a file is opened
somewhere is the matter of `places`, how it is kept here of `cache`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from sptmod_dist.data.addresses import place_of
from sptmod_dist.data.cache import Cache
from sptmod_dist.data.downloads import Download
from sptmod_dist.data.fetch_ahead import FetchAhead
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.index_checks import parse_index
from sptmod_dist.data.places import Place, is_remote
from sptmod_dist.data.shard_index import INDEX_NAME, Index, Shard
from sptmod_dist.data.sources import LocalFolder, Source

FETCHERS = 4
"""Shards of a set that a process fetches ahead at a time."""

_PORTION = 1 << 20
_LARGEST_INDEX = 1 << 30


def open_source(where: str | Path, cache_folder: str | Path, cache_gigabytes: float) -> Source:
    """Where a set's bytes come from.

    Args:
        where: a folder, `http(s)://…`, `s3://…`, or `pipe:COMMAND` with {} for a file's name. A
            command must come from the user's own settings.
        cache_folder: keeps what comes from elsewhere.
        cache_gigabytes: the most that it may hold.

    Raises:
        ShardError: no such place can be, or the cache cannot be used.
    """
    if isinstance(where, Path) or not is_remote(where):
        return LocalFolder(where)
    return RemoteSet(place_of(where), Cache(cache_folder, int(cache_gigabytes * 1e9)))


class RemoteSet:
    """A set somewhere else, whose shards are fetched whole and kept in a cache.

    Args:
        place: where it is.
        cache: where its shards are kept; other sets, processes and threads may share it.
    """

    def __init__(self, place: Place, cache: Cache) -> None:
        self._place, self._cache = place, cache
        self._shards: dict[Shard, int] = {}
        self._ahead: list[FetchAhead] = []

    @property
    def place(self) -> str:
        """See `Source`."""
        return self._place.shown

    def read_index(self) -> tuple[Index, str]:
        """See `Source`; it is fetched each time."""
        portions, size = [], 0
        with closing(Download(self._place, INDEX_NAME)) as download:
            while portion := download.read(_PORTION):
                portions.append(portion)
                size += len(portion)
                if size > _LARGEST_INDEX:
                    raise ShardError(f"{self.place}: {INDEX_NAME} has no end: correct the address")
        data = b"".join(portions)
        if data.lstrip()[:1] == b"<":
            raise ShardError(
                f"{self.place}/{INDEX_NAME} is a web page and no index: check the address, and "
                "whether the server wants a login"
            )
        index, fingerprint = parse_index(data, f"{self.place}/{INDEX_NAME}")
        # Whoever opened the set goes on by its numbers, should there be another set by now.
        self._shards = self._shards or {shard: n for n, shard in enumerate(index.shards)}
        return index, fingerprint

    def check(self, shard: Shard) -> None:
        """See `Source`; servers are not asked before a shard is needed."""
        self._cache.require_room(shard, self.place)

    def open(self, shard: Shard) -> int:
        """See `Source`."""
        descriptor = self._open(shard)
        for ahead in list(self._ahead):
            ahead.used(self._shards[shard])
        return descriptor

    def stream(self, shard: Shard) -> BinaryIO:
        """See `Source`; nothing of it is kept."""
        return cast(BinaryIO, Download(self._place, shard.name, shard.bytes))

    def path(self, shard: Shard) -> str:
        """See `Source`."""
        kept = self._cache.path(shard)
        if kept.exists():
            return f"{kept} (of {self.place}; if it is damaged, delete it)"
        return f"{self.place}/{shard.name}"

    @property
    def fits(self) -> bool:
        """Whether the cache can hold all of the set at once."""
        return sum(shard.bytes for shard in self._shards) <= self._cache.limit

    @contextmanager
    def prefetch(self, shards: Iterable[int]) -> Iterator[None]:
        """See `Source`; never further ahead than half of what the cache may hold.

        Each process has that half to itself: where they share a cache that is smaller than the set,
        what one fetches early may have to leave before it is read, and comes again then.
        """
        room = self._cache.limit // max(shard.bytes for shard in self._shards) // 2
        enough = len(self._shards) if self.fits else None
        entries = list(self._shards)
        ahead = FetchAhead(
            shards, lambda number: self._get(entries[number]), max(1, room), enough, FETCHERS
        )
        self._ahead.append(ahead)
        try:
            yield
        finally:
            self._ahead.remove(ahead)
            ahead.close()

    def _get(self, shard: Shard) -> None:
        os.close(self._open(shard))

    def _open(self, shard: Shard) -> int:
        return self._cache.open(shard, lambda file: self._fetch(shard, file), self.place)

    def _fetch(self, shard: Shard, descriptor: int) -> None:
        sha256, done = hashlib.sha256(), 0
        with closing(Download(self._place, shard.name, shard.bytes)) as download:
            while portion := download.read(_PORTION):
                sha256.update(portion)
                _write(descriptor, portion, done)
                done += len(portion)
        if sha256.hexdigest() != shard.sha256:
            raise ShardError(
                f"{self.place}/{shard.name} is another than the index says (its SHA-256 differs): "
                "copy the whole set there again"
            )


def _write(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of it: `pwrite` may write less."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
