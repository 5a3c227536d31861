"""Odd, silent or hostile addresses, servers and commands: the right bytes or one sentence."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sptmod_dist.data import downloads, places
from sptmod_dist.data.addresses import place_of
from sptmod_dist.data.downloads import Download
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.places import Opened
from sptmod_dist.data.remote import open_source
from sptmod_dist.data.shard_index import dump
from sptmod_dist.data.shards import ShardSet

BODY = os.urandom(50_000)
SLEEP = f"sleep 55.{os.getpid()}"
"""Told from the commands of other tests that run at the same time."""


class Asked(BaseHTTPRequestHandler):
    """Lets the server's table answer; what was asked is kept."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        name = self.path.partition("?")[0].strip("/").split("/")[0]
        self.server.answers.get(name, Asked.send)(self)

    def send(
        self, body: bytes = BODY, code: int = 200, said: int = len(BODY), **headers: str
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(said))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Answers with `BODY`, or as its table says for the first part of a path."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), Asked)
        self.asked: list[tuple[str, str | None]] = []
        self.answers: dict[str, Callable[[Asked], None]] = {}
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    with closing_server(Server()) as found:
        yield found


def closing_server(server: Server) -> closing[Server]:
    server.close = server.shutdown  # type: ignore[attr-defined]
    return closing(server)  # type: ignore[type-var]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "TIMEOUT", 0.3)
    monkeypatch.setattr(downloads, "PAUSES", (0.01, 0.01, 0.01))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def get(where: str, name: str = "a", size: int | None = None) -> bytes:
    with closing(Download(place_of(where), name, size)) as download:
        return download.read()


@pytest.mark.parametrize("sized", [True, False])
def test_a_slow_moment_loses_no_byte(sized: bool) -> None:
    data, opened = bytes(range(256)) * 40, list[int]()

    class SlowAtFirst(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if len(opened) > 1:
                return super().read(size)
            time.sleep(0.2)  # twice: more than the time-out for 200 bytes
            return super().read(100)

    class Moody:
        shown = "http://moody"

        def open(self, name: str, start: int) -> Opened:
            opened.append(start)
            return Opened(SlowAtFirst(data[start:]), len(data) - start)

    with closing(Download(Moody(), "a", len(data) if sized else None)) as download:
        assert download.read() == data
    assert opened == [0, 100]


@pytest.mark.parametrize(
    "where",
    [
        "http://joe:HUSH@host:port/x",
        "http://joe:HU/SH@host/x",
        "http://joe:HUSH@[::1/x",
        "http://joe:HUSH@/x",
        "http://joe:HUSH@host..name/x",
        "http://host:port/x?token=HUSH",
        "ftp://joe:HUSH@host/x",
        "file://joe:HUSH@host/x",
        "s3://joe:HUSH@bucket/x",
        "http://joe:HUSH@127.0.0.1:9/x?token=HUSH#HUSH",
        "pipe:curl -u joe:HUSH http://host/x",
        "pipe:TOKEN=HUSH get {}; exit 1",
    ],
)
def test_no_message_holds_a_password(where: str) -> None:
    with pytest.raises(ShardError) as caught:
        get(where)
    assert "HU" not in str(caught.value) and "SH" not in str(caught.value)
    assert "\n" not in str(caught.value) and ": " in str(caught.value)


@pytest.mark.parametrize("where", ["ftp://host/x", "file:///etc", "gs://bucket/x", "nfs://x/y"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(where: str, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="a folder, http://…, https://…, s3://… or pipe:COMMAND"):
        open_source(where, tmp_path, 1.0)


@pytest.mark.parametrize(
    "given, asked",
    [
        ("", "/a"),
        ("/", "/a"),
        ("/sets/train///", "/sets/train/a"),
        ("/sets/train/?token=x&y=1", "/sets/train/a?token=x&y=1"),
        ("/sets#part", "/sets/a"),
        ("/two words", "/two%20words/a"),
        ("/two%20words", "/two%20words/a"),
        ("/données/列", "/donn%C3%A9es/%E5%88%97/a"),
        ("/x?key=é", "/x/a?key=%C3%A9"),
        ("/a@b:c;d=e,f+g", "/a@b:c;d=e,f+g/a"),
    ],
)
def test_the_name_of_a_file_joins_the_path_of_a_url(server: Server, given: str, asked: str) -> None:
    assert get(server.url + given) == BODY
    assert server.asked == [(asked, None)]


def test_a_server_may_have_an_ipv6_address() -> None:
    try:
        server = Server("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    with closing_server(server):
        assert get(f"{server.url}/x") == BODY


def test_a_password_goes_to_its_server_alone(server: Server) -> None:
    with closing_server(Server()) as other:
        server.answers["moved"] = lambda asked: asked.send(b"", 302, 0, Location=f"{other.url}/x")
        assert get(server.url.replace("://", "://j%40e:s%2Ft@") + "/moved") == BODY
        assert server.asked == [("/moved/a", "Basic akBlOnMvdA==")]
        assert other.asked == [("/x", None)]


@pytest.mark.parametrize(
    "target, words",
    [
        ("file:///etc/passwd", "not allowed"),
        ("ftp://127.0.0.1/x", "unknown url type: ftp"),
        ("http://joe:HUSH@127.0.0.1/x", "name or password is not allowed"),
        ("/moved", "infinite loop"),
        ("http://" + "x" * 70, "label"),
    ],
)
def test_redirects_lead_to_http_servers_only(server: Server, target: str, words: str) -> None:
    server.answers["moved"] = lambda asked: asked.send(b"", 302, 0, Location=target)
    with pytest.raises(ShardError, match=words) as caught:
        get(f"{server.url}/moved")
    assert "HUSH" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_proxy_of_the_environment_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    assert get("http://nowhere.invalid/x") == BODY
    assert server.asked[0][0] == "http://nowhere.invalid/x/a"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get(f"{server.url}/x") == BODY
    assert server.asked[1][0] == "/x/a"


def test_a_body_that_is_encoded_is_refused(server: Server) -> None:
    server.answers["x"] = lambda asked: asked.send(Content_Encoding="gzip")
    with pytest.raises(ShardError, match="encoded \\(gzip\\)"):
        get(f"{server.url}/x")


def test_a_body_without_a_length_ends_where_it_ends(server: Server) -> None:
    def send(asked: Asked) -> None:
        asked.send_response(200)
        asked.end_headers()
        asked.wfile.write(BODY)

    server.answers["x"] = send
    assert get(f"{server.url}/x") == get(f"{server.url}/x", size=len(BODY)) == BODY
    with pytest.raises(ShardError, match="breaks off after 50000 bytes, 1 are missing"):
        get(f"{server.url}/x", size=len(BODY) + 1)
    with pytest.raises(ShardError, match="more than the 49999 bytes"):
        get(f"{server.url}/x", size=len(BODY) - 1)


@pytest.mark.parametrize("then", ["goes on", "stalls", "breaks off"])
def test_a_server_without_ranges_sends_all_again(server: Server, then: str) -> None:
    def send(asked: Asked) -> None:
        first = len(server.asked) == 1
        asked.send(BODY[:30_000] if first else BODY if then == "goes on" else BODY[:10_000])
        if not first and then == "stalls":
            asked.wfile.flush()
            time.sleep(0.6)

    server.answers["x"] = send
    if then == "goes on":
        assert get(f"{server.url}/x", size=len(BODY)) == BODY
        assert len(server.asked) == 2
        return
    words = "timed out" if then == "stalls" else "ends before the byte that was reached"
    with pytest.raises(ShardError, match=f"{words}, 4 times in a row"):
        get(f"{server.url}/x", size=len(BODY))


def test_a_part_that_was_not_asked_for_is_not_taken(server: Server) -> None:
    def send(asked: Asked) -> None:
        if asked.headers.get("Range"):
            asked.send(BODY[:20_000], 206, Content_Range="bytes 0-19999/50000")
        else:
            asked.send(BODY[:30_000])

    server.answers["x"] = send
    with pytest.raises(ShardError, match="another part than was asked for"):
        get(f"{server.url}/x", size=len(BODY))


def test_a_web_page_is_told_from_an_index(server: Server, tmp_path: Path) -> None:
    page = b"\n<!DOCTYPE html><title>Log in</title>"
    server.answers["x"] = lambda asked: asked.send(page, said=len(page))
    with pytest.raises(ShardError, match=f"{server.url}/x/index.json is a web page and no index"):
        ShardSet.of(open_source(f"{server.url}/x", tmp_path, 1.0))


HOSTILE = [
    "$(touch {mark})",
    "; touch {mark}",
    "`touch {mark}`",
    "' ; touch {mark} #",
    "|touch {mark}",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("command", ["cat {folder}/{{}}", 'cat "{folder}"/{{}}'])
def test_no_name_of_an_index_reaches_a_shell(
    sets: Path, tmp_path: Path, name: str, command: str
) -> None:
    mark = tmp_path / "mark"
    name, folder = name.format(mark=mark), sets / "train"
    fields = json.loads((folder / "index.json").read_bytes())
    del fields["checksum"]
    fields["shards"][0]["name"] = name
    (folder / "index.json").write_bytes(dump(fields))
    where = "pipe:" + command.format(folder=folder)
    with pytest.raises(ShardError, match="no good index"):
        ShardSet.of(open_source(where, tmp_path / "cache", 1.0))
    with pytest.raises(ShardError):  # even if one came so far, it would be a name
        get(where, name)
    assert not mark.exists()


@pytest.mark.parametrize(
    "command, words",
    [
        ("echo {}; echo no such host >&2; exit 3", "the command ends with 3: no such host"),
        ("echo {}; kill -9 $$", "the command ends with -9: no words"),
        ("echo {}; exec >&-; SLEEP", "closes its output and does not end"),
        ("SLEEP; echo {}", "writes nothing for 0.3 s"),
        ("no-such-program-anywhere {}", "the command ends with 127: .*no-such-program-anywhere"),
    ],
)
def test_a_command_that_fails_is_told_of_and_ended(command: str, words: str) -> None:
    open_before = len(os.listdir("/dev/fd"))
    with pytest.raises(ShardError, match=words):
        get(f"pipe:{command.replace('SLEEP', SLEEP)}")
    assert len(os.listdir("/dev/fd")) <= open_before
    assert not running(SLEEP)


def test_a_command_that_does_not_get_so_far_again_is_ended() -> None:
    with pytest.raises(places.Passing):
        place_of(f"pipe:echo {{}}; {SLEEP}").open("a", 100)
    assert not running(SLEEP)


@pytest.mark.parametrize("end", [signal.SIGINT, None])
def test_commands_end_with_the_program(tmp_path: Path, end: signal.Signals | None) -> None:
    where = shlex.quote(f"pipe:echo $$ > {tmp_path}/pid; exec {SLEEP}{{}}")
    program = (
        "import threading, time\n"
        "from sptmod_dist.data.addresses import place_of\n"
        f"opened = place_of({where}).open('', 0)\n"
        "threading.Thread(target=opened.stream.read, args=(1,), daemon=True).start()\n"
        "print('ready', flush=True)\n"
        f"time.sleep({60 if end else 0.1})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=-1, stderr=-1, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    if end:
        process.send_signal(end)
    process.communicate(timeout=10)
    assert not running(SLEEP)


def running(command: str) -> bool:
    """Whether a process runs whose command begins so; one that was just killed has a moment."""
    for _ in range(20):
        listed = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True).stdout
        lines = (line.split(maxsplit=1) for line in listed.splitlines())
        if not any(stat[0] != "Z" and args.startswith(command) for stat, args in lines):
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    "command",
    [
        "yes {} | head -c 100 | while read -r x; do echo $x; sleep 0.1; done; sleep 30",
        "yes {} >&2",
    ],
)
def test_a_command_that_drips_or_only_complains_is_given_up(command: str) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with closing(Download(place_of(f"pipe:{command}"), "index.json")) as download:
        begun = time.monotonic()
        with pytest.raises(ShardError, match="4 times in a row"):
            while download.read(1000):
                pass
    assert time.monotonic() - begun < 10
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_slow_reader_is_not_taken_for_a_slow_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "TIMEOUT", 0.05)
    command = place_of("pipe:printf '%08d' 1 2 3 4; : {}")
    with closing(Download(command, "index.json")) as download:
        read = []
        while portion := download.read(4):
            read.append(portion)
            time.sleep(0.02)
    assert b"".join(read) == b"00000001000000020000000300000004"
