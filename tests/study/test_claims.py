"""Claims: one worker a training, whoever dies, and whatever the file system's locks are worth."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from processes import environment

from sptmod_dist.study import claims
from sptmod_dist.study.claims import STALE, attempts, claim, is_taken

WORKER = """
import sys, random, time
from pathlib import Path
from sptmod_dist.study.claims import claim
root, out = Path(sys.argv[1]), open(sys.argv[2], "a", buffering=1)
names = [f"t{k}" for k in range(40)]
random.shuffle(names)
for name in names:
    if (root / name / "done").exists():
        continue
    taken = claim(root / name)
    if taken is not None and not (root / name / "done").exists():
        out.write(f"begin {name} {time.monotonic()}\\n")
        time.sleep(random.uniform(0, 0.01))
        out.write(f"end {name} {time.monotonic()}\\n")
        (root / name / "done").touch()
    if taken is not None:
        taken.end("finished", 1)
"""


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, *map(str, arguments)]
    return subprocess.Popen(command, env=environment())


def test_of_many_workers_one_alone_has_a_training(tmp_path: Path) -> None:
    root = tmp_path / "state"
    root.mkdir()
    workers = [start(root, tmp_path / f"out{k}") for k in range(6)]
    assert [worker.wait(60) for worker in workers] == [0] * 6
    lines = [line for k in range(6) for line in (tmp_path / f"out{k}").read_text().splitlines()]
    begun = Counter(line.split()[1] for line in lines if line.startswith("begin"))
    assert begun == Counter({f"t{k}": 1 for k in range(40)})
    assert sum((tmp_path / f"out{k}").stat().st_size > 0 for k in range(6)) > 1


def test_workers_that_are_killed_lose_what_they_had(tmp_path: Path) -> None:
    root, draw = tmp_path / "state", random.Random(3)
    root.mkdir()
    for k in range(5):
        worker = start(root, tmp_path / f"out{k}")
        time.sleep(draw.uniform(0.2, 0.6))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert start(root, tmp_path / "last").wait(60) == 0
    assert all((root / f"t{k}" / "done").exists() for k in range(40))


def test_a_claim_is_held_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    assert not is_taken(folder)
    taken = claim(folder)
    assert taken is not None and taken.number == 1
    assert is_taken(folder) and claim(folder) is None
    taken.end("stopped", 7)
    assert not is_taken(folder)
    again = claim(folder)
    assert again is not None and again.number == 2
    again.end("finished", 9)
    told = [(a["how"], a["iteration"], a["pid"]) for a in attempts(folder)]
    assert told == [("stopped", 7, os.getpid()), ("finished", 9, os.getpid())]


def test_a_child_holds_its_claim_when_the_worker_is_gone(tmp_path: Path) -> None:
    taken = claim(tmp_path / "t")
    assert taken is not None
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)  # until the parent lets go
        os._exit(0)
    os.close(reading)
    taken.close()  # as a killed worker's
    assert claim(tmp_path / "t") is None
    os.close(writing)
    os.waitpid(child, 0)
    assert claim(tmp_path / "t") is not None


def elsewhere(folder: Path, seconds: float) -> None:
    """An attempt of another machine, renewed so many seconds ago."""
    folder.mkdir()
    path = folder / "attempt-1.json"
    path.write_text(json.dumps({"host": "another", "pid": 1, "began": 0}))
    os.utime(path, (time.time() - seconds,) * 2)


def test_another_machines_worker_is_believed_while_it_renews(tmp_path: Path) -> None:
    elsewhere(tmp_path / "lives", 60)  # though its lock is not seen here
    assert claim(tmp_path / "lives") is None and is_taken(tmp_path / "lives")
    elsewhere(tmp_path / "dead", STALE + 60)
    taken = claim(tmp_path / "dead")
    assert taken is not None and taken.number == 2


def test_where_locks_do_not_reach_over_machines_one_alone_makes_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "lock_at_once", lambda descriptor: True)
    monkeypatch.setattr(claims.socket, "gethostname", lambda: "one")
    assert claim(tmp_path / "t") is not None
    monkeypatch.setattr(claims.socket, "gethostname", lambda: "two")
    assert claim(tmp_path / "t") is None  # it is another's, and fresh
    numbers = claims._numbers
    monkeypatch.setattr(claims, "_numbers", lambda folder: numbers(folder)[:0])
    assert claim(tmp_path / "t") is None  # both looked before either had made it


def test_renewing_moves_the_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = claim(tmp_path / "t")
    assert taken is not None
    os.utime(taken.path, (1, 1))
    taken.renew()
    assert taken.path.stat().st_mtime == 1  # it is not time yet
    monkeypatch.setattr(claims, "RENEWED", 0.0)
    taken.renew()
    assert time.time() - taken.path.stat().st_mtime < 60
