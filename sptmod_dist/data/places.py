"""What a place is whose files are not on this machine, and what any of them has in common.

A place makes one attempt at one file and tells faults that may pass from faults that stay; trying
again is the matter of `downloads.py`. The kinds are in `http_place`, `s3_place`, `command_place`,
how users name them in `addresses`. What the files are is not known here.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

PIPE = "pipe:"
TIMEOUT = 30.0
"""Seconds without a byte after which an attempt is given up."""


class Passing(Exception):
    """A fault that another attempt may not meet."""


class Staying(Exception):
    """A fault that stays, however often one asks."""


class Opened(NamedTuple):
    """A file that has been opened at some byte."""

    stream: Any
    """With `read(n)`, which gives at least one byte before the end, and `close()`."""
    left: int | None
    """Bytes from there to the file's end; None where nobody says."""


class Place(Protocol):
    """Where the files of a set are."""

    shown: str
    """What messages call it, without a password."""

    def open(self, name: str, start: int) -> Opened:
        """Open a file at a byte.

        Raises:
            Passing: another attempt may succeed.
            Staying: none will.
        """


def pass_over(stream: Any, count: int) -> None:
    """Read so many bytes for nothing; a stream that does not get so far is closed."""
    try:
        while count:
            data = stream.read(min(count, 1 << 20))
            if not data:
                raise Passing("it ends before the byte that was reached")
            count -= len(data)
    except BaseException:
        stream.close()
        raise


def in_words(said: object) -> str:
    """What somebody else said, fit for a sentence of ours: short and on one line."""
    text = " ".join(str(said).split()) or type(said).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def is_pipe(where: object) -> bool:
    """Whether this names a command, which only the user's own settings may."""
    return isinstance(where, str) and where.startswith(PIPE)


def is_remote(where: object) -> bool:
    """Whether this names a place on another machine, or a command."""
    return isinstance(where, str) and (is_pipe(where) or "://" in where)
