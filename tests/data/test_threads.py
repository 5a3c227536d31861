"""Threads at the end of a program: what is begun is finished, no more begins, nobody waits long."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from sptmod_dist.data.threads import Threads

WORK = """
import os, time
from sptmod_dist.data.read_ahead import ReadAhead
from sptmod_dist.data.threads import Threads, begin
def work(name, seconds=0.8):
    os.write(1, b"begun ")
    time.sleep(seconds)
    os.write(1, name.encode())
def source():
    for _ in range(9):
        yield work("item ")
"""
ENDS = {
    "a thread with jobs": (
        "threads = Threads(1, 'x')\nfor _ in range(3): threads.submit(work, 'job ')",
        "begun job ",
    ),
    "one that reads ahead": ("ahead = ReadAhead(source(), 5, 'x')", "begun item "),
    "two silent servers": (
        "threads = Threads(2, 'x')\nfor _ in range(2): threads.submit(work, 'job ', 60)",
        "begun begun ",
    ),
}


def run(program: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-c", WORK + program]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ENDS)
def test_a_program_finishes_what_was_begun_and_begins_no_more(name: str) -> None:
    program, said = ENDS[name]
    began = time.monotonic()
    done = run(f"{program}\ntime.sleep(0.2)")
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert time.monotonic() - began < 30


def test_the_child_of_a_fork_does_not_stop_threads_that_it_has_not() -> None:
    """A lock that one of them held at the fork would be held for ever."""
    done = run(
        "begin(lambda: time.sleep(0.3), 'x', lambda: os.write(1, b'stopped '))\n"
        "child = os.fork()\n"
        "if child: os.waitpid(child, 0)\n"
    )
    assert (done.returncode, done.stdout) == (0, "stopped ")


def test_a_cancelled_batch_is_not_held_by_an_idle_thread() -> None:
    class Held:
        pass

    started, go, gone = threading.Event(), threading.Event(), threading.Event()
    threads = Threads(1, "test")
    threads.submit(lambda: (started.set(), go.wait(5)))
    started.wait(5)
    held = Held()
    weakref.finalize(held, gone.set)
    threads.submit(lambda held: None, held).cancel()
    del held
    go.set()
    assert gone.wait(5)
