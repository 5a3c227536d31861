"""Streams give every rank equally many groups of right sequences, mixed, and end cleanly."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

from sptmod_dist.data.geometry import Geometry, Needs, ShardError
from sptmod_dist.data.loader import AHEAD, Group
from sptmod_dist.data.read_ahead import ReadAhead
from sptmod_dist.data.remote import open_source
from sptmod_dist.data.shard_index import Shard
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.data.sources import LocalFolder
from sptmod_dist.data.stream import StreamLoader
from sptmod_dist.errors import UserError
from tests.data.small_sets import GEOMETRY, RATE, RATIO
from tests.data.streamed_sets import members_of, restate, small_set, write_tar

SEED = 3
SHAPES = {  # for each shard, the sequences of each of its records
    "even": [[1] * 6] * 8,
    "unequal": [[1], [1] * 20, [1, 1], [1] * 7, [1] * 3, [1], [1] * 13, [1] * 4, [1]],
    "several in a record": [[3, 3, 1], [3] * 4, [2], [3, 1], [1], [3] * 6, [3, 3], [2, 2]],
    "many": [[2]] * 41,
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardSet]:
    folder = tmp_path_factory.mktemp("streamed")
    return {name: small_set(folder / name, shards) for name, shards in SHAPES.items()}


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert not _threads()


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("sptmod-")]


def _numbers(shard_set: ShardSet) -> dict[bytes, int]:
    """The number of each sequence, by its input."""
    return {shard_set.sequence(k).input.tobytes(): k for k in range(shard_set.n_sequences)}


def _drawn(numbers: dict[bytes, int], groups: Iterator[Group]) -> list[int]:
    """The sequences of groups, one after the other."""
    return [numbers[row.numpy().tobytes()] for group in groups for row in group.input]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_rank_gets_equally_many_groups(
    sets: dict[str, ShardSet], shape: str, world: int, workers: int
) -> None:
    shard_set = sets[shape]
    expected = shard_set.n_sequences // 24
    for rank in range(world):
        loader = StreamLoader(shard_set, 24, rank, world, SEED, workers, buffer=5)
        groups = list(loader.groups(epoch=1))
        share = 24 // world
        assert loader.n_groups == len(groups) == expected > 0
        assert loader.dropped == shard_set.n_sequences - 24 * expected
        assert [(g.epoch, g.index, g.sequence_ids) for g in groups] == [
            (1, index, ()) for index in range(expected)
        ]
        assert {g.rows for g in groups} == {range(rank * share, (rank + 1) * share)}
        assert {g.input.shape for g in groups} == {(share, 1, GEOMETRY.sequence_length)}


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_ranks_share_no_shard_and_see_each_of_theirs_whole(
    sets: dict[str, ShardSet], shape: str, world: int
) -> None:
    shard_set, numbers = sets[shape], _numbers(sets[shape])
    dealt: list[set[int]] = []
    for rank in range(world):
        loader = StreamLoader(shard_set, world, rank, world, SEED, workers=0, buffer=7)
        drawn = _drawn(numbers, loader.groups(0))
        shards = {shard_set.shard_of(number) for number in drawn}
        theirs = [k for k in range(shard_set.n_sequences) if shard_set.shard_of(k) in shards]
        assert len(set(drawn[: len(theirs)])) == min(len(drawn), len(theirs))  # a pass: each once
        again = drawn[len(theirs) : 2 * len(theirs)]
        assert len(set(again)) == len(again)
        dealt.append(shards)
    assert len(set.union(*dealt)) == sum(map(len, dealt))
    assert len(set.union(*dealt)) == len(shard_set.index.shards) or shape != "even"


def test_equal_shards_give_every_sequence_once_an_epoch(sets: dict[str, ShardSet]) -> None:
    numbers = _numbers(sets["even"])
    for epoch in range(3):
        drawn = []
        for rank in range(4):
            drawn += _drawn(numbers, StreamLoader(sets["even"], 8, rank, 4, SEED).groups(epoch))
        assert sorted(drawn) == list(range(48))


def test_another_epoch_deals_the_shards_differently(sets: dict[str, ShardSet]) -> None:
    loader, numbers = StreamLoader(sets["even"], 2, 0, 2, SEED), _numbers(sets["even"])
    dealt = {
        frozenset(sets["even"].shard_of(number) for number in _drawn(numbers, loader.groups(epoch)))
        for epoch in range(6)
    }
    assert len(dealt) > 3


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_batches_come_again_for_any_number_of_workers(
    sets: dict[str, ShardSet], shape: str
) -> None:
    def batches(workers: int, seed: int = SEED, epoch: int = 2, start: int = 1) -> list[bytes]:
        loader = StreamLoader(sets[shape], 6, 1, 2, seed, workers, buffer=9)
        return [group.input.numpy().tobytes() for group in loader.groups(epoch, start)]

    expected = batches(0)
    for workers in (0, 1, 2, 3, 4, 9):
        assert batches(workers) == expected
    assert batches(1, seed=4) != expected != batches(1, epoch=3)
    assert batches(1, start=0)[1:] != expected  # the rest is drawn anew


class Counted(LocalFolder):
    """A folder whose streams are counted; each can be changed on its way."""

    def __init__(self, folder: str | Path, change: Callable[[BinaryIO], BinaryIO] | None = None):
        super().__init__(folder)
        self.opened: list[str] = []
        self.open_now: list[BinaryIO] = []
        self._change = change or (lambda stream: stream)

    def stream(self, shard: Shard) -> BinaryIO:
        self.opened.append(shard.name)
        self.open_now = [stream for stream in self.open_now if not stream.closed]
        stream = self._change(super().stream(shard))
        self.open_now.append(stream)
        return stream


def test_a_resume_reads_nothing_of_what_lies_before(sets: dict[str, ShardSet]) -> None:
    source = Counted(sets["many"].place)
    loader = StreamLoader(ShardSet.of(source), 2, 0, 1, SEED, workers=0, buffer=4)
    assert [group.index for group in loader.groups(0, start=40)] == [40]
    assert len(source.opened) <= 8
    found = [group.index for group in islice(loader.groups(0), 10)]
    found += [group.index for group in islice(loader.groups(0, start=10), 5)]
    found += [group.index for group in loader.groups(0, start=15)]
    assert found == list(range(41))
    source.opened.clear()
    assert list(loader.groups(0, start=41)) == [] == source.opened


STEREO = Needs(lengths=(64,), input_length=100, input_channels=2, sidechain_channels=1, n_params=1)


@pytest.mark.parametrize("geometry", [GEOMETRY, STEREO.geometry(RATE, [RATIO], "here")])
@pytest.mark.parametrize("held", [1, 3])
@pytest.mark.parametrize("sample_format", ["float32", "pcm24", "pcm16", "flac"])
def test_rows_are_the_sequences_of_the_set_bit_for_bit(
    tmp_path: Path, sample_format: str, held: int, geometry: Geometry
) -> None:
    shard_set = small_set(tmp_path, [[held, 1], [held] * 3, [held]], sample_format, geometry)
    numbers = _numbers(shard_set)
    for group in StreamLoader(shard_set, 2, 0, 1, SEED).groups(0):
        for row in range(2):
            expected = shard_set.sequence(numbers[group.input[row].numpy().tobytes()])
            assert np.array_equal(group.output[row].numpy(), expected.output)
            assert np.array_equal(group.controls[row].numpy(), expected.controls)
        assert {part.dtype for part in (group.input, group.output, group.controls)} == {
            torch.float32
        }


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_from_elsewhere_is_the_same_and_leaves_nothing_here(
    sets: dict[str, ShardSet], tmp_path: Path, workers: int
) -> None:
    folder, cache = sets["unequal"].place, tmp_path / "cache"
    source = open_source(f"pipe:cat {folder}/{{}}", cache, 1.0)
    near, far = (
        StreamLoader(shard_set, 4, 1, 2, SEED, workers).groups(0)
        for shard_set in (sets["unequal"], ShardSet.of(source))
    )
    for one, other in zip(near, far, strict=True):
        assert torch.equal(one.input, other.input) and torch.equal(one.output, other.output)
    assert not [path for path in cache.rglob("*.tar*")]


def test_a_stream_from_elsewhere_ends_its_commands(
    sets: dict[str, ShardSet], tmp_path: Path
) -> None:
    note = tmp_path / "running"
    command = f"pipe:echo $$ >> {note}; cat {sets['many'].place}/{{}}; sleep 0.3"
    loader = StreamLoader(ShardSet.of(open_source(command, tmp_path / "c", 1.0)), 2, 0, 1, SEED, 2)
    groups = loader.groups(0)
    with pytest.raises(KeyboardInterrupt):
        next(groups)
        groups.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    for number in note.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(number), 0)


# -- faults -------------------------------------------------------------------------------------


def _shard(folder: Path) -> Path:
    return folder / "shard-00001.tar"


def _truncate(folder: Path) -> None:
    os.truncate(_shard(folder), 3000)


def _flip(at: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = bytearray(_shard(folder).read_bytes())
        data[data.index(at)] ^= 16
        _shard(folder).write_bytes(data)

    return damage


def _flip_audio(folder: Path) -> None:
    data = bytearray(_shard(folder).read_bytes())
    data[data.index(b"NUMPY") + 400] ^= 1
    _shard(folder).write_bytes(data)


def _rewrite(change: Callable[[list[tuple[str, bytes]]], None]) -> Callable[[Path], None]:
    """Write the shard anew, and let the index agree with its size."""

    def damage(folder: Path) -> None:
        members = members_of(_shard(folder))
        change(members)
        while len(members) < 6:  # as large as before, for the index to agree
            members.append((f"__filler__/{len(members)}", bytes(4000)))
        restate(folder, 1, write_tar(_shard(folder), members))

    return damage


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("unpickled",)


def _index_of_another_type(folder: Path) -> None:
    """The index knows the sums of an array of integers."""
    from sptmod_dist.data.checksums import crc32_of
    from sptmod_dist.data.index_checks import read_index

    members = members_of(_shard(folder))
    name, data = members[0]
    members[0] = (name, data.replace(b"<f4", b"<i4"))
    record = next(r for r in read_index(folder / "index.json")[0].records if r.shard == 1)
    member = record.input._replace(crc32s=crc32_of(members[0][1]))
    restate(folder, 1, write_tar(_shard(folder), members), record._replace(input=member))


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a truncated tar": (_truncate, "is truncated"),
    "a missing shard": (lambda folder: _shard(folder).unlink(), "cannot be read"),
    "a flipped bit in audio": (_flip_audio, r"changed bytes in train-0001-\S*input.npy"),
    "a flipped bit in a JSON": (_flip(b'"item"'), r"changed bytes in train-0001-\S*json"),
    "a flipped bit in a header": (_flip(b"train-0001-000000128.output"), "lacks train-0001-|index"),
    "a flipped bit in the first header": (_flip(b"ustar"), "is no plain tar file"),
    "noise": (lambda f: _shard(f).write_bytes(os.urandom(_shard(f).stat().st_size)), "no plain"),
    "zeros": (lambda f: _shard(f).write_bytes(bytes(_shard(f).stat().st_size)), "is no plain tar"),
    "another shard": (
        lambda folder: _shard(folder).write_bytes((folder / "shard-00002.tar").read_bytes()),
        "holds 'train-0002-000000000.input.npy' of which the index does not know",
    ),
    "a doubled member": (
        _rewrite(lambda members: members.insert(2, members[1])),
        r"holds 'train-0001-000000000.output.npy' twice",
    ),
    "a doubled record": (_rewrite(lambda members: members.extend(members[:3])), "twice"),
    "a missing member": (
        _rewrite(lambda members: members.pop(1) and None),
        "lacks train-0001-000000000.output.npy",
    ),
    "a missing record": (
        _rewrite(lambda members: members.__delitem__(slice(3, 6))),
        "lacks train-0001-000000128.input.npy",
    ),
    "members apart": (
        _rewrite(lambda members: members.append(members.pop(0))),
        "lacks train-0001-000000000.input.npy beside",
    ),
    "a pickle": (
        _rewrite(lambda members: members.append(("x.pyd", pickle.dumps(Bomb())))),
        "holds 'x.pyd' of which",
    ),
    "a pickle for audio": (
        _rewrite(lambda members: members.insert(0, (members.pop(0)[0], pickle.dumps(Bomb())))),
        r"bytes of train-0001-000000000.input.npy instead of",
    ),
    "a member that leaves the folder": (
        _rewrite(lambda members: members.insert(0, ("../../x.json", b"{}"))),
        r"holds '../../x.json' of which",
    ),
    "a member without a suffix": (
        _rewrite(lambda members: members.insert(0, ("x", b"{}"))),
        "holds 'x' of which",
    ),
    "another type of number": (_index_of_another_type, r"no usable samples in .*float|int32"),
}


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_in_the_training_thread(
    tmp_path: Path, fault: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    damage, words = FAULTS[fault]
    shard_set = small_set(tmp_path / "set", [[1, 1]] * 6)
    try:
        damage(tmp_path / "set")
        shard_set = ShardSet.open(tmp_path / "set")
    except ShardError:  # a set that is opened while it is whole, and damaged then
        pass
    with pytest.raises(ShardError, match=words) as caught:
        for _ in StreamLoader(shard_set, 2, 0, 1, SEED, workers, buffer=3).groups(0):
            pass
    sentence = str(caught.value)
    assert sentence.startswith(str(_shard(tmp_path / "set"))) and sentence.count("\n") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["set"]  # nothing was run or unpacked


class Changed:
    """A body that does something else than a file at some byte."""

    closed = False

    def __init__(self, stream: BinaryIO, at: int, what: Callable[[], bytes]) -> None:
        self._stream, self._at, self._what, self._done = stream, at, what, 0

    def read(self, size: int) -> bytes:
        if self._done >= self._at:
            return self._what()
        data = self._stream.read(min(size, 100))  # as a network does
        self._done += len(data)
        return data

    def close(self) -> None:
        self.closed = True
        self._stream.close()


def _raise(kind: type[Exception], words: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise kind(words)

    return read


BODIES = {
    "an end": (lambda: b"", r"shard-0000\d.tar is truncated, 2[0-9]* bytes instead of"),
    "a reset": (_raise(ConnectionResetError, "reset by peer"), "cannot be read .reset by peer"),
    "words of its own": (_raise(ShardError, "http://x/y: 503"), "^http://x/y: 503$"),
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_breaks_off_is_a_sentence(
    sets: dict[str, ShardSet], body: str, workers: int
) -> None:
    what, words = BODIES[body]
    source = Counted(sets["even"].place, lambda stream: Changed(stream, 2500, what))  # type: ignore
    loader = StreamLoader(ShardSet.of(source), 4, 0, 1, SEED, workers)
    with pytest.raises(ShardError, match=words):
        list(loader.groups(0))
    assert all(stream.closed for stream in source.open_now)


def test_a_compressed_shard_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    shard_set = small_set(tmp_path, [[1, 1]])
    path = tmp_path / "shard-00000.tar"
    size = path.stat().st_size
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        tar.add(path, "x")
    path.write_bytes((tmp_path / "x.tgz").read_bytes().ljust(size, b"\0")[:size])
    with pytest.raises(ShardError, match="is no plain tar file"):
        list(StreamLoader(shard_set, 1, 0, 1, SEED, workers=0).groups(0))


class Endless:
    """A tar of a member that webdataset leaves out, again and again."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        stream.close()
        self._header, self.done = tarfile.TarInfo("__left__/out").tobuf(), 0

    def read(self, size: int) -> bytes:
        assert self.done < 10**6, "nobody stops it"
        data = (self._header * (size // 512 + 2))[self.done % 512 :][:size]
        self.done += size
        return data

    def close(self) -> None:
        self.closed = True


def test_no_more_is_read_than_the_index_says(sets: dict[str, ShardSet]) -> None:
    source = Counted(sets["even"].place, lambda stream: Endless(stream))  # type: ignore
    with pytest.raises(ShardError, match="lacks train-000"):
        next(StreamLoader(ShardSet.of(source), 48, 0, 1, SEED, workers=0).groups(0))
    assert source.open_now[0].done == source.read_index()[0].shards[0].bytes  # type: ignore


# -- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_a_stream_that_is_left_leaves_no_thread_and_no_file(
    sets: dict[str, ShardSet], workers: int
) -> None:
    source = Counted(sets["even"].place)
    loader = StreamLoader(ShardSet.of(source), 2, 0, 1, SEED, workers, buffer=3)
    groups = loader.groups(0)
    next(groups)
    assert len(_threads()) == (workers + 1 if workers else 0)
    groups.close()  # type: ignore[attr-defined]
    assert not _threads() and all(stream.closed for stream in source.open_now)
    with pytest.raises(KeyboardInterrupt):
        for group in loader.groups(0):
            if group.index == 5:
                raise KeyboardInterrupt
    gc.collect()
    assert not _threads() and all(stream.closed for stream in source.open_now)


def test_a_silent_server_delays_an_end_by_seconds_only(sets: dict[str, ShardSet]) -> None:
    released = threading.Event()

    def silent() -> bytes:
        released.wait(30)
        return b""

    source = Counted(sets["even"].place, lambda stream: Changed(stream, 2500, silent))  # type: ignore
    failed: list[BaseException] = []
    groups = StreamLoader(ShardSet.of(source), 48, 0, 1, SEED).groups(0)

    def interrupted() -> None:
        try:
            ahead.take()
        except BaseException as error:
            failed.append(error)

    ahead = ReadAhead((group for group in groups), 1, "sptmod-test")
    waiting = threading.Thread(target=interrupted)
    waiting.start()
    time.sleep(0.2)
    began = time.monotonic()
    ahead.stop()
    ahead.join()
    waiting.join()
    assert time.monotonic() - began < 8 and failed
    released.set()
    while _threads():
        time.sleep(0.01)


def test_a_program_ends_although_a_stream_is_half_read(sets: dict[str, ShardSet]) -> None:
    program = f"""
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.data.stream import StreamLoader
shard_set = ShardSet.open({sets["even"].place!r})
streams = [StreamLoader(shard_set, 2, 0, 1, 0, 4, 3).groups(epoch) for epoch in range(12)]
print({{next(groups).index for groups in streams}})
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "{0}\n", "")


# -- mixing and memory --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_set(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return small_set(tmp_path_factory.mktemp("long"), [[1] * 40] * 10)


def _arrivals(long_set: ShardSet, buffer: int) -> np.ndarray:
    """For each drawn sequence, in the order of drawing, when it came out of its shard."""
    numbers = _numbers(long_set)
    read, drawn = (
        _drawn(numbers, StreamLoader(long_set, 1, 0, 1, SEED, buffer=size).groups(0))
        for size in (1, buffer)
    )
    return np.argsort(read)[drawn]


def test_a_buffer_that_holds_all_mixes_all(long_set: ShardSet) -> None:
    arrivals = _arrivals(long_set, 400)
    assert abs(np.corrcoef(arrivals, np.arange(400))[0, 1]) < 0.15  # 3 standard deviations


@pytest.mark.parametrize("buffer", [16, 64])
def test_a_smaller_buffer_mixes_neighbours_and_no_more(long_set: ShardSet, buffer: int) -> None:
    arrivals = _arrivals(long_set, buffer)
    steps = np.abs(np.diff(arrivals))
    assert np.median(steps) > buffer / 4
    assert np.corrcoef(arrivals[:-1] - np.arange(399), np.diff(arrivals))[0, 1] < 0
    # What it cannot do: nothing comes earlier than the buffer is long, so that an order over the
    # whole epoch stays that of the shards.
    assert np.all(arrivals - np.arange(400) < buffer)
    assert np.corrcoef(arrivals, np.arange(400))[0, 1] > 0.7


def test_shards_that_are_read_at_once_meet_in_a_batch(long_set: ShardSet) -> None:
    numbers = _numbers(long_set)
    for group in StreamLoader(long_set, 16, 0, 1, SEED, buffer=32).groups(0):
        shards = {long_set.shard_of(number) for number in _drawn(numbers, iter([group]))}
        assert len(shards) > 1


@pytest.mark.parametrize("held", [1, 4])
def test_memory_holds_what_is_said(tmp_path: Path, held: int) -> None:
    geometry = Needs((4096,), 8192, n_params=1).geometry(RATE, [RATIO], "here")
    shard_set = small_set(tmp_path, [[held] * 24] * 8, "pcm16", geometry)
    loader = StreamLoader(shard_set, 4, 0, 1, SEED, workers=4, buffer=8)
    record = 8 * (geometry.target_start + held * geometry.hop)
    batch = 4 * 8 * geometry.sequence_length
    gc.collect()
    tracemalloc.start()
    try:
        for _ in loader.groups(0):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < (8 + 20) * record + (AHEAD + 3) * batch + 600_000


# -- refusals -----------------------------------------------------------------------------------


def test_what_cannot_be_streamed_is_refused_at_once(sets: dict[str, ShardSet]) -> None:
    with pytest.raises(ShardError, match="has too few shards, 8 for 16 processes"):
        StreamLoader(sets["even"], 48, 0, 16, SEED)
    with pytest.raises(ShardError, match="48 sequences, fewer than the batch size of 50"):
        StreamLoader(sets["even"], 50, 0, 2, SEED)
    with pytest.raises(UserError, match="does not divide over 5 processes"):
        StreamLoader(sets["even"], 24, 0, 5, SEED)


def test_the_promise_says_what_can_be_relied_on(sets: dict[str, ShardSet]) -> None:
    promise = StreamLoader(sets["even"], 24, 0, 4, SEED, buffer=99).promise
    for words in ("8 shards", "1/4 of them", "buffer of 99 sequences", "resumed"):
        assert words in promise
