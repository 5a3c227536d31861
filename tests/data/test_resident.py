"""Recordings in memory give the sequences that the shards give; memory is shared and given back."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from sptmod_dist.data import shared_memory
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.loader import GroupLoader
from sptmod_dist.data.resident import InMemory, OnDevice, decode, resident_samples
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.data.shared_memory import SharedMemory
from sptmod_dist.errors import UserError
from tests.data.small_sets import HOP, LOOKBACK, SAMPLES, build


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return ShardSet.open(build(tmp_path_factory.mktemp("resident")) / "train")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of the system's memory file system."""
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_sequence_is_bit_for_bit_that_of_the_shards(train: ShardSet, workers: int) -> None:
    held, device = InMemory.load(train, workers), OnDevice(train, torch.device("cpu"))
    everything = device.gather(tuple(range(train.n_sequences)))
    for number in range(train.n_sequences):
        expected = train.sequence(number)
        found = [np.full_like(array, np.nan) for array in expected[:2]]
        held.read_into(number, *found)
        for one, two, other in zip(found, everything, expected, strict=False):
            assert np.array_equal(one, other)
            assert np.array_equal(two[number].numpy(), other)
        assert np.array_equal(held.controls(number), expected.controls)
        assert np.array_equal(everything[2][number].numpy(), expected.controls)


def test_the_recordings_stand_in_memory_once(train: ShardSet) -> None:
    covered = [LOOKBACK + n * HOP for n in (5, 4, 8)]  # the short item holds no sequence
    assert resident_samples(train) == 2 * sum(covered) < 2 * sum(SAMPLES.values())


def test_too_little_memory_is_refused_with_both_sizes(
    train: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Full)
    with pytest.raises(ShardError, match="take 0.00 GB, .* .0.00 GB of memory are free, .*: set"):
        InMemory.load(train, 1)


@pytest.mark.parametrize(
    "load", [lambda s: InMemory.load(s, 1), lambda s: OnDevice(s, torch.device("cpu"))]
)
def test_memory_that_a_limit_takes_is_refused_in_the_same_words(
    train: ShardSet, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limited(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", limited)
    with pytest.raises(ShardError, match="of memory are free, .*: set data.resident"):
        load(train)


def fill_with(value: float) -> Any:
    def fill(array: np.ndarray) -> None:
        array[:] = value

    return fill


def refuse(array: np.ndarray) -> None:
    raise ShardError("a faulty shard")


def test_the_first_to_come_fills_it_and_the_others_see_it(folder: Path) -> None:
    first = SharedMemory("x", 1000, fill_with(7))
    second = SharedMemory("x", 1000, refuse)
    assert second.array[999] == 7 and len(second.array) == 1000
    first.array[3] = 5
    assert second.array[3] == 5
    first.unlink()
    second.unlink()
    assert list(folder.iterdir()) == [] and second.array[3] == 5


def test_a_fault_while_filling_leaves_nothing(folder: Path) -> None:
    with pytest.raises(ShardError, match="a faulty shard"):
        SharedMemory("x", 10, refuse)
    assert list(folder.iterdir()) == []
    assert SharedMemory("x", 10, fill_with(1)).array.sum() == 10


def attach(folder: str, sums: Any) -> None:
    shared_memory.FOLDER = Path(folder)
    memory = SharedMemory("y", 5000, lambda array: array.__setitem__(slice(None), os.getpid()))
    sums.put(float(memory.array[0]))
    sums.put(float(np.ptp(memory.array)))


def test_processes_that_come_at_once_share_one_memory(folder: Path) -> None:
    context = get_context("spawn")
    sums = context.Queue()
    processes = [context.Process(target=attach, args=(str(folder), sums)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [sums.get(timeout=60) for _ in range(6)]
    for process in processes:
        process.join(30)
    # Whoever came after all others had gone (the machine is busy) has filled it again or seen it.
    assert set(found) <= {0.0, *(float(process.pid or 0) for process in processes)}


def test_what_a_killed_process_left_is_removed_and_what_is_used_stays(folder: Path) -> None:
    used = SharedMemory("used", 10, fill_with(1))
    code = (
        "import os, signal, pathlib\n"
        "from sptmod_dist.data import shared_memory\n"
        f"shared_memory.FOLDER = pathlib.Path({str(folder)!r})\n"
        "kill = lambda array: os.kill(os.getpid(), signal.SIGKILL)\n"
        "shared_memory.SharedMemory('left', 1000, kill)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60)
    assert len(list(folder.iterdir())) == 2
    SharedMemory("new", 10, fill_with(2)).unlink()
    assert list(folder.iterdir()) == [used.path]


def test_half_filled_memory_is_filled_again(folder: Path) -> None:
    path = folder / "sptmod-dist-z"
    path.write_bytes(bytes(4 * 10 + 8))  # by a process that was killed: nobody holds the lock
    assert SharedMemory("z", 10, fill_with(3)).array.sum() == 30


def test_too_small_a_memory_file_system_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="left in .*: make it larger .a container's --shm-size."):
        SharedMemory("x", 10**6, fill_with(1))
    assert list(folder.iterdir()) == []


def test_more_than_the_job_may_take_is_refused_before_it_is_killed_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "free_memory", lambda: 4000)
    kept = SharedMemory("small", 900, fill_with(1))
    with pytest.raises(UserError, match="GB are left in .* give the job more memory, or set data"):
        SharedMemory("x", 10**4, fill_with(1))
    assert list(folder.iterdir()) == [kept.path]
    monkeypatch.setattr(shared_memory, "free_memory", lambda: 400)
    assert SharedMemory("small", 900, refuse).array.sum() == 900  # it has its memory already


def test_a_limit_of_addresses_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limited(*_: int) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", limited)
    with pytest.raises(UserError, match="GB are left in .*, or set data.resident to null"):
        SharedMemory("x", 10, fill_with(1))
    assert list(folder.iterdir()) == []


def test_without_such_memory_the_setting_is_named(folder: Path) -> None:
    folder.rmdir()
    with pytest.raises(UserError, match="cannot be made .* set data.resident to null"):
        SharedMemory("x", 10, fill_with(1))


def test_a_lock_is_held_while_it_is_in_use(folder: Path) -> None:
    memory = SharedMemory("x", 10, fill_with(1))
    with open(memory.path, "rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_decoding_reports_a_damaged_record(tmp_path: Path) -> None:
    folder = build(tmp_path) / "train"
    path = folder / "shard-00001.tar"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    train = ShardSet.open(folder)
    with pytest.raises(ShardError, match="shard-00001.tar has changed bytes"):
        decode(train, np.empty(resident_samples(train), np.float32), workers=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gathers_and_gets_the_same_batches(train: ShardSet) -> None:
    held = OnDevice(train, torch.device("cuda"))
    plain = GroupLoader(train, 4, 0, 1, 5, workers=0)
    pinned = GroupLoader(train, 4, 0, 1, 5, workers=2, pin_memory=True)
    for one, two, three in zip(
        plain.groups(0), pinned.groups(0), GroupLoader(held, 4, 0, 1, 5).groups(0), strict=True
    ):
        assert two.input.is_pinned() and three.input.is_cuda
        for name in ("input", "output", "controls"):
            expected = getattr(one, name)
            assert torch.equal(getattr(two, name), expected)
            assert torch.equal(getattr(three, name).cpu(), expected)
