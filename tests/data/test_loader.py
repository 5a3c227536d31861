"""Every number of ranks and workers sees the same global batches; every group can be reached."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.loader import Group, GroupLoader
from sptmod_dist.data.order import epoch_order
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from tests.data.small_sets import SEQUENCE, build

SEED = 11


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(build(tmp_path_factory.mktemp("loader")) / "train")


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


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_all_ranks_together_see_the_global_batches(
    built_for_24: tuple[ShardSet, list[Group]], world: int, workers: int
) -> None:
    train, whole = built_for_24
    loaders = [GroupLoader(train, 24, rank, world, SEED, workers) for rank in range(world)]
    shares = [list(loader.groups(epoch=2)) for loader in loaders[:: 1 if workers == 0 else world]]
    assert {len(share) for share in shares} == {len(whole)}
    for index, group in enumerate(whole):
        for share in shares:
            part = share[index]
            assert part.sequence_ids == group.sequence_ids
            rows = slice(part.rows.start, part.rows.stop)
            assert torch.equal(part.input, group.input[rows])
            assert torch.equal(part.output, group.output[rows])
        if workers == 0:
            together = torch.cat([share[index].input for share in shares])
            assert torch.equal(together, group.input)


@pytest.fixture(scope="module")
def built_for_24(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardSet, list[Group]]:
    """A set of 53 sequences, and its groups of 24 in epoch 2 as one process sees them."""
    samples = {"train-a": 36 + 128 * 40, "train-b": 36 + 128 * 13, "test-a": 400}
    folder = tmp_path_factory.mktemp("loader24")
    train = ShardSet.open(build(folder, samples=samples) / "train")
    return train, groups(train, 24, epoch=2)


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


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_two_resumes_in_an_epoch_equal_the_uninterrupted(train: ShardSet, workers: int) -> None:
    whole = groups(train, 3, epoch=1)
    loader = GroupLoader(train, 3, 0, 1, SEED, workers)
    found = list(itertools.islice(loader.groups(1), 1))
    found += itertools.islice(loader.groups(1, start=1), 2)  # left in the middle, as by a signal
    found += loader.groups(1, start=3)
    assert len(found) == len(whole) == 5
    for one, other in zip(found, whole, strict=True):
        assert_equal(one, other)
    assert list(loader.groups(1, start=5)) == []


def test_a_start_reads_nothing_of_what_lies_before(
    train: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, read = GroupLoader(train, 2, 0, 1, SEED), []
    plain = ShardSet.sequence
    monkeypatch.setattr(ShardSet, "sequence", lambda self, n: read.append(n) or plain(self, n))
    group = next(loader.groups(0, start=7))
    assert tuple(read) == group.sequence_ids == tuple(epoch_order(17, SEED, 0)[14:16].tolist())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_iteration_ends_the_first(train: ShardSet, workers: int) -> None:
    loader = GroupLoader(train, 2, 0, 1, SEED, workers)
    first = loader.groups(0)
    next(first)
    assert next(loader.groups(1)).epoch == 1
    with pytest.raises(RuntimeError, match="another iteration"):
        next(first)


@pytest.mark.parametrize("workers", [0, 1])
def test_torchs_generator_is_not_drawn_from(train: ShardSet, workers: int) -> None:
    before = torch.get_rng_state()
    list(GroupLoader(train, 4, 0, 1, SEED, workers).groups(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_record_is_one_sentence_from_a_worker_too(tmp_path: Path, workers: int) -> None:
    train = ShardSet.open(build(tmp_path) / "train")
    path = train.folder / train.index.shards[1].name
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match=r"\A/\S+/shard-00001.tar has changed bytes in [^\n]+\Z"):
        list(GroupLoader(train, 4, 0, 1, SEED, workers).groups(0))


def test_a_worker_that_dies_is_one_sentence(
    train: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShardSet, "sequence", lambda self, number: __import__("os")._exit(9))
    with pytest.raises(ShardError, match=r"\A[^\n]+ has died [^\n]+ data.workers [^\n]+\Z"):
        list(GroupLoader(train, 4, 0, 1, SEED, workers=1).groups(0))


def test_an_error_that_keeps_a_loader_alive_does_not_keep_the_program_from_ending(
    train: ShardSet,
) -> None:
    # Python ends the workers that are left by SIGTERM, and waits: they must obey it.
    code = (
        "from sptmod_dist.data.loader import GroupLoader\n"
        "from sptmod_dist.data.shards import ShardSet\n"
        f"groups = GroupLoader(ShardSet.open({str(train.folder)!r}), 2, 0, 1, 0, 1).groups(0)\n"
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
