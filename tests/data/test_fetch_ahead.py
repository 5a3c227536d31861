"""Fetching ahead: along the order, never too far, silent, and ended when nobody wants it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from sptmod_dist.data.fetch_ahead import FetchAhead
from sptmod_dist.data.geometry import ShardError


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def fetchers() -> int:
    return sum(thread.name == "sptmod-fetcher" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def none_is_left() -> None:
    until(lambda: fetchers() == 0)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("room", [1, 3])
def test_no_more_wait_to_be_used_than_there_is_room_for(room: int, threads: int) -> None:
    fetched: list[int] = []
    order = [0, 0, 1, 2, 1, 3, 4, 5, 6, 7, 0, 8]
    ahead = FetchAhead(order, fetched.append, room, None, threads)
    for place, number in enumerate(order):
        until(lambda number=number: number in fetched)  # type: ignore[misc]
        time.sleep(0.02)
        assert len(set(fetched) - set(order[:place])) <= room
        ahead.used(number)
    until(lambda: fetchers() == 0)


def test_where_all_fits_each_is_fetched_once_and_then_there_is_an_end() -> None:
    fetched: list[int] = []
    ahead = FetchAhead(iter([2, 0, 2, 1] * 1000), fetched.append, 2, 3, 1)
    until(lambda: len(fetched) == 2)
    ahead.used(2)
    until(lambda: fetchers() == 0)
    assert fetched == [2, 0, 1]


@pytest.mark.parametrize("error", [ShardError("gone"), OSError(24, "too many open files")])
def test_what_goes_wrong_is_silent_and_the_rest_goes_on(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[int] = []

    def fetch(number: int) -> None:
        fetched.append(number)
        if number == 1:
            raise error

    FetchAhead(range(5), fetch, 9, 5, 1)
    until(lambda: fetchers() == 0)
    assert fetched == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("waiting", ["for room", "for a server"])
def test_closed_it_begins_no_more(waiting: str) -> None:
    fetched: list[int] = []
    server = threading.Event()

    def fetch(number: int) -> None:
        fetched.append(number)
        if waiting == "for a server":
            server.wait(5)

    ahead = FetchAhead(range(100), fetch, 2, None, 2)
    until(lambda: len(fetched) == 2)
    ahead.close()
    server.set()
    until(lambda: fetchers() == 0)
    assert len(fetched) == 2


@pytest.mark.parametrize("enough", [None, 4])
def test_who_was_faster_is_not_fetched_for(enough: int | None) -> None:
    fetched: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def fetch(number: int) -> None:
        fetched.append(number)
        begun.set()
        go.wait(5)

    ahead = FetchAhead([0, 1, 2, 3], fetch, 1, enough, 1)
    begun.wait(5)
    for number in (0, 1, 2):
        ahead.used(number)
    go.set()
    until(lambda: fetched == [0, 3])
    if enough is None:
        ahead.close()
