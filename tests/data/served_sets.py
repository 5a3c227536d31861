"""A folder behind an HTTP server that fails as a test wants it to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    """One answer: right, unless the server's faults have another for the file."""

    server: Served

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        faults = self.server.faults.get(name, [Answer.right])
        fault = faults.pop(0) if len(faults) > 1 else faults[0]
        self.body = (self.server.folder / name).read_bytes()
        fault(self)

    def right(self) -> None:
        """What was asked for, a part of it if so."""
        self.begin(length=len(self.rest))
        self.wfile.write(self.rest)

    @property
    def start(self) -> int:
        """The byte that was asked for first."""
        return int(self.headers.get("Range", "bytes=0-")[6:-1])

    @property
    def rest(self) -> bytes:
        return self.body[self.start :]

    def begin(self, code: int = 0, length: int | None = None, **headers: str) -> None:
        """The head of an answer."""
        self.send_response(code or (206 if self.start else 200))
        if self.start and not code:
            last = f"{len(self.body) - 1}/{len(self.body)}"
            self.send_header("Content-Range", f"bytes {self.start}-{last}")
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Served(ThreadingHTTPServer):
    """Answers with the files of a folder.

    Attributes:
        faults: for the name of a file, what the next answers are; the last of them stays.
        asked: the names, in the order of the requests.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.asked = folder, list[str]()
        self.faults: dict[str, list[Callable[[Answer], None]]] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve a folder for a while."""
    server = Served(folder)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def code(number: int) -> Callable[[Answer], None]:
    """Nothing but a status."""
    return lambda answer: answer.begin(number, 0)


def cut(answer: Answer) -> None:
    """Half of what is left."""
    answer.begin(length=len(answer.rest))
    answer.wfile.write(answer.rest[: len(answer.rest) // 2])


def stall(answer: Answer) -> None:
    """The first bytes, then silence."""
    answer.begin(length=len(answer.rest))
    answer.wfile.write(answer.rest[:2000])
    answer.wfile.flush()
    time.sleep(0.5)


def silence(answer: Answer) -> None:
    """Not even a head."""
    time.sleep(0.5)


def reset(answer: Answer) -> None:
    """Hang up."""
    answer.close_connection = True


def drip(answer: Answer) -> None:
    """All of it, so slowly that it takes longer than a stall may."""
    answer.begin(length=len(answer.rest))
    for start in range(0, len(answer.rest), 1000):
        answer.wfile.write(answer.rest[start : start + 1000])
        answer.wfile.flush()
        time.sleep(0.05)


def without_range(answer: Answer) -> None:
    """All of it, whatever part was asked for."""
    answer.begin(200, len(answer.body))
    answer.wfile.write(answer.body)


def without_length(answer: Answer) -> None:
    answer.begin()
    answer.wfile.write(answer.rest)


def chunked(answer: Answer) -> None:
    """In chunks, without the last one."""
    answer.begin(200, Transfer_Encoding="chunked")
    for start in range(0, len(answer.body), 1500):
        part = answer.body[start : start + 1500]
        answer.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))


def encoded(answer: Answer) -> None:
    answer.begin(200, len(answer.body), Content_Encoding="gzip")
    answer.wfile.write(answer.body)


def longer(answer: Answer) -> None:
    answer.begin(200, len(answer.body) + 9)
    answer.wfile.write(answer.body + b"\0" * 9)


def endless(answer: Answer) -> None:
    answer.begin(200)
    answer.wfile.write(answer.body + b"\0" * 9)


def other(answer: Answer) -> None:
    """The right number of wrong bytes."""
    answer.begin(200, len(answer.body))
    answer.wfile.write(answer.body[::-1])


def web_page(answer: Answer) -> None:
    page = b"<html>Log in</html>"
    answer.begin(200, len(page))
    answer.wfile.write(page)
