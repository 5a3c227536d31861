"""A cache among processes, threads, kills, full disks and other people: right bytes, no hang."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sptmod_dist.data.cache import Cache, Fetch
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.shard_index import Shard

SIZE = 30_000


def shard(number: int, size: int = SIZE) -> Shard:
    return Shard(f"shard-{number:05d}.tar", size, hashlib.sha256(content(number, size)).hexdigest())


def content(number: int, size: int = SIZE) -> bytes:
    return random.Random(number).randbytes(size)


def fetching(number: int, fetched: list[int] | None = None) -> Fetch:
    def fetch(descriptor: int) -> None:
        if fetched is not None:
            fetched.append(number)
        os.pwrite(descriptor, content(number), 0)

    return fetch


def take(cache: Cache, number: int, fetched: list[int] | None = None) -> None:
    """Open a shard, see that it is right, and close it."""
    descriptor = cache.open(shard(number), fetching(number, fetched))
    try:
        assert os.pread(descriptor, SIZE + 1, 0) == content(number)
    finally:
        os.close(descriptor)


def held(cache: Cache) -> set[int]:
    return {number for number in range(30) if cache.path(shard(number)).exists()}


def left(folder: Path) -> list[str]:
    """All in a folder but locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def child(work: Callable[[], object], limit: int = 30) -> int:
    """A process of its own, which the kernel ends after so many seconds."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(limit)
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def code_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def mounted(folder: Path, options: str) -> None:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB."""
    mounted(tmp_path / "disk", "size=64k")
    yield tmp_path / "disk"
    subprocess.run(["umount", str(tmp_path / "disk")], check=True)


def test_what_was_used_longest_ago_leaves_first(tmp_path: Path) -> None:
    cache, fetched = Cache(tmp_path, 3 * SIZE), list[int]()
    for number in (0, 1, 2, 0, 3, 1, 0):
        take(cache, number, fetched)
        time.sleep(0.02)  # the clock of files goes in steps
    assert fetched == [0, 1, 2, 3, 1]
    assert held(cache) == {0, 1, 3}
    assert len(left(tmp_path)) == 3


def test_what_is_not_the_caches_own_stays(tmp_path: Path) -> None:
    names = ["holidays.tar", "shard-00000.tar", "x.part"]
    for name in names:
        (tmp_path / name).write_bytes(bytes(SIZE))
    cache = Cache(tmp_path, 2 * SIZE)
    for number in range(4):
        take(cache, number)
    assert all((tmp_path / name).exists() for name in names)
    assert held(cache) == {2, 3}


def test_shards_of_equal_content_are_kept_once(tmp_path: Path) -> None:
    cache, fetched = Cache(tmp_path, 9 * SIZE), list[int]()
    take(cache, 0, fetched)
    os.close(cache.open(shard(0)._replace(name="shard-00009.tar"), fetching(0, fetched)))
    assert fetched == [0]


def test_many_processes_and_threads_share_a_cache_of_two_shards(tmp_path: Path) -> None:
    limit = 2 * SIZE

    def work(seed: int) -> None:
        cache, faults = Cache(tmp_path, limit), list[BaseException]()

        def read(dice: random.Random) -> None:
            try:
                for _ in range(25):
                    take(cache, dice.randrange(5))
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=read, args=(random.Random(n),)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not faults, faults

    children = [child(lambda n=n: work(3 * n)) for n in range(4)]  # type: ignore[misc]
    most = 0
    while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        most = max(most, sum(size_of(path) for path in tmp_path.iterdir()))
        time.sleep(0.001)
    assert [code_of(pid) for pid in children] == [0] * 4
    assert 0 < most <= limit
    assert all(name.endswith(".tar") for name in left(tmp_path))


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_shard_that_many_want_is_fetched_once(tmp_path: Path) -> None:
    cache, fetched = Cache(tmp_path, 9 * SIZE), list[int]()
    threads = [threading.Thread(target=take, args=(cache, 0, fetched)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert fetched == [0]


def test_a_fault_is_met_once_by_all_who_wait_for_the_shard(tmp_path: Path) -> None:
    """Each of them would try for minutes, one after the other."""
    cache, tries, faults = Cache(tmp_path, 9 * SIZE), list[int](), list[str]()

    def fail(descriptor: int) -> None:
        tries.append(0)
        time.sleep(0.3)
        raise ShardError("the server is gone")

    def ask() -> None:
        with pytest.raises(ShardError) as met:
            cache.open(shard(0), fail)
        faults.append(str(met.value))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(tries) == 1 and faults == ["the server is gone"] * 8
    lock = tmp_path / f".{shard(0).sha256}.lock"
    assert b"the server is gone" in lock.read_bytes()
    take(cache, 0, tries)  # who asks later tries again
    assert len(tries) == 2 and lock.read_bytes() == b""


@pytest.mark.timeout(20)
@pytest.mark.parametrize("then", ["another place", "it came", "it was killed"])
def test_no_other_fault_is_taken_over(tmp_path: Path, then: str) -> None:
    """A mirror's fault, one of an hour ago, or that of a process that could not tell."""
    cache, begun, fetched = Cache(tmp_path, 9 * SIZE), tmp_path / "begun", list[int]()

    def hold(descriptor: int) -> None:
        begun.touch()
        time.sleep(0.3)
        if then == "another place":
            raise ShardError("the server is gone")
        if then == "it was killed":
            os.kill(os.getpid(), signal.SIGKILL)
        fetching(0)(descriptor)
        cache.path(shard(0)).with_suffix(".part").unlink()  # by hand: the next one must fetch it

    def gone(descriptor: int) -> None:
        raise ShardError("the server was gone")

    with pytest.raises(ShardError):
        cache.open(shard(0), gone, "a")
    holder = child(lambda: cache.open(shard(0), hold, "a"))
    while not begun.exists():
        time.sleep(0.01)
    descriptor = cache.open(shard(0), fetching(0, fetched), "b" if "place" in then else "a")
    assert os.pread(descriptor, SIZE, 0) == content(0) and fetched == [0]
    os.close(descriptor)
    code_of(holder)


def test_an_open_shard_is_read_on_after_it_has_left(tmp_path: Path) -> None:
    cache = Cache(tmp_path, SIZE)
    descriptor = cache.open(shard(0), fetching(0))
    take(cache, 1)
    assert held(cache) == {1}
    assert os.pread(descriptor, SIZE, 0) == content(0)
    os.close(descriptor)


@pytest.mark.parametrize("wanted", [0, 1])
@pytest.mark.timeout(20)
def test_a_kill_in_the_middle_of_a_download_leaves_a_cache_as_good_as_new(
    tmp_path: Path, wanted: int
) -> None:
    cache = Cache(tmp_path, SIZE)  # of one shard: what is left of the other counts
    begun = tmp_path / "begun"

    def half(descriptor: int) -> None:
        os.pwrite(descriptor, content(0)[: SIZE // 2], 0)
        begun.touch()
        time.sleep(60)

    pid = child(lambda: cache.open(shard(0), half))
    while not begun.exists():
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    assert code_of(pid) == -signal.SIGKILL
    begun.unlink()
    assert left(tmp_path) == [f"{shard(0).sha256}.part"]
    take(cache, wanted)
    assert left(tmp_path) == [f"{shard(wanted).sha256}.tar"]


@pytest.mark.timeout(20)
def test_kills_at_random_moments_never_leave_wrong_bytes(tmp_path: Path) -> None:
    cache, dice = Cache(tmp_path, 2 * SIZE), random.Random(2)

    def work() -> None:
        for number in range(1_000_000):
            take(cache, number % 4)

    for _ in range(12):
        children = [child(work) for _ in range(2)]
        time.sleep(dice.uniform(0.01, 0.1))
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            assert code_of(pid) == -signal.SIGKILL
        for number in range(4):
            take(cache, number)


@pytest.mark.parametrize("error", [ShardError("no"), KeyboardInterrupt(), OSError(5, "broken")])
def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def fail(descriptor: int) -> None:
        os.pwrite(descriptor, b"x", 0)
        raise error

    cache, descriptors = Cache(tmp_path, SIZE), len(os.listdir("/dev/fd"))
    expected = ShardError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        cache.open(shard(0), fail)
    assert left(tmp_path) == [] and len(os.listdir("/dev/fd")) == descriptors
    take(cache, 0)


@pytest.mark.parametrize("spoil", [lambda path: os.truncate(path, 99), lambda path: turn(path)])
def test_what_is_no_whole_shard_is_fetched_again(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    cache, fetched = Cache(tmp_path, SIZE), list[int]()
    take(cache, 0, fetched)
    spoil(cache.path(shard(0)))
    take(cache, 0, fetched)
    assert fetched == [0, 0]


def turn(path: Path) -> None:
    """Into a pipe, at which a reader would wait."""
    path.unlink()
    os.mkfifo(path)


def test_links_of_others_are_not_followed(tmp_path: Path) -> None:
    cache, precious = Cache(tmp_path / "cache", 2 * SIZE), tmp_path / "precious"
    precious.write_text("mine")
    cache.path(shard(0)).with_suffix(".part").symlink_to(precious)
    take(cache, 0)
    cache.path(shard(1)).symlink_to(precious)
    with pytest.raises(ShardError, match="cannot keep shards .Too many levels of symbolic links"):
        take(cache, 1)
    assert precious.read_text() == "mine"


def test_a_folder_that_is_emptied_by_hand_does_no_harm(tmp_path: Path) -> None:
    cache, fetched = Cache(tmp_path / "cache", SIZE), list[int]()

    def fetch(descriptor: int) -> None:
        shutil.rmtree(tmp_path / "cache")
        Cache(tmp_path / "cache", SIZE)  # somebody else begins anew
        fetching(0, fetched)(descriptor)

    descriptor = cache.open(shard(0), fetch)
    assert os.pread(descriptor, SIZE, 0) == content(0)
    os.close(descriptor)
    shutil.rmtree(tmp_path / "cache")
    take(cache, 0, fetched)
    assert fetched == [0, 0] and held(cache) == {0}


@pytest.mark.timeout(20)
def test_a_process_that_was_forked_meanwhile_does_not_hold_locks_on(tmp_path: Path) -> None:
    cache, forked = Cache(tmp_path, SIZE), list[int]()

    def fetch(descriptor: int) -> None:
        forked.append(child(lambda: time.sleep(60)))
        fetching(0)(descriptor)

    os.close(cache.open(shard(0), fetch))
    cache.path(shard(0)).unlink()
    began = time.monotonic()
    take(cache, 0)
    assert time.monotonic() - began < 5
    os.kill(forked[0], signal.SIGKILL)
    code_of(forked[0])


def test_a_shard_larger_than_the_cache_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    cache = Cache(tmp_path, SIZE - 1)
    with pytest.raises(
        ShardError, match="http://x: shard-00000.tar has 3e-05 GB and the cache may"
    ):
        cache.require_room(shard(0), "http://x")
    with pytest.raises(ValueError):
        take(cache, 0)


@pytest.mark.parametrize("inside", ["", "cache"])
def test_a_file_in_the_place_of_the_folder_is_a_sentence(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match="cannot keep shards .*set data.cache_folder to another"):
        Cache(tmp_path / "file" / inside, SIZE)


def test_a_home_that_does_not_exist_is_a_sentence() -> None:
    with pytest.raises(ShardError, match="no such home folder: set data.cache_folder to another"):
        Cache("~no-such-user-anywhere/cache", SIZE)


def test_a_folder_that_may_not_be_written_to_is_a_sentence(disk: Path) -> None:
    cache = Cache(disk, 9 * SIZE)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for use in (lambda: Cache(disk, SIZE), lambda: take(cache, 0)):
        with pytest.raises(ShardError, match=f"{disk} cannot keep shards .Read-only file system"):
            use()


def test_a_user_without_permission_gets_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Cache(tmp_path / "cache", SIZE)

    def work() -> None:
        os.setuid(65534)
        with pytest.raises(ShardError, match="cannot keep shards .Permission denied"):
            Cache(tmp_path / "cache", SIZE)

    if os.getuid():
        (tmp_path / "cache").chmod(0o500)
        with pytest.raises(ShardError, match="cannot keep shards .Permission denied"):
            Cache(tmp_path / "cache" / "inside", SIZE)
    else:  # who may do anything becomes somebody else
        for folder in [tmp_path, *list(tmp_path.parents)[:-2]]:
            folder.chmod(folder.stat().st_mode | 0o055)
        assert code_of(child(work)) == 0


def test_a_full_disk_is_said_at_once_and_nothing_is_left(disk: Path) -> None:
    cache, fetched = Cache(disk, 100 * SIZE), list[int]()
    take(cache, 0, fetched)
    take(cache, 1, fetched)
    with pytest.raises(ShardError, match=f"{disk} cannot keep shards .No space left on device"):
        take(cache, 2, fetched)
    assert fetched == [0, 1] and held(cache) == {0, 1} and len(left(disk)) == 2
    take(Cache(disk, 2 * SIZE), 2, fetched)  # with a limit that fits the disk
