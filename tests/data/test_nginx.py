"""Sets behind nginx, whole, broken, slow and restarted: the same data as from the folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toy import make_toy, toy_config

from sptmod_dist.data import downloads, places
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.loader import GroupLoader
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.data.remote import open_source
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.train.data import needs_of
from sptmod_dist.train.main import train
from sptmod_dist.train.run_folder import RunFolder
from tests.data import served_sets
from tests.data.served_sets import Answer, Served, served
from tests.processes import run

pytestmark = pytest.mark.system

SHARD = "shard-00000.tar"
CONFIG = """
{user} daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/errors;
events {{ }}
http {{
    access_log {folder}/asked; proxy_temp_path {folder}/proxied; sendfile on;
    client_body_temp_path {folder}/bodies; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /sets/ {{ alias {sets}/; }}
        location /slow/ {{ alias {sets}/; limit_rate 8k; }}
        location /shards-gone/ {{ alias {sets}/; location ~ tar$ {{ return 404; }} }}
        location /forbidden/ {{ return 403; }}
        location /failing/ {{ return 500; }}
        location /proxied/ {{ proxy_pass {upstream}/; proxy_buffering off; }}
    }}
}}
"""


class Nginx:
    """An nginx of the test's own."""

    def __init__(self, program: str, folder: Path, sets: Path, upstream: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.folder = f"http://127.0.0.1:{port}", folder
        self._port = port
        user = "" if os.getuid() else "user root;"  # or its workers may not read our folders
        about = {"folder": folder, "sets": sets, "port": port, "upstream": upstream, "user": user}
        (folder / "conf").write_text(CONFIG.format(**about))
        errors = str(folder / "errors")
        self._command = [program, "-p", str(folder), "-c", str(folder / "conf"), "-e", errors]

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while self._process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.02)
        self.stop()
        raise AssertionError((self.folder / "errors").read_text())

    def stop(self) -> None:
        """End it at once, answers in the middle too."""
        self._process.terminate()
        self._process.wait(10)

    def asked(self) -> int:
        """How many files were asked for."""
        return len((self.folder / "asked").read_text().splitlines())


@pytest.fixture(scope="module")
def program() -> str:
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        if os.getuid() or shutil.which("apt-get") is None:
            pytest.skip("there is no nginx, and only root can install it by apt-get")
        # Without a server of its own being started.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        command = ["apt-get", "install", "-y", "--no-install-recommends", "nginx-light"]
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=100)
        if done.returncode:
            pytest.skip(f"nginx cannot be installed: {done.stderr.strip()[-200:]}")
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy training on sets of many small shards."""
    folder = tmp_path_factory.mktemp("toy")
    config = make_toy(folder, name="local", data={"workers": 0})
    manifest = Manifest.read(folder / "recordings" / "manifest.yaml")
    needs = needs_of(config)
    build_sets(manifest, folder / "shards", needs, 20_000, overwrite=True, say=lambda _: None)
    return folder


@pytest.fixture
def upstream(toy: Path) -> Iterator[Served]:
    with served(toy / "shards" / "train") as started:
        yield started


@pytest.fixture
def nginx(program: str, toy: Path, tmp_path: Path, upstream: Served) -> Iterator[Nginx]:
    (tmp_path / "nginx").mkdir()
    server = Nginx(program, tmp_path / "nginx", toy / "shards", upstream.url)
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "TIMEOUT", 0.4)
    monkeypatch.setattr(downloads, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setenv("no_proxy", "*")


def assert_same_epoch(where: str, toy: Path, cache: Path, gigabytes: float = 1.0) -> None:
    remote = ShardSet.of(open_source(where, cache, gigabytes))
    sets = remote, ShardSet.open(toy / "shards" / "train")
    groups = [list(GroupLoader(each, 4, 0, 1, seed=1, workers=2).groups(0)) for each in sets]
    assert len(groups[0]) > 3
    for ours, theirs in zip(*groups, strict=True):
        assert ours.sequence_ids == theirs.sequence_ids
        for name in ("input", "output", "controls"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize("shards", [1000, 2, 1])
def test_an_epoch_over_http_equals_one_from_the_folder(
    nginx: Nginx, toy: Path, tmp_path: Path, shards: int
) -> None:
    largest = max(path.stat().st_size for path in (toy / "shards").glob("train/*.tar"))
    where, limit = f"{nginx.url}/sets/train", shards * largest / 1e9
    assert_same_epoch(where, toy, tmp_path / "cache", limit)


def test_a_slow_server_is_waited_for(
    nginx: Nginx, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "TIMEOUT", 3.0)  # nginx sends in steps of a second or so
    assert_same_epoch(f"{nginx.url}/slow/train", toy, tmp_path / "cache")


@pytest.mark.parametrize("faults", [[served_sets.cut], [served_sets.stall], [served_sets.reset]])
def test_what_breaks_off_behind_nginx_goes_on(
    nginx: Nginx, upstream: Served, toy: Path, tmp_path: Path, faults: list[object]
) -> None:
    for path in (toy / "shards" / "train").glob("*"):
        upstream.faults[path.name] = [*faults, Answer.right]  # type: ignore[list-item]
    assert_same_epoch(f"{nginx.url}/proxied", toy, tmp_path / "cache")


@pytest.mark.parametrize(
    "path, said",
    [
        ("sets/nothing", "index.json cannot be had .the server answers 404 Not Found"),
        ("shards-gone/train", f"{SHARD} cannot be had .the server answers 404 Not Found"),
        ("forbidden", "index.json cannot be had .the server answers 403 Forbidden"),
        ("failing", "the server answers 500 Internal Server Error, 4 times in a row"),
    ],
)
def test_refusals_are_one_sentence(nginx: Nginx, tmp_path: Path, path: str, said: str) -> None:
    with pytest.raises(ShardError, match=said) as caught:
        ShardSet.of(open_source(f"{nginx.url}/{path}", tmp_path / "cache", 1.0)).sequence(0)
    assert "\n" not in str(caught.value)


def test_silence_behind_nginx_is_one_sentence(
    nginx: Nginx, upstream: Served, tmp_path: Path
) -> None:
    upstream.faults[SHARD] = [served_sets.silence]
    shards = ShardSet.of(open_source(f"{nginx.url}/proxied", tmp_path / "cache", 1.0))
    with pytest.raises(ShardError, match=f"{SHARD} cannot be had .timed out, 4 times in a row"):
        shards.sequence(0)


PROGRAM = """
from pathlib import Path
from toy import toy_config
from sptmod_dist.train.main import train
train(toy_config(Path({toy!r}), name="restarted", data={data!r}))
"""


def test_a_training_survives_that_its_server_is_restarted(
    nginx: Nginx, toy: Path, tmp_path: Path
) -> None:
    train(toy_config(toy, name="local", data={"workers": 0}))
    largest = max(path.stat().st_size for path in (toy / "shards").glob("*/*.tar"))
    data: dict[str, object] = {s: f"{nginx.url}/sets/{s}" for s in ("train", "validation")}
    data |= {"cache_folder": str(tmp_path / "cache"), "cache_gigabytes": 1.2 * largest / 1e9}
    restarted: list[int] = []

    def restart() -> None:
        for count in (15, 40):
            while nginx.asked() < count:
                time.sleep(0.01)
            nginx.stop()
            time.sleep(0.8)
            nginx.start()
            restarted.append(nginx.asked())

    thread = threading.Thread(target=restart, daemon=True)
    thread.start()
    program = PROGRAM.format(toy=str(toy), data=data)
    done = run([sys.executable, "-c", program], no_proxy="*")
    assert done.returncode == 0, done.stderr
    thread.join(20)
    assert len(restarted) == 2 and nginx.asked() > restarted[-1]
    ours, theirs = (RunFolder(toy / "runs" / n).last_checkpoint() for n in ("local", "restarted"))
    assert ours is not None and theirs is not None
    assert all(torch.equal(ours[1].weights[k], theirs[1].weights[k]) for k in ours[1].weights)
