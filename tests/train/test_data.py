"""However the training set is read, the same training comes out; what must not be is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import make_run
from toy import make_toy, toy_config

from sptmod_dist.data import shared_memory
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.data.shard_build import build_sets
from sptmod_dist.data.shards import ShardSet
from sptmod_dist.errors import UserError
from sptmod_dist.infer.evaluate import evaluate
from sptmod_dist.train import data
from sptmod_dist.train.checkpoint import Checkpoint
from sptmod_dist.train.data import needs_of
from sptmod_dist.train.main import train
from sptmod_dist.train.ranks import Ranks
from sptmod_dist.train.run_folder import RunFolder


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    train(make_toy(folder, name="plain", data={"workers": 0}))
    return folder


def trained(folder: Path, name: str, resume: str | None = None, **changes: object) -> Checkpoint:
    train(toy_config(folder, name=name, **changes), resume)
    found = RunFolder(folder / "runs" / name).last_checkpoint()
    assert found is not None
    return found[1]


def largest_shard(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.glob("shards/*/*.tar"))


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    for kind in ("weights", "moments"):
        ours, theirs = getattr(one, kind), getattr(other, kind)
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert one.state["progress"] == other.state["progress"]


WAYS = ["threads", "ram", "device", "pipe", "pipe, small cache", "from threads to ram"]


@pytest.mark.parametrize("how", WAYS)
def test_every_exact_way_of_reading_trains_the_same_bit_for_bit(toy: Path, how: str) -> None:
    data: dict[str, object] = {"workers": 3}
    if how.endswith(("ram", "device")):
        data["resident"] = how.split()[-1]
    if how.startswith("pipe"):
        places = {"train": "train", "validation": "validation"}
        data |= {split: f"pipe:cat {toy}/shards/{name}/{{}}" for split, name in places.items()}
        data["cache_folder"] = str(toy / f"cache of {how}")
    if how.endswith("small cache"):
        data["cache_gigabytes"] = 1.2 * largest_shard(toy) / 1e9
    resume = None
    if how.startswith("from"):
        half = {"stopping": {"max_iterations": 12}}
        trained(toy, how, data={"workers": 2}, **half)
        resume = "auto"
    plain = RunFolder(toy / "runs" / "plain").last_checkpoint()
    assert plain is not None
    assert_same(trained(toy, how, resume, data=data), plain[1])


def test_a_cache_that_is_too_small_and_a_stream_are_told_of(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(toy / "recordings", tmp_path / "recordings")
    small = build_sets(
        Manifest.read(tmp_path / "recordings" / "manifest.yaml"),
        tmp_path / "shards",
        needs_of(toy_config(toy)),
        shard_bytes=20_000,
        say=lambda line: None,
    )[0]
    data = {
        "train": f"pipe:cat {small}/{{}}",
        "cache_folder": str(tmp_path / "cache"),
        "cache_gigabytes": 40_000 / 1e9,
    }
    plain = RunFolder(toy / "runs" / "plain").last_checkpoint()
    again = trained(toy, "again", data=data)
    assert "more than the cache may hold" in capsys.readouterr().err
    assert plain is not None and torch.equal(
        next(iter(again.weights.values())), next(iter(plain[1].weights.values()))
    )
    assert sum(path.stat().st_size for path in tmp_path.glob("cache/*.tar")) <= 40_000
    trained(toy, "held", data={**data, "resident": "ram"})  # read once
    assert "more than the cache may hold" not in capsys.readouterr().err
    trained(toy, "streamed", data={**data, "stream": True})
    assert "streaming: each epoch deals" in capsys.readouterr().err


class Refused(Ranks):
    """Rank 0 of two, of which the other one has no room."""

    def __init__(self) -> None:
        super().__init__(0, 2, torch.device("cpu"))

    def gather(self, items: list[Any]) -> list[Any]:
        return [*items, "no room"]

    def on_main(self, action: Callable[[], Any]) -> Any:
        return action()


def test_shared_memory_goes_where_another_rank_has_none(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    filled: list[Path] = []
    monkeypatch.setattr(data, "decode", lambda *_: filled.extend(tmp_path.iterdir()))
    train_set = ShardSet.open(toy / "shards" / "train")
    with pytest.raises(UserError, match=r"\[rank 1\] no room"):
        data._in_memory(Refused(), train_set, 1)  # type: ignore[arg-type]
    assert len(filled) == 1 and list(tmp_path.iterdir()) == []


def test_a_streamed_training_repeats_and_goes_on(toy: Path) -> None:
    stream = {"data": {"stream": True, "stream_buffer": 4}}
    first, second = (trained(toy, name, **stream) for name in ("stream1", "stream2"))
    assert_same(first, second)
    trained(toy, "stream3", stopping={"max_iterations": 6}, **stream)
    third = trained(toy, "stream3", "auto", **stream)
    assert third.state["progress"]["iteration"] == first.state["progress"]["iteration"]


def test_a_recording_in_two_of_the_sets_is_refused(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data.validation is .* a train set"):
        train(toy_config(toy, name="leak", data={"validation": str(toy / "shards" / "train")}))
    # The same recordings, but the splits have changed places.
    shutil.copytree(toy / "recordings", tmp_path / "recordings")
    manifest = tmp_path / "recordings" / "manifest.yaml"
    text = manifest.read_text().replace("split: train", "split: x")
    text = text.replace("split: validation", "split: train")
    manifest.write_text(text.replace("split: x", "split: validation"))
    needs = needs_of(toy_config(toy))
    build_sets(Manifest.read(manifest), tmp_path / "shards", needs, say=lambda line: None)
    data = {"validation": str(tmp_path / "shards" / "validation")}
    with pytest.raises(UserError, match="data.train and data.validation hold the same recording"):
        train(toy_config(toy, name="leak", data=data))


def test_a_command_out_of_a_runs_folder_is_never_run(toy: Path, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    run = make_run(tmp_path / "run", test_set=Path(f"pipe:touch {touched}; {{}}"))
    with pytest.raises(UserError, match="data.test .* is a command, .* with --shards"):
        evaluate(run)
    assert not touched.exists()
