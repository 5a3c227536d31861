"""Opening one file of a set that is not on this machine: over HTTP, in S3, or by a command.

Each place makes one attempt and tells faults that may pass from faults that stay; trying again is
the matter of `downloads.py`. What the files are is not known here.
"""

from __future__ import annotations

import base64
import http.client
import os
import select
import shlex
import signal
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from sptmod_dist import __version__
from sptmod_dist.data.geometry import ShardError

PIPE = "pipe:"
SCHEMES = ("http", "https", "s3")
TIMEOUT = 30.0
"""Seconds without a byte after which an attempt is given up."""

_PASSING = (408, 425, 429)  # and all from 500 on


class Passing(Exception):
    """A fault that another attempt may not meet."""


class Staying(Exception):
    """A fault that stays, however often one asks."""


class Opened(NamedTuple):
    """A file that has been opened at some byte."""

    stream: Any
    """With `read(n)`, which gives fewer bytes only at the end, and `close()`."""
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


def place_of(where: str) -> Place:
    """The place that a URL or a command names.

    Raises:
        ShardError: it cannot be one.
    """
    if where.startswith(PIPE):
        return Command(where.removeprefix(PIPE).strip())
    try:
        parts = urlsplit(where)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ShardError(f"{where} is no good URL ({error}): correct it") from None
    if parts.scheme not in SCHEMES:
        raise ShardError(
            f"{where}: shards are not read by {parts.scheme}://: give a folder, "
            f"{', '.join(f'{scheme}://…' for scheme in SCHEMES)} or pipe:COMMAND"
        )
    if not host:
        raise ShardError(f"{where} names no {'bucket' if parts.scheme == 's3' else 'server'}")
    return Bucket(parts) if parts.scheme == "s3" else Server(parts)


class Server:
    """A folder of an HTTP server.

    Proxies are taken from the environment. Nothing but HTTP is followed, and a password in the URL
    goes to that server alone.
    """

    def __init__(self, parts: SplitResult) -> None:
        host = parts.netloc.rpartition("@")[2]
        self._parts = parts._replace(netloc=host, fragment="")
        self.shown = urlunsplit(self._parts._replace(query="")).rstrip("/")
        self._authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler,
            urllib.request.HTTPHandler,
            urllib.request.HTTPSHandler,
            urllib.request.HTTPRedirectHandler,
            urllib.request.HTTPDefaultErrorHandler,
            urllib.request.HTTPErrorProcessor,
            urllib.request.UnknownHandler,
        ):
            self._opener.add_handler(handler())

    def open(self, name: str, start: int) -> Opened:
        """See `Place`."""
        path = f"{self._parts.path.rstrip('/')}/{name}"
        request = urllib.request.Request(urlunsplit(self._parts._replace(path=path)))
        request.add_header("User-Agent", f"sptmod-dist/{__version__}")
        request.add_header("Accept-Encoding", "identity")
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        if start:
            request.add_header("Range", f"bytes={start}-")
        return _begin(self._ask(request), start)

    def _ask(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        try:
            answer = self._opener.open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            kind = Passing if error.code >= 500 or error.code in _PASSING else Staying
            raise kind(f"the server answers {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            stays = isinstance(error.reason, ssl.SSLCertVerificationError)
            kind = Staying if stays or "unknown url" in str(error) else Passing
            raise kind(str(error.reason)) from None
        except http.client.InvalidURL as error:
            raise Staying(str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise Passing(str(error) or type(error).__name__) from None
        return cast(http.client.HTTPResponse, answer)


def _begin(answer: http.client.HTTPResponse, start: int) -> Opened:
    """Check an answer; where the server gave the whole file, pass over what was not asked for."""
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        answer.close()
        raise Staying(f"the server sends it encoded ({encoding})")
    left = answer.length
    if start and answer.status == 206:
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            answer.close()
            raise Passing("the server sends another part than was asked for")
    elif start:
        _pass_over(answer, start)
        left = None if left is None else left - start
    return Opened(_Body(answer), left)


class _Body:
    """The body of an answer, whose faults are ours."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer, self.close = answer, answer.close

    def read(self, size: int) -> bytes:
        try:
            return self._answer.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise Passing(str(error) or type(error).__name__) from None


class Bucket:
    """A folder of an S3 bucket, by fsspec; keys and endpoint come from the environment as usual."""

    def __init__(self, parts: SplitResult) -> None:
        self.shown = f"s3://{parts.netloc}{parts.path}".rstrip("/")
        try:
            import fsspec

            self._files = fsspec.filesystem(
                "s3", config_kwargs={"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT}
            )
        except ImportError:
            raise ShardError(
                f"{self.shown} needs s3fs: pip install -c constraints.txt 'sptmod-dist[remote]'"
            ) from None

    def open(self, name: str, start: int) -> Opened:
        """See `Place`."""
        try:
            # What was listed before may have changed since.
            self._files.invalidate_cache()
            file = self._files.open(f"{self.shown}/{name}", block_size=2**24)
            file.seek(start)
        except FileNotFoundError:
            raise Staying("there is no such object") from None
        except PermissionError as error:
            raise Staying(f"permission denied ({error})") from None
        except Exception as error:  # botocore has errors of many kinds
            kind = Staying if "Credentials" in type(error).__name__ else Passing
            raise kind(f"{type(error).__name__}: {error}") from None
        return Opened(_Object(file), file.size - start)


class _Object:
    """An object that is being read, whose faults are ours."""

    def __init__(self, file: Any) -> None:
        self._file, self.close = file, file.close

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._file.read(size))
        except Exception as error:
            raise Passing(f"{type(error).__name__}: {error}") from None


class Command:
    """Whatever a command of the user's writes to its standard output."""

    def __init__(self, command: str) -> None:
        if "{}" not in command:
            raise ShardError(
                f"{PIPE}{command} does not say where the file's name goes: write {{}} there, as in "
                "pipe:ssh host cat sets/train/{}"
            )
        self._command = command
        self.shown = f"{PIPE}{command.split()[0]} …"  # the rest may hold a password

    def open(self, name: str, start: int) -> Opened:
        """See `Place`."""
        said = tempfile.TemporaryFile()
        command = self._command.replace("{}", shlex.quote(name))
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # so that all of it can be ended
        )
        output = _Output(process, said)
        _pass_over(output, start)
        return Opened(output, None)


class _Output:
    """What a command writes; it is ended when nobody reads any more."""

    def __init__(self, process: subprocess.Popen[bytes], said: Any) -> None:
        assert process.stdout is not None
        self._process, self._said, self._stdout = process, said, process.stdout

    def read(self, size: int) -> bytes:
        if not select.select([self._stdout], [], [], TIMEOUT)[0]:
            raise Passing(f"the command writes nothing for {TIMEOUT:g} s")
        data = os.read(self._stdout.fileno(), size)
        if not data and self._process.wait():
            self._said.seek(0)
            words = self._said.read().decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(words) if line.strip()), "no words")
            raise Passing(f"the command ends with {self._process.returncode}: {last:.200}")
        return data

    def close(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._stdout.close()
        self._said.close()
        self._process.wait()


def _pass_over(stream: Any, count: int) -> None:
    while count:
        data = stream.read(min(count, 1 << 20))
        if not data:
            raise Passing("it ends before the byte that was reached")
        count -= len(data)


def is_pipe(where: object) -> bool:
    """Whether this names a command, which only the user's own settings may."""
    return isinstance(where, str) and where.startswith(PIPE)


def is_remote(where: object) -> bool:
    """Whether this names a place on another machine, or a command."""
    return isinstance(where, str) and (is_pipe(where) or "://" in where)

