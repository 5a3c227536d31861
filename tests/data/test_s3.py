"""Sets in S3, served by moto: the same data as from the folder, or one sentence."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sptmod_dist.data import downloads
from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.remote import open_source
from sptmod_dist.data.shards import ShardSet

pytestmark = pytest.mark.system


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's own keys."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "joe")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "HUSH")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "PAUSES", (0.01, 0.01, 0.01))


@pytest.fixture
def bucket(environment: None, built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server whose bucket `sets` holds the sets."""
    boto3 = pytest.importorskip("boto3", reason="S3 needs the extras remote and dev")
    moto = pytest.importorskip("moto.server", reason="S3 is served by the extra dev")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    client = boto3.client("s3")
    client.create_bucket(Bucket="sets")
    for path in built.glob("*/*"):
        client.upload_file(str(path), "sets", f"deep/{path.relative_to(built)}")
    yield url
    urllib.request.urlopen(f"{url}/moto-api/reset", data=b"").close()
    server.stop()


@pytest.mark.parametrize("where", ["s3://sets/deep/train", "s3://sets/deep/train/"])
def test_a_set_in_s3_equals_the_folder(
    bucket: str, built: Path, tmp_path: Path, where: str
) -> None:
    local = ShardSet.open(built / "train")
    largest = max(shard.bytes for shard in local.index.shards)
    remote = ShardSet.of(open_source(where, tmp_path / "cache", 2 * largest / 1e9))
    assert remote.fingerprint == local.fingerprint
    with remote.prefetch(range(local.n_sequences)):
        for number in range(local.n_sequences):
            pairs = zip(remote.sequence(number), local.sequence(number), strict=True)
            assert all(np.array_equal(left, right) for left, right in pairs)


@pytest.mark.parametrize(
    "where, said",
    [
        ("s3://nothing-here/train", "there is no such object or bucket"),
        ("s3://sets/deep", "there is no such object or bucket"),
        ("s3://sets/deep/train?versionId=1", "goes on with . or #"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    bucket: str, tmp_path: Path, where: str, said: str
) -> None:
    refused(where, said, tmp_path)


def test_wrong_keys_are_one_sentence(bucket: str, tmp_path: Path) -> None:
    let_pass(bucket, "0")
    try:
        refused("s3://sets/deep/train", "index.json cannot be had .permission denied", tmp_path)
    finally:
        let_pass(bucket, "inf")


def let_pass(server: str, requests: str) -> None:
    """Let moto look at keys after so many requests."""
    kind = {"Content-Type": "application/octet-stream"}
    address = f"{server}/moto-api/reset-auth"
    urllib.request.urlopen(urllib.request.Request(address, requests.encode(), kind)).close()


def test_no_keys_are_one_sentence(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused("s3://sets/deep/train", "index.json cannot be had .Unable to locate cred", tmp_path)


def test_no_server_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    said = "Could not connect to the endpoint URL.*4 times in a row"
    refused("s3://sets/deep/train", said, tmp_path)


def refused(where: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=said) as caught:
        ShardSet.of(open_source(where, tmp_path / "cache", 1.0))
    assert "\n" not in str(caught.value) and "HUSH" not in str(caught.value)
