"""A file of a set, read once from its first byte to its last, whatever happens on the way.

After a fault that may pass, the file is opened again at the byte that was reached. What its bytes
are, and where they are kept, is not known here.
"""

from __future__ import annotations

import io
import time
from typing import Any

from sptmod_dist.data import places
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.places import Opened, Passing, Place, Staying

TRIES = 4
"""Attempts in a row of fewer than `LEAST_SPEED` · `places.TIMEOUT` bytes, then a file is given up.

More bytes than that begin the count anew.
"""
LEAST_SPEED = 1000
"""Bytes a second, over `places.TIMEOUT`, below which an attempt is given up."""
PAUSES = (0.2, 1.0, 4.0)
"""Seconds before each attempt after the first."""


class Download(io.RawIOBase):
    """A file at a place, as a stream of bytes.

    Args:
        place: where it is.
        name: of the file.
        size: how many bytes it must have; None takes what there is.

    Raises:
        ShardError: from `read`: the file cannot be had, or is of another size. A short one of which
            nobody says how long it is, as with a command, is taken for one that breaks off.
    """

    def __init__(self, place: Place, name: str, size: int | None = None) -> None:
        self._place, self._name, self._size = place, name, size
        self._opened: Opened | None = None
        self._done = 0
        self._left: int | None = None
        self._tries = 0
        self._waited, self._got = 0.0, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most so many of the next bytes; none at the end."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        while size:
            try:
                return self._read(size)
            except Passing as fault:
                self._wait(fault)
            except Staying as fault:
                raise self._given_up(str(fault)) from None
        return b""

    def close(self) -> None:
        """Let go of the connection."""
        self._let_go()
        super().close()

    def _read(self, size: int) -> bytes:
        stream = self._open()
        if self._size is not None:
            size = min(size, self._size - self._done) or 1  # one more shows that it is longer
        begun = time.monotonic()
        data: bytes = stream.read(size)
        if not data:
            self._check_end()
        self._check_speed(len(data), time.monotonic() - begun)
        self._done += len(data)  # after what may raise: bytes that are not given come again
        if self._size is not None and self._done > self._size:
            raise Staying(f"it has more than the {self._size} bytes that the index says")
        if self._left is not None:
            self._left -= len(data)
        return data

    def _check_speed(self, count: int, waited: float) -> None:
        """A server that drips is as good as silent; what the reader takes its time for is not."""
        self._got, self._waited = self._got + count, self._waited + waited
        if self._got >= LEAST_SPEED * places.TIMEOUT:
            self._waited, self._got, self._tries = 0.0, 0, 0
        elif self._waited > places.TIMEOUT and count:
            raise Passing(f"fewer than {LEAST_SPEED} bytes a second come")

    def _open(self) -> Any:
        if self._opened is None:
            self._waited, self._got = 0.0, 0
            self._opened = self._place.open(self._name, self._done)
            self._left = self._opened.left
            expected = None if self._size is None else self._size - self._done
            if self._left is not None and expected is not None and self._left != expected:
                raise Staying(
                    f"it has {self._done + self._left} bytes instead of the index's {self._size}"
                )
        return self._opened.stream

    def _check_end(self) -> None:
        missing = self._left if self._size is None else self._size - self._done
        if missing:
            raise Passing(f"it breaks off after {self._done} bytes, {missing} are missing")

    def _wait(self, fault: Passing) -> None:
        self._let_go()
        self._tries += 1
        if self._tries >= TRIES:
            raise self._given_up(f"{fault}, {TRIES} times in a row") from None
        time.sleep(PAUSES[self._tries - 1])

    def _let_go(self) -> None:
        if self._opened is not None:
            self._opened.stream.close()
            self._opened = None

    def _given_up(self, fault: str) -> ShardError:
        return ShardError(
            f"{self._place.shown}: {self._name} cannot be had ({fault}): check the address, the "
            "server and whether the set there is whole"
        )
