"""One loader in a process of its own: waits for orders, reads, answers with speed or memory.

    python -m benchmarks.data_reader        # benchmarks/jobs.py starts it

The loader is opened by the first order and stays open, so that loaders can take turns: what it had
read ahead while it waited is thrown away before the time counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice

import psutil

from benchmarks.data_contenders import Batch, Source
from benchmarks.work import JOB, SOCKET

AHEAD = 2
"""Batches that loaders read ahead for each worker; ours, so many in all."""
LEAST = 4
"""Batches that are timed, however long they take."""
_PAGE = 1024
"""Numbers in a page of memory: one of each is looked at."""
_PRIVATE = ("Pss_Anon:", "Pss_Shmem:")


@dataclass(frozen=True)
class Order:
    """Read for some time.

    Args:
        source: what is read.
        seconds: at least so long.
        memory: watch the memory from the opening on, and time nothing.
    """

    source: Source
    seconds: float
    memory: bool = False

    def to_line(self) -> bytes:
        """As it travels."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @staticmethod
    def from_line(line: bytes) -> Order:
        """As it arrives."""
        fields = json.loads(line)
        return Order(Source(**fields.pop("source")), **fields)


def touch(batch: Batch, source: Source) -> None:
    """Look at every page of a batch, on whatever device it is.

    Raises:
        ValueError: it is not what a training takes.
    """
    b, t = source.batch_size, source.samples
    shapes = [(b, 1, t), (b, 1, t), (b, 1)]
    found = [tuple(tensor.shape) for tensor in batch]
    if found != shapes or any(str(tensor.dtype) != "torch.float32" for tensor in batch):
        raise ValueError(f"{source.loader} gave {found} instead of {shapes}")
    float(sum(tensor.view(-1)[::_PAGE].sum() for tensor in batch))


def speed(batches: Iterator[Batch], order: Order) -> float:
    """Sequences a second."""
    source, count = order.source, 0
    for batch in islice(batches, AHEAD * (source.workers + 1)):
        touch(batch, source)
    begin = time.perf_counter()
    for batch in batches:
        touch(batch, source)
        count += 1
        seconds = time.perf_counter() - begin
        if seconds >= order.seconds and count >= LEAST:
            break
    return count * source.batch_size / seconds


@contextlib.contextmanager
def watched() -> Iterator[list[int]]:
    """Collects what memory this process and its children take meanwhile, in bytes."""
    found, done = [memory()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            found.append(memory())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def memory() -> int:
    """Bytes that this process and its children hold, shared memory once; no cached files.

    Linux alone can tell shares apart; elsewhere what is resident is added up.
    """
    process = psutil.Process()
    return sum(_held(one) for one in [process, *process.children(recursive=True)])


def _held(process: psutil.Process) -> int:
    try:
        with open(f"/proc/{process.pid}/smaps_rollup") as file:
            lines = [line.split() for line in file]
        return sum(1024 * int(words[1]) for words in lines if words[0] in _PRIVATE)
    except FileNotFoundError:
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            return process.memory_info().rss
    except OSError:
        pass
    return 0


def answer(batches: Iterator[Batch], order: Order) -> dict[str, float]:
    """What came of an order."""
    if not order.memory:
        return {"speed": speed(batches, order)}
    with watched() as found:
        begin = time.perf_counter()
        touch(next(batches), order.source)
        first = time.perf_counter() - begin
        speed(batches, order)
    return {"first": first, "memory": max(found)}


def main() -> None:
    """Answer orders until the one who gives them is gone."""
    batches: Iterator[Batch] | None = None
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(os.environ[SOCKET])
        channel.sendall(json.dumps([os.environ[JOB], 0]).encode() + b"\n")
        for line in channel.makefile("rb"):
            order = Order.from_line(line)
            if batches is None:
                batches = order.source.open()
            channel.sendall(json.dumps(answer(batches, order)).encode() + b"\n")
    if batches is not None:
        batches.close()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
