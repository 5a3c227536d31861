"""A folder of an HTTP server, opened by the standard library; see `places`."""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.error
import urllib.request
from typing import Any, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from sptmod_dist import __version__
from sptmod_dist.data import places
from sptmod_dist.data.places import Opened, Passing, Staying, in_words, pass_over

_PASSING = (408, 425, 429)  # and all from 500 on
_IN_URLS = "/?%:@!$&'()*+,;=~"  # what stands in a URL as it is


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
        self._opener = _opener()

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
            answer = self._opener.open(request, timeout=places.TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            kind = Passing if error.code >= 500 or error.code in _PASSING else Staying
            raise kind(f"the server answers {error.code} {in_words(error.reason)}") from None
        except urllib.error.URLError as error:
            stays = isinstance(error.reason, ssl.SSLCertVerificationError)
            kind = Staying if stays or "unknown url" in str(error) else Passing
            raise kind(in_words(error.reason)) from None
        except (http.client.InvalidURL, ValueError) as error:
            raise Staying(in_words(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise Passing(in_words(error)) from None
        return cast(http.client.HTTPResponse, answer)


def _opener() -> urllib.request.OpenerDirector:
    """Without files, FTP and whatever else urllib would follow a redirection to."""
    proxies = urllib.request.getproxies()
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler({k: v for k, v in proxies.items() if k in ("http", "https")}),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


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
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    part = answer.headers.get("Content-Range", "")
    if encoding != "identity":
        answer.close()
        raise Staying(f"the server sends it encoded ({in_words(encoding)})")
    if start and answer.status == 206:
        if not part.startswith(f"bytes {start}-"):
            answer.close()
            raise Passing("the server sends another part than was asked for")
        start = 0
    body = _Body(answer)
    pass_over(body, start)
    return Opened(body, body.left)


class _Body:
    """The body of an answer, whose faults are ours."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self._answer, self.close = answer, answer.close
        self.left = answer.length

    def read(self, size: int) -> bytes:
        """What has come, so that a stall takes nothing of it away again."""
        if self.left is not None:  # before Python 3.12 `read1` does not count
            size = min(size, self.left)
        try:
            data = self._answer.read1(size)
        except (OSError, http.client.HTTPException) as error:
            raise Passing(in_words(error)) from None
        if self.left is not None:
            self.left -= len(data)
        return data
