"""Every number of ranks and workers sees the same global batches, however the set is read."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.loader import AHEAD, Group, GroupLoader, Sequences
from sptmod_dist.data.order import epoch_order
from sptmod_dist.data.remote import open_source
from sptmod_dist.data.resident import InMemory, OnDevice
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from tests.data.small_sets import SEQUENCE, build

SEED = 11
EXACT = ["local", "ram", "device", "remote"]
"""The ways of reading that keep the exact order."""


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(build(tmp_path_factory.mktemp("loader")) / "train")


def read_by(mode: str, folder: Path, cache: Path) -> Sequences | OnDevice:
    """A set, read in one of the ways."""
    local = ShardSet.open(folder)
    if mode == "ram":
        return InMemory.load(local, workers=2)
    if mode == "device":
        return OnDevice(local, torch.device("cpu"))
    if mode == "remote":
        return ShardSet.of(open_source(f"pipe:cat {folder}/{{}}", str(cache), 1.0))
    return local


def groups(
    train: ShardSet, batch: int, rank: int = 0, world: int = 1, epoch: int = 0, start: int = 0
) -> list[Group]:
    return list(GroupLoader(train, batch, rank, world, SEED).groups(epoch, start))


def assert_equal(first: Group, second: Group) -> None:
    assert (first.epoch, first.index, first.rows) == (second.epoch, second.index, second.rows)
    assert first.sequence_ids == second.sequence_ids
    for name in ("input", "output", "controls"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_a_group_holds_the_sequences_that_it_names(train: ShardSet) -> None:
    loader = GroupLoader(train, 4, 1, 2, SEED)
    for group in loader.groups(epoch=3):
        assert group.rows == range(2, 4)
        for row, number in enumerate(group.sequence_ids[2:4]):
            sequence = train.sequence(number)
            assert np.array_equal(group.input[row].numpy(), sequence.input)
            assert np.array_equal(group.output[row].numpy(), sequence.output)
            assert np.array_equal(group.controls[row].numpy(), sequence.controls)
        assert group.input.shape == group.output.shape == (2, 1, SEQUENCE)
        assert group.controls.shape == (2, 1)
        assert group.input.dtype == torch.float32


@pytest.fixture(scope="module")
def set_of_53(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples = {"train-a": 36 + 128 * 40, "train-b": 36 + 128 * 13, "test-a": 400}
    return build(tmp_path_factory.mktemp("loader53"), samples=samples) / "train"


@pytest.fixture(scope="module")
def whole(set_of_53: Path) -> list[Group]:
    """Its groups of 24 in epoch 2, as one process sees them."""
    return groups(ShardSet.open(set_of_53), 24, epoch=2)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("mode", EXACT)
def test_all_ranks_together_see_the_global_batches(
    set_of_53: Path, whole: list[Group], mode: str, world: int, workers: int, tmp_path: Path
) -> None:
    sequences = read_by(mode, set_of_53, tmp_path)
    loaders = [GroupLoader(sequences, 24, rank, world, SEED, workers) for rank in range(world)]
    shares = [list(loader.groups(epoch=2)) for loader in loaders]
    for index, group in enumerate(whole):
        parts = [share[index] for share in shares]
        assert {part.sequence_ids for part in parts} == {group.sequence_ids}
        for name in ("input", "output", "controls"):
            together = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(together, getattr(group, name))
    assert {len(share) for share in shares} == {len(whole)} == {2}


@pytest.mark.parametrize("mode", EXACT)
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_two_resumes_in_an_epoch_equal_the_uninterrupted(
    set_of_53: Path, mode: str, workers: int, tmp_path: Path
) -> None:
    expected = groups(ShardSet.open(set_of_53), 9, epoch=1)
    loader = GroupLoader(read_by(mode, set_of_53, tmp_path), 9, 0, 1, SEED, workers)
    found = list(itertools.islice(loader.groups(1), 1))
    found += itertools.islice(loader.groups(1, start=1), 2)  # left in the middle, as by a signal
    found += loader.groups(1, start=3)
    assert len(found) == len(expected) == 5
    for one, other in zip(found, expected, strict=True):
        assert_equal(one, other)
    assert list(loader.groups(1, start=5)) == []


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8, 16, 17])
def test_an_epoch_has_each_sequence_once_up_to_the_dropped_tail(
    train: ShardSet, batch: int
) -> None:
    loader = GroupLoader(train, batch, 0, 1, SEED)
    seen = [number for group in loader.groups(0) for number in group.sequence_ids]
    assert len(seen) == len(set(seen)) == 17 - loader.dropped
    assert loader.dropped == 17 % batch
    assert loader.n_groups == 17 // batch == len(seen) // batch
    assert seen == epoch_order(17, SEED, 0)[: len(seen)].tolist()


def test_another_epoch_has_another_order_and_drops_others(train: ShardSet) -> None:
    loader = GroupLoader(train, 4, 0, 1, SEED)
    epochs = [[g.sequence_ids for g in loader.groups(epoch)] for epoch in range(5)]
    assert len({tuple(epoch) for epoch in epochs}) == 5
    tails = {frozenset(range(17)) - {n for ids in epoch for n in ids} for epoch in epochs}
    assert len(tails) > 1


class Counted:
    """A set that notes which sequences are read, and can be made to wait."""

    def __init__(self, shard_set: ShardSet) -> None:
        self.place, self.geometry = shard_set.place, shard_set.geometry
        self.n_sequences, self.controls = shard_set.n_sequences, shard_set.controls
        self.prefetch = shard_set.prefetch
        self._read_into = shard_set.read_into
        self.read: list[int] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def read_into(self, number: int, audio_in: np.ndarray, audio_out: np.ndarray) -> None:
        self.read.append(number)
        assert self.may_go_on.wait(10)
        self._read_into(number, audio_in, audio_out)


def test_a_start_reads_nothing_of_what_lies_before(train: ShardSet) -> None:
    counted = Counted(train)
    group = next(GroupLoader(counted, 2, 0, 1, SEED, workers=0).groups(0, start=7))
    expected = tuple(epoch_order(17, SEED, 0)[14:16].tolist())
    assert tuple(counted.read) == group.sequence_ids == expected


def test_no_more_is_read_ahead_than_stated(train: ShardSet) -> None:
    counted = Counted(train)
    given = GroupLoader(counted, 2, 0, 1, SEED, workers=3).groups(0)
    for done in range(1, 4):
        next(given)
        for _ in range(100):  # until the threads have nothing left to do
            threading.Event().wait(0.002)
        assert len(counted.read) == 2 * (done + AHEAD)


def test_a_loader_that_is_left_reads_no_more(train: ShardSet) -> None:
    counted = Counted(train)
    given = GroupLoader(counted, 2, 0, 1, SEED, workers=1).groups(0)
    next(given)
    counted.may_go_on.clear()
    threading.Event().wait(0.05)
    before = len(counted.read)
    given.close()
    counted.may_go_on.set()
    threading.Event().wait(0.1)
    assert len(counted.read) <= before + 1


@pytest.mark.parametrize("workers", [0, 2])
def test_iterations_at_the_same_time_do_not_disturb_each_other(
    train: ShardSet, workers: int
) -> None:
    loader = GroupLoader(train, 2, 0, 1, SEED, workers)
    both = list(zip(loader.groups(0), loader.groups(1), strict=True))
    for epoch in (0, 1):
        for found, expected in zip(both, groups(train, 2, epoch=epoch), strict=True):
            assert_equal(found[epoch], expected)


def test_a_group_that_is_kept_stays_as_it_is(train: ShardSet) -> None:
    # Memory is used again only when nobody holds the tensors, or a part of them.
    kept = [group.input[1:, :, 5:9] for group in GroupLoader(train, 2, 0, 1, SEED).groups(0)]
    for part, group in zip(kept, groups(train, 2), strict=True):
        assert torch.equal(part, group.input[1:, :, 5:9])


def test_the_memory_of_groups_is_used_again(train: ShardSet) -> None:
    loader = GroupLoader(train, 2, 0, 1, SEED, workers=1)
    places = {group.input.data_ptr() for epoch in range(5) for group in loader.groups(epoch)}
    assert len(places) <= 2 * (AHEAD + 2)  # input and output are alike here, and change places


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_generator_is_not_drawn_from(train: ShardSet, workers: int) -> None:
    before = torch.get_rng_state()
    list(GroupLoader(train, 4, 0, 1, SEED, workers).groups(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_is_one_sentence_from_a_worker_too(tmp_path: Path, workers: int) -> None:
    train = ShardSet.open(build(tmp_path) / "train")
    path = Path(train.place) / train.index.shards[1].name
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match=r"\A/\S+/shard-00001.tar has changed bytes in [^\n]+\Z"):
        list(GroupLoader(train, 4, 0, 1, SEED, workers).groups(0))


def test_an_error_that_keeps_a_loader_alive_does_not_keep_the_program_from_ending(
    train: ShardSet,
) -> None:
    code = (
        "from sptmod_dist.data.loader import GroupLoader\n"
        "from sptmod_dist.data.shards import ShardSet\n"
        f"groups = GroupLoader(ShardSet.open({train.place!r}), 2, 0, 1, 0, 1).groups(0)\n"
        "next(groups)\n"
        "raise KeyError"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, capture_output=True)
    assert b"KeyError" in result.stderr


@pytest.mark.parametrize(
    "batch, world, said",
    [(6, 4, "4 or 8"), (3, 8, "take 8"), (0, 1, "take 1"), (17, 2, "16 or 18")],
)
def test_a_batch_that_the_processes_do_not_divide_is_refused(
    train: ShardSet, batch: int, world: int, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        GroupLoader(train, batch, 0, world, SEED)


def test_fewer_sequences_than_the_batch_are_refused_with_both_numbers(train: ShardSet) -> None:
    with pytest.raises(ShardError, match="has 17 sequences, fewer than the batch size of 18"):
        GroupLoader(train, 18, 0, 2, SEED)


def test_the_end_of_the_program_does_not_wait_for_a_read(train: ShardSet) -> None:
    code = (
        "import time\n"
        "from sptmod_dist.data.loader import GroupLoader\n"
        "from sptmod_dist.data.shards import ShardSet\n"
        "ShardSet.read_into = lambda *_: time.sleep(100)\n"
        f"loader = GroupLoader(ShardSet.open({train.place!r}), 2, 0, 1, 0, 2)\n"
        "import threading; threading.Thread(target=next, args=(loader.groups(0),), daemon=True)"
        ".start()\n"
        "time.sleep(0.3)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=60)


def test_a_loaders_threads_end_with_it(train: ShardSet) -> None:
    before = set(threading.enumerate())
    loader = GroupLoader(train, 2, 0, 1, SEED, workers=3)
    given = loader.groups(0)
    next(given)
    threads = set(threading.enumerate()) - before
    assert len(threads) == 3
    del loader, given
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
