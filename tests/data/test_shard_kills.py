"""A build that is killed, stopped, or finds no room: nothing is lost, and the next one goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sptmod_dist.data import shard_build, shard_folders
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.recordings import Manifest, load_item
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shard_convert import convert_sets
from sptmod_dist.data.shard_plan import Cut
from sptmod_dist.data.shard_verify import verify
from sptmod_dist.files import atomic_write
from tests.data.small_sets import HOP, LOOKBACK, NEEDS, record, snapshot

FEW = {"train-a": LOOKBACK + 5 * HOP, "train-b": 900, "validation-a": 300}
TWO = {"train-a": LOOKBACK + HOP, "validation-a": 300}
MANY = {name: 40_000 for name in ("train-a", "train-b", "train-c", "validation-a", "test-a")}
silent = [].append
OPERATIONS = ("rename", "replace", "fsync", "unlink", "rmdir", "mkdir")


def make(manifest: Manifest, out: Path, overwrite: bool = False, **options: Any) -> list[str]:
    """Build; the lines of the account."""
    said: list[str] = []
    shard_bytes = 50_000 if len(manifest.items) == len(MANY) else 10_000
    build_sets(manifest, out, NEEDS, shard_bytes, overwrite, said.append, **options)
    return said


def in_child(work: Callable[[], Any]) -> int:
    """The process id of a fork that does the work and exits with 0."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int) -> bool:
    """Wait for a child; whether it came to its end."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def die_before(number: int) -> None:
    """Let this process kill itself before its so-manieth change of the disk's entries."""
    left = iter(range(number, -1, -1))

    def dying(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return call

    for name in OPERATIONS:
        setattr(os, name, dying(getattr(os, name)))


def visible(out: Path) -> dict[str, bytes]:
    """All files of the sets, and none that is hidden."""
    return {name: data for name, data in snapshot(out).items() if not name.startswith(".")}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Manifest, Path]]:
    """Recordings, and what they give."""
    folder = tmp_path_factory.mktemp("recorded")
    made = {}
    old = {"train-z": 300, "test-z": 400}
    for name, samples in {"old": old, "two": TWO, "few": FEW, "many": MANY}.items():
        manifest = record(folder / name, samples)
        make(manifest, folder / f"{name}-sets")
        made[name] = manifest, folder / f"{name}-sets"
    return made


@pytest.mark.parametrize("sample_format", ["float32", "flac"])
@pytest.mark.parametrize("workers", [2, 5])
def test_the_number_of_threads_does_not_change_a_byte(
    recorded: dict[str, Any], tmp_path: Path, workers: int, sample_format: str
) -> None:
    options: dict[str, Any] = {"sequences_per_record": 3, "sample_format": sample_format}
    make(recorded["few"][0], tmp_path / "one", workers=1, **options)
    make(recorded["few"][0], tmp_path / "more", workers=workers, **options)
    assert snapshot(tmp_path / "more") == snapshot(tmp_path / "one")
    assert len(snapshot(tmp_path / "one")) > 6


@pytest.mark.system
@pytest.mark.parametrize("occupied", [False, True])
def test_a_kill_before_any_change_of_the_disk_loses_nothing(
    recorded: dict[str, Any], tmp_path: Path, occupied: bool
) -> None:
    manifest, right = recorded["two"]
    old, new = snapshot(recorded["old"][1]), snapshot(right)
    for number in range(10_000):
        out = tmp_path / f"{number}"
        if occupied:
            shutil.copytree(recorded["old"][1], out)

        def work(out: Path = out, number: int = number) -> None:
            die_before(number)
            make(manifest, out, overwrite=occupied, workers=1)

        if ended(in_child(work)):
            break
        try:  # without --overwrite: what is there is whole, or becomes so
            make(manifest, out)
            assert snapshot(out) == new
        except ShardError as error:
            assert occupied and "already holds other sets" in str(error)
            assert visible(out) == old
        make(manifest, out, overwrite=occupied)
        assert snapshot(out) == new
        shutil.rmtree(out)
    assert snapshot(out) == new and number > 20


@pytest.mark.system
@pytest.mark.timeout(400)
def test_kills_at_random_moments_lose_nothing(recorded: dict[str, Any], tmp_path: Path) -> None:
    manifest, right = recorded["many"]
    assert_survives_kills(lambda out: in_child(lambda: make(manifest, out)), right, tmp_path, 10)
    assert make(manifest, tmp_path / "last")[-1].startswith("train: copies of lookbacks")


def assert_survives_kills(
    start: Callable[[Path], int], right: Path, tmp_path: Path, kills: int
) -> None:
    """Kill builds until so many were caught in the middle; what comes of them is right."""
    began = time.perf_counter()
    assert ended(start(tmp_path / "whole"))
    taken = time.perf_counter() - began
    new, caught, dice, number = snapshot(right), 0, random.Random(1), 0
    while caught < kills:
        out, number = tmp_path / f"killed-{number}", number + 1
        while True:
            child = start(out)
            time.sleep(dice.uniform(0.05, 0.8) * taken)
            os.kill(child, signal.SIGKILL)
            if ended(child):
                break
            caught += any(out.glob(".building-*/*/shard-*")) if out.is_dir() else 0
        assert snapshot(out) == new
        shutil.rmtree(out)


def test_a_build_that_was_stopped_goes_on_where_it_stood(
    recorded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, right = recorded["few"]
    read: list[str] = []

    def interrupted(manifest: Manifest, item: Any) -> Any:
        read.append(item.id)
        if item.id == "train-b" and not said:  # before anybody has heard of it, a thread may go on
            raise KeyboardInterrupt
        return load_item(manifest, item)

    said: list[str] = []
    monkeypatch.setattr(shard_build, "load_item", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_sets(manifest, tmp_path, NEEDS, 10_000, say=said.append, workers=1)
    assert "goes on with them" in said[-1]
    assert read[:2] == ["train-a", "train-b"]
    read.clear()
    (folder,) = tmp_path.glob(".building-*")
    noted = len(list((folder / "notes").glob("*/*.json")))
    with open(folder / "train" / "shard-00001.tar", "r+b") as file:  # as a power cut may leave it
        file.truncate(1000)
    (folder / "notes" / "train" / "shard-00002.json").write_text("[[")
    said = make(manifest, tmp_path, workers=1)
    assert f"going on with a build that was stopped after {noted} of 12 shards" in said[0]
    assert read[:2] == ["train-a", "train-b"]
    assert snapshot(tmp_path) == snapshot(right)


def test_what_an_interrupted_build_of_something_else_left_is_kept_and_named(
    recorded: dict[str, Any], tmp_path: Path
) -> None:
    manifest, right = recorded["few"]
    for options in ({"sequences_per_record": 2}, {"sample_format": "pcm16"}):

        def work(options: dict[str, Any] = options) -> None:
            die_before(30)
            make(manifest, tmp_path, **options)

        assert not ended(in_child(work))
    left = sorted(tmp_path.glob(".building-????????????????"))
    assert len(left) == 2
    said = make(manifest, tmp_path)
    assert [str(path) in line for path, line in zip(left, said, strict=False)] == [True, True]
    assert visible(tmp_path) == snapshot(right)
    assert sorted(tmp_path.glob(".*")) == left


@pytest.mark.system
def test_a_conversion_in_place_that_is_killed_loses_no_set(
    recorded: dict[str, Any], tmp_path: Path
) -> None:
    """Where sets have left their places and others not yet taken them, all are found again."""
    _, built = recorded["two"]
    needs, cut = replace(NEEDS, lengths=(64, 32)), Cut(1, "float32", 6000)
    convert_sets(built, tmp_path / "right", needs, cut, say=silent)
    right = snapshot(tmp_path / "right")
    finished, number = False, 0
    while not finished:
        sets = tmp_path / f"sets-{number}"
        shutil.copytree(built, sets)

        def work(number: int = number, sets: Path = sets) -> None:
            die_before(number)
            convert_sets(sets, sets, needs, cut, overwrite=True, say=silent)

        finished = ended(in_child(work))
        convert_sets(sets, sets, needs, cut, overwrite=True, say=silent)
        assert {n: d for n, d in visible(sets).items() if n.endswith(".tar")} == {
            n: d for n, d in right.items() if n.endswith(".tar")
        }
        shutil.rmtree(sets)
        number += 1
    assert number > 20


def test_control_c_during_a_move_brings_the_former_sets_back(
    recorded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The move is made, and then the signal is heard."""
    manifest, _ = recorded["few"]
    make(recorded["old"][0], tmp_path)
    before, rename = visible(tmp_path), Path.rename
    for place in ("old-train", "old-test", "train"):
        asked: list[str] = []

        def interrupted(
            self: Path, target: Path, place: str = place, asked: list[str] = asked
        ) -> Path:
            moved = rename(self, target)
            if target.name == place and not asked:
                asked.append(place)
                raise KeyboardInterrupt
            return moved

        monkeypatch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make(manifest, tmp_path, overwrite=True)
        monkeypatch.undo()
        assert visible(tmp_path) == before


def test_control_c_before_the_first_move_moves_nothing_later(
    recorded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, right = recorded["few"]
    make(recorded["old"][0], tmp_path)
    before = visible(tmp_path)

    @contextmanager
    def interrupted(path: Path) -> Iterator[Path]:
        with atomic_write(path) as temporary:
            yield temporary
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_folders, "atomic_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(manifest, tmp_path, overwrite=True)
    monkeypatch.undo()
    with pytest.raises(ShardError, match="already holds other sets"):
        make(manifest, tmp_path)
    assert visible(tmp_path) == before
    make(manifest, tmp_path, overwrite=True)
    assert snapshot(tmp_path) == snapshot(right)


def test_of_two_builders_one_builds(recorded: dict[str, Any], tmp_path: Path) -> None:
    manifest, right = recorded["many"]
    children = [in_child(lambda: make(manifest, tmp_path / "out")) for _ in range(4)]
    results = [ended(child) for child in children]
    assert any(results)
    assert snapshot(tmp_path / "out") == snapshot(right)


def test_the_second_builder_says_that_one_is_running(
    recorded: dict[str, Any], tmp_path: Path
) -> None:
    manifest, right = recorded["few"]

    def work() -> None:
        shard_build.load_item = lambda *_: time.sleep(60)  # type: ignore[assignment, return-value]
        make(manifest, tmp_path)

    child = in_child(work)
    while not list(tmp_path.glob(".building-*/*")):
        time.sleep(0.01)
    with pytest.raises(ShardError, match="another build is running there: wait for it"):
        make(manifest, tmp_path)
    os.kill(child, signal.SIGKILL)
    assert not ended(child)
    make(manifest, tmp_path)
    assert snapshot(tmp_path) == snapshot(right)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs that can be mounted anew with another size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("occupied", [False, True])
def test_a_full_disk_is_said_and_what_was_there_stays(
    recorded: dict[str, Any],
    small_disk: Path,
    occupied: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manifest, right = recorded["few"]
    out, refused = small_disk / "out", 0
    monkeypatch.setattr("sptmod_dist.data.shard_store._require_space", lambda *_: None)
    resize(small_disk, 2000)
    if occupied:
        shutil.copytree(recorded["old"][1], out)
    size = shutil.disk_usage(small_disk).used // 1024 + 20
    while True:  # ever more room, so that it ends in another place each time
        resize(small_disk, size)
        before = snapshot(out)
        try:
            make(manifest, out, overwrite=occupied, workers=2)
            break
        except ShardError as error:
            assert "No space left on device" in str(error) and "\n" not in str(error)
            assert snapshot(out) == before and not list(out.glob(".*"))
        refused, size = refused + 1, size + 4
    assert snapshot(out) == snapshot(right)
    assert refused >= 3


def resize(folder: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(folder)], check=True)


@pytest.mark.system
@pytest.mark.timeout(600)
def test_kills_of_the_command_at_random_moments_lose_nothing(tmp_path: Path) -> None:
    """As above, with the program that a user runs, threads and a set of 100 MB."""
    manifest = record(tmp_path / "in", {name: 2_000_000 for name in MANY})
    options = ["--model.preset=tiny", "--model.n_params=1", "--lengths=[4096]"]
    command = [sys.executable, "-m", "sptmod_dist", "shards", "build", *options, "--out"]

    def start(out: Path) -> int:
        arguments = [*command, str(out), "--manifest", str(manifest.path)]
        arguments += ["--data.shard_megabytes=1", "--workers=3"]
        return subprocess.Popen(arguments, stdout=subprocess.DEVNULL).pid

    assert ended(start(tmp_path / "right"))
    assert_survives_kills(start, tmp_path / "right", tmp_path, 25)
    assert [verify(folder) for folder in (tmp_path / "right").iterdir()] == [[]] * 3
