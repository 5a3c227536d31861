"""Ways to damage a set of shards, and what must be said of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.shard_index import dump
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.data.shards import ShardSet


def refused(folder: Path, said: str) -> None:
    """The set is refused, when opened or when read, in one sentence that says so."""
    with pytest.raises(ShardError, match=said) as caught:
        shards = ShardSet.open(folder)
        for number in range(shards.n_sequences):
            shards.sequence(number)
    assert "\n" not in str(caught.value)
    assert any(re.search(said, fault) for fault in verify(folder))


def change_byte(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def at(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one place in an index."""

    def change(fields: dict[str, Any]) -> None:
        place: Any = fields
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def without(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(fields: dict[str, Any]) -> None:
        place: Any = fields
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


def forge(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change an index and give it the checksum that fits."""
    fields = json.loads(path.read_bytes())
    del fields["checksum"]
    change(fields)
    path.write_bytes(dump(fields))
