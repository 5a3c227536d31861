"""The watchdog: a training that stands still ends and says where, and no other does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from processes import ROOT, environment

from sptmod_dist.train.positions import Position, table, waited_for
from sptmod_dist.train.ranks import Ranks
from sptmod_dist.train.run_folder import RunFolder
from sptmod_dist.train.watchdog import HANGING, Silence, Watchdog, within

PROGRAM = str(ROOT / "tests" / "hanging_rank.py")
SECONDS = 1.0
ONE = Ranks(0, 1, torch.device("cpu"))
Start = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that has a checkpoint, as far as its name tells, and says that it is running."""
    run = RunFolder(tmp_path / "run")
    run.log_file(0).parent.mkdir(parents=True)
    (run.checkpoints / "step-00000012").mkdir(parents=True)
    run.write_status({"state": "running", "why": "", "iteration": 12})
    return run


@pytest.fixture
def start(run: RunFolder) -> Iterator[Start]:
    """Starts ranks without a launcher, so that nobody but the watchdogs ends them."""
    started: list[subprocess.Popen[str]] = []

    def begin(how: str, ranks: int, seconds: float = SECONDS) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
        command = [sys.executable, PROGRAM, how, str(seconds), str(run.path)]
        for rank in range(ranks):
            where = environment(RANK=str(rank), WORLD_SIZE=str(ranks), **place)
            started.append(subprocess.Popen(
                command, env=where, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ))
        return started

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def said(processes: list[subprocess.Popen[str]]) -> str:
    """All that these wrote to stderr, each of them having ended as it must."""
    text = ""
    for process in processes:
        text += process.communicate(timeout=60)[1]
        assert process.returncode == HANGING, text
    return text


def go_on_for_a_while(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "three groups\n"
    time.sleep(0.5)


def test_a_training_on_one_process_ends_with_a_sentence_and_its_stacks(
    start: Start, run: RunFolder
) -> None:
    text = said(start("waits", 1))
    assert "rank 0: epoch 0, group 3, learning, 1 s ago\n" in text
    newest = run.checkpoints / "step-00000012"
    assert text.splitlines()[-1] == (
        "sptmod-dist: error: no progress for 1 s (distributed.watchdog): rank 0 is at epoch 0, "
        f"group 3, learning; the stacks are in {run.path}/logs/rank*.log; the last good checkpoint "
        f"is {newest}: continue with --resume auto"
    )
    log = run.log_file(0).read_text()
    assert "in sleep_here_for_long" in log and "group 3, learning, 1 s ago" in log
    status = run.status()
    assert status is not None and status["state"] == "failed" and status["iteration"] == 12
    assert status["why"].startswith("no progress for 1 s (distributed.watchdog): rank 0 is at")


@pytest.mark.system
def test_one_rank_that_hangs_is_named_by_one_voice_with_all_stacks(
    start: Start, run: RunFolder
) -> None:
    """The others wait for it in an exchange and, rank 0, in the store that all share."""
    text = said(start("holds-the-store", 3))
    assert text.count("sptmod-dist: error: ") == 1
    assert "(distributed.watchdog): rank 2 is at epoch 0, group 3, learning; " in text
    assert re.search(r"rank 0: epoch 0, group 3, meeting, \d s ago\nrank 1: .* meeting", text)
    logs = [run.log_file(rank).read_text() for rank in range(3)]
    assert ["in sleep_here_for_long" in log for log in logs] == [False, False, True]
    assert all("in meet" in log for log in logs[:2])


@pytest.mark.system
@pytest.mark.parametrize("stopped", [1, 0])
def test_a_rank_that_is_stopped_is_known_though_it_held_the_store(
    start: Start, run: RunFolder, stopped: int
) -> None:
    processes = start("goes-on", 2)
    go_on_for_a_while(processes)
    processes[stopped].send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    text = said([processes[1 - stopped]])
    assert time.monotonic() - begun < SECONDS + 15
    assert re.search(rf"rank {stopped}: epoch 0, group \d+, \w+, \d+ s ago", text)
    if stopped == 1:
        assert "rank 1, whose process does not run, was at epoch 0, group" in text
    else:
        assert "the launcher's store has not answered for" in text
    assert "in meet" in run.log_file(1 - stopped).read_text()


ENDS_A_THREAD = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes with which watchdogs end this process, which goes on all the same."""
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise SystemExit  # ends the thread

    monkeypatch.setattr(os, "_exit", leave)
    return codes


@ENDS_A_THREAD
@pytest.mark.parametrize(("how", "barks"), [
    ("nothing", True), ("reports", False), ("no first group", False), ("is closed", False)
])
def test_only_a_training_that_began_and_hangs_is_ended(
    how: str, barks: bool, run: RunFolder, ended: list[int]
) -> None:
    watchdog = Watchdog(0.3, ONE, run.log_file(0))
    if how != "no first group":
        watchdog.arm()
    if how == "is closed":
        watchdog.close()
    for _ in range(20):
        if how == "reports":
            watchdog.at("writing a checkpoint")
        time.sleep(0.05)
    watchdog.close()
    assert ended == [HANGING] * barks


def test_who_waits_for_a_rank_that_works_does_not_hang(start: Start) -> None:
    processes = start("works-long", 2)  # four times as long as the watchdogs wait
    go_on_for_a_while(processes)
    assert [process.poll() for process in processes] == [None, None]


@pytest.mark.system
def test_a_training_that_was_asleep_goes_on(start: Start, run: RunFolder) -> None:
    """All its processes were, as on a laptop or after Ctrl-Z."""
    processes = start("goes-on", 2)
    go_on_for_a_while(processes)
    for number, pause in ((signal.SIGSTOP, 2 * SECONDS), (signal.SIGCONT, SECONDS)):
        for process in processes:
            process.send_signal(number)
        time.sleep(pause)
    assert [process.poll() for process in processes] == [None, None]
    assert not run.log_file(0).exists()


def test_only_time_in_which_the_watchdog_itself_ran_is_counted() -> None:
    silence, one, other = Silence(interval=1), Position("a", 0, 0), Position("a", 1, 0)
    assert [silence.after(one, now) for now in (0, 1, 2, 3)] == [0, 1, 2, 3]
    assert silence.after(one, 400) == 0, "it slept"
    assert [silence.after(one, now) for now in (401, 402)] == [1, 2]
    assert silence.after(other, 403) == 0, "a report"
    assert silence.after(other, 406) == 3, "a look that came late"
    assert [silence.after(None, now) for now in (407, 408)] == [0, 0], "not armed"


POSITIONS = {0: Position("b", 5, 0), 1: Position("a", 4, 0), 2: Position("b", 5, 0)}


@pytest.mark.parametrize(("changed", "words"), [
    ({}, "rank 1 is at a"),
    ({1: Position("b", 5, 0)}, "all ranks are at b"),
    ({2: Position("b", 5, 0, runs=False)}, "rank 2, whose process does not run, was at b"),
])
def test_the_rank_that_the_others_wait_for_is_named(
    changed: dict[int, Position], words: str
) -> None:
    assert waited_for({**POSITIONS, **changed}) == words


def test_the_table_has_a_line_a_rank_known_or_not() -> None:
    text = table({1: Position("here", 0, time.monotonic() - 3.2)}, 3, silence=7.1)
    assert text.splitlines() == [
        "rank 0: not known",
        "rank 1: here, 3 s ago",
        "rank 2: not known",
        "(the launcher's store has not answered for 7 s)",
    ]


def test_what_hangs_or_fails_costs_its_limit_and_no_more() -> None:
    begun = time.monotonic()
    assert within(0.2, lambda: time.sleep(5)) is None
    assert time.monotonic() - begun < 2
    assert within(5, lambda: 1 / 0) is None
    assert within(5, lambda: 3) == 3


def test_zero_seconds_start_no_thread_and_a_closed_watchdog_leaves_none(tmp_path: Path) -> None:
    before = threading.active_count()
    Watchdog(0, ONE, tmp_path / "logs" / "rank0.log").close()
    assert threading.active_count() == before
    watchdog = Watchdog(100, ONE, tmp_path / "logs" / "rank0.log")
    assert threading.active_count() == before + 1
    watchdog.close()
    assert threading.active_count() == before


@ENDS_A_THREAD
def test_the_stacks_go_to_the_terminal_where_the_log_takes_them_not(
    run: RunFolder, ended: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    run.log_file(0).mkdir()  # a folder is in the way
    watchdog = Watchdog(0.2, ONE, run.log_file(0))
    watchdog.arm()
    time.sleep(1)
    watchdog.close()
    text = capfd.readouterr().err
    assert "in test_the_stacks_go_to" in text and "the stacks are in" not in text
    assert ended == [HANGING]


def test_a_report_is_cheap(tmp_path: Path) -> None:
    watchdog = Watchdog(100, ONE, tmp_path / "rank0.log")
    begun = time.perf_counter()
    for _ in range(1000):
        watchdog.at("somewhere")
    each = (time.perf_counter() - begun) / 1000
    watchdog.close()
    print(f"{1e6 * each:.2f} us a report")
    assert each < 1e-4
