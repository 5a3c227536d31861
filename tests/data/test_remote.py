"""Sets from elsewhere: whatever a server or a command does, the right bytes or one sentence."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sptmod_dist.data import downloads, places
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.loader import GroupLoader
from sptmod_dist.data.remote import open_source
from sptmod_dist.data.shards import ShardSet
from tests.data import served_sets as server
from tests.data.served_sets import Answer, Served, code, served
from tests.data.small_sets import build

SHARD, INDEX = "shard-00000.tar", "index.json"
Fault = Callable[[Answer], None]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "TIMEOUT", 0.2)
    monkeypatch.setattr(downloads, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def web(built: Path) -> Iterator[Served]:
    with served(built / "train") as started:
        yield started


def opened(where: str, tmp_path: Path, gigabytes: float = 1.0) -> ShardSet:
    return ShardSet.of(open_source(where, tmp_path / "cache", gigabytes))


def assert_equal(left: ShardSet, right: ShardSet) -> None:
    assert left.fingerprint == right.fingerprint and left.n_sequences == right.n_sequences
    for number in range(left.n_sequences):
        pairs = zip(left.sequence(number), right.sequence(number), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


def kept(tmp_path: Path) -> list[str]:
    """The files in the cache that hold bytes."""
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.suffix in (".tar", ".part"))


PASSING: list[list[Fault]] = [
    [code(500), code(503), code(429)],
    [server.cut],
    [server.cut, server.without_range],
    [server.cut, server.cut, server.cut, server.cut, server.cut, server.cut],
    [server.stall, server.stall, server.stall, server.stall],
    [server.silence],
    [server.reset],
    [server.drip],
    [server.without_length],
    [server.without_length, server.without_range],
    [server.cut, server.without_length],
]


@pytest.mark.parametrize("name", [INDEX, SHARD])
@pytest.mark.parametrize("faults", PASSING)
def test_faults_that_pass_do_no_harm(
    web: Served, built: Path, tmp_path: Path, name: str, faults: list[Fault]
) -> None:
    web.faults[name] = [*faults, Answer.right]
    assert_equal(opened(web.url, tmp_path), ShardSet.open(built / "train"))


STAYING: list[tuple[Fault, str, int]] = [
    (code(500), "the server answers 500 Internal Server Error, 4 times in a row", 4),
    (code(404), "the server answers 404 Not Found", 1),
    (code(403), "the server answers 403 Forbidden", 1),
    (code(401), "the server answers 401 Unauthorized", 1),
    (code(416), "the server answers 416", 1),
    (server.silence, "timed out, 4 times in a row", 4),
    (server.reset, "Remote end closed connection without response, 4 times in a row", 4),
    (server.encoded, r"encoded \(gzip\)", 1),
]
OF_SHARDS: list[tuple[Fault, str, int]] = [
    (server.longer, r"it has \d+ bytes instead of the index's \d+", 1),
    (server.endless, r"more than the \d+ bytes", 1),
    (server.other, f"{SHARD} is another than the index says .its SHA-256 differs", 1),
    (server.web_page, r"it has 19 bytes instead of the index's \d+", 1),
]
OF_INDEXES: list[tuple[Fault, str, int]] = [
    (server.web_page, "index.json is a web page and no index", 1),
    (server.other, "index.json is no good index", 1),
]


@pytest.mark.parametrize(
    "name, fault, said, requests",
    [
        *((name, *row) for name in (INDEX, SHARD) for row in STAYING),
        *((SHARD, *row) for row in OF_SHARDS),
        *((INDEX, *row) for row in OF_INDEXES),
    ],
)
def test_faults_that_stay_are_one_sentence_and_leave_nothing(
    web: Served, tmp_path: Path, name: str, fault: Fault, said: str, requests: int
) -> None:
    web.faults[name] = [fault]
    descriptors = len(os.listdir("/dev/fd"))
    with pytest.raises(ShardError, match=said) as caught:
        opened(web.url, tmp_path).sequence(0)
    assert web.url in str(caught.value) and name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert kept(tmp_path) == []
    assert web.asked.count(name) == requests
    deadline = time.monotonic() + 3
    while len(os.listdir("/dev/fd")) > descriptors:  # the server's threads take their time
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_chunks_without_an_end_are_taken_if_all_bytes_are_there(
    web: Served, built: Path, tmp_path: Path
) -> None:
    web.faults[SHARD] = [server.chunked, Answer.right]
    web.faults[INDEX] = [server.chunked, server.chunked, Answer.right]
    assert_equal(opened(web.url, tmp_path), ShardSet.open(built / "train"))


def test_a_shard_comes_once_and_serves_other_sources(web: Served, tmp_path: Path) -> None:
    for _ in range(2):
        shards = opened(web.url, tmp_path)
        for number in range(shards.n_sequences):
            shards.sequence(number)
    assert web.asked.count(INDEX) == 2
    assert all(web.asked.count(shard.name) == 1 for shard in shards.index.shards)
    assert len(kept(tmp_path)) == len(shards.index.shards)


def test_a_cache_of_two_shards_serves_a_whole_epoch_in_the_exact_order(
    web: Served, built: Path, tmp_path: Path
) -> None:
    local = ShardSet.open(built / "train")
    assert len(local.index.shards) > 4
    limit = 2 * max(shard.bytes for shard in local.index.shards)
    remote = opened(web.url, tmp_path, limit / 1e9)
    for left, right in zip(*(list(loaded(shards)) for shards in (remote, local)), strict=True):
        assert left.sequence_ids == right.sequence_ids
        assert bool((left.input == right.input).all() and (left.output == right.output).all())
    held = [path.stat().st_size for path in (tmp_path / "cache").glob("*.[tp]a*")]
    assert sum(held) <= limit


def loaded(shards: ShardSet) -> Iterator[Any]:
    yield from GroupLoader(shards, 4, 0, 1, seed=3, workers=3).groups(0)


def test_a_shard_beyond_the_cache_is_refused_when_the_set_is_opened(
    web: Served, tmp_path: Path
) -> None:
    with pytest.raises(ShardError, match="the cache may hold .* set data.cache_gigabytes higher"):
        opened(web.url, tmp_path, 5e-6)


def test_a_set_that_is_replaced_on_the_server_is_named(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "train", tmp_path / "served")
    with served(tmp_path / "served") as web:
        shards = opened(web.url, tmp_path)
        first = shards.sequence(0)
        other = build(tmp_path, samples={"train-z": 2000, "validation-z": 400})
        shutil.rmtree(tmp_path / "served")
        shutil.copytree(other / "train", tmp_path / "served")
        with pytest.raises(ShardError, match="has been replaced by another set since it was open"):
            for number in range(shards.n_sequences):
                shards.sequence(number)
        assert np.array_equal(shards.sequence(0).input, first.input)  # what is kept stays right
        assert_equal(opened(web.url, tmp_path), ShardSet.open(tmp_path / "served"))


def test_a_damaged_file_of_the_cache_is_named(web: Served, tmp_path: Path) -> None:
    shards = opened(web.url, tmp_path)
    expected = shards.sequence(0)
    path = tmp_path / "cache" / f"{shards.index.shards[0].sha256}.tar"
    data = bytearray(path.read_bytes())
    data[shards.index.records[0].input.offset + 200] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match=f"{path} .of {web.url}; if it is damaged, delete it.*CRC"):
        shards.sequence(0)
    path.unlink()
    assert np.array_equal(shards.sequence(0).input, expected.input)


def test_disks_that_write_less_than_they_are_given_are_given_the_rest(
    web: Served, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:700], at))
    assert_equal(opened(web.url, tmp_path), ShardSet.open(built / "train"))


def test_a_command_gives_the_same_set(built: Path, tmp_path: Path) -> None:
    shards = opened(f"pipe: cat {built}/train/{{}}", tmp_path)
    assert shards.place == "pipe:cat …"
    assert_equal(shards, ShardSet.open(built / "train"))


def test_a_command_that_cannot_give_a_shard_is_one_sentence(built: Path, tmp_path: Path) -> None:
    noise = "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo >&2"
    shards = opened(f"pipe:cat {built}/train/{{}} || {{ {noise}; exit 1; }}", tmp_path)
    (tmp_path / "none").mkdir()
    shards.source._place._command = f"{noise}; cat {tmp_path}/none/{{}}"  # type: ignore[attr-defined]
    with pytest.raises(ShardError, match="the command ends with 1: cat: .*No such file") as caught:
        shards.sequence(0)
    assert len(str(caught.value)) < 700 and kept(tmp_path) == []
