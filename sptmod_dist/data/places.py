"""Opening one file of a set that is not on this machine: over HTTP, in S3, or by a command.

Each place makes one attempt and tells faults that may pass from faults that stay; trying again is
the matter of `downloads.py`. What the files are is not known here.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import select
import shlex
import signal
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from sptmod_dist import __version__
from sptmod_dist.data.geometry import ShardError

PIPE = "pipe:"
SCHEMES = ("http", "https", "s3")
TIMEOUT = 30.0
"""Seconds without a byte after which an attempt is given up."""

_PASSING = (408, 425, 429)  # and all from 500 on
_IN_URLS = "/?%:@!$&'()*+,;=~"  # what stands in a URL as it is


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
    shown = re.sub("(?<=://).*@", "", where).partition("?")[0]
    try:
        parts = urlsplit(where)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError:  # whose words may hold a part of the password
        raise ShardError(
            f"{shown} is no good URL: correct it (in names and passwords, / is written as %2F)"
        ) from None
    if parts.scheme not in SCHEMES:
        raise ShardError(
            f"{shown}: shards are not read by {parts.scheme}://: give a folder, "
            f"{', '.join(f'{scheme}://…' for scheme in SCHEMES)} or pipe:COMMAND"
        )
    if not host:
        kind = "bucket" if parts.scheme == "s3" else "server"
        raise ShardError(f"{shown} names no {kind}: add it after ://")
    return Bucket(parts) if parts.scheme == "s3" else Server(parts)


class Server:
    """A folder of an HTTP server.

    Proxies are taken from the environment. Nothing but HTTP is followed, and a password in the URL
    goes to that server alone.
    """

    def __init__(self, parts: SplitResult) -> None:
        host = parts.netloc.rpartition("@")[2]
        path, query = quote(parts.path, _IN_URLS), quote(parts.query, _IN_URLS)
        self._parts = parts._replace(netloc=host, path=path, query=query, fragment="")
        shown = parts._replace(netloc=host, query="", fragment="")
        self.shown = urlunsplit(shown).rstrip("/")
        self._authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler,
            urllib.request.HTTPHandler,
            urllib.request.HTTPSHandler,
            _Redirects,
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
            words = str(error.reason).split("\n")[0]
            raise kind(f"the server answers {error.code} {words}") from None
        except urllib.error.URLError as error:
            stays = isinstance(error.reason, ssl.SSLCertVerificationError)
            kind = Staying if stays or "unknown url" in str(error) else Passing
            raise kind(str(error.reason)) from None
        except (http.client.InvalidURL, ValueError) as error:
            raise Staying(str(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise Passing(str(error) or type(error).__name__) from None
        return cast(http.client.HTTPResponse, answer)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other servers, but uses no name or password that somebody else has chosen."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if "@" in urlsplit(newurl).netloc:
            words = f"{msg} - Redirection to a URL with a name or password is not allowed"
            raise urllib.error.HTTPError(req.full_url, code, words, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _begin(answer: http.client.HTTPResponse, start: int) -> Opened:
    """Check an answer; where the server gave the whole file, pass over what was not asked for."""
    encoding = answer.headers.get("Content-Encoding", "identity")
    part = answer.headers.get("Content-Range", "")
    if encoding != "identity":
        answer.close()
        raise Staying(f"the server sends it encoded ({encoding})")
    if start and answer.status == 206:
        if not part.startswith(f"bytes {start}-"):
            answer.close()
            raise Passing("the server sends another part than was asked for")
        start = 0
    body = _Body(answer)
    _pass_over(body, start)
    return Opened(body, answer.length)


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
        if "@" in parts.netloc:
            raise ShardError(
                f"s3://{parts.netloc.rpartition('@')[2]}{parts.path} has keys before the bucket: "
                "remove them, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
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
        program = command.partition(" ")[0]
        # The rest may hold a password, and so may a variable that is set first.
        self.shown = f"{PIPE}…" if "=" in program else f"{PIPE}{program} …"
        if "{}" not in command:
            raise ShardError(
                f"{self.shown} does not say where the file's name goes: write {{}} there, as in "
                "pipe:ssh host cat sets/train/{}"
            )
        self._command = command

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
        if not data:
            self._check_end()
        return data

    def close(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS: it has ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._stdout.close()
        self._said.close()
        self._process.wait()

    def _check_end(self) -> None:
        try:
            code = self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Passing("the command closes its output and does not end") from None
        if code:
            self._said.seek(0)
            words = self._said.read().decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(words) if line.strip()), "no words")
            raise Passing(f"the command ends with {code}: {last:.200}")


def _pass_over(stream: Any, count: int) -> None:
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


def is_pipe(where: object) -> bool:
    """Whether this names a command, which only the user's own settings may."""
    return isinstance(where, str) and where.startswith(PIPE)


def is_remote(where: object) -> bool:
    """Whether this names a place on another machine, or a command."""
    return isinstance(where, str) and (is_pipe(where) or "://" in where)
