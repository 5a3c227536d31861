"""Readers that know nothing of the index get the same out of the tar files alone."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sptmod_dist.data.sample_formats import FORMATS, to_float32
from sptmod_dist.data.shards import ShardSet
from tests.data.small_sets import HOP, LONG, LOOKBACK, longer, nearest, noise, store


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_webdataset_reads_the_same_without_pickle(
    built: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, shards = by_webdataset(built / split, monkeypatch)
    for number, (sample, rec) in enumerate(zip(samples, shards.index.records, strict=True)):
        own = shards.sequence(number) if split == "train" else shards.item(number)
        assert sample["__key__"] == rec.key
        assert np.array_equal(sample["input.npy"], own.input)
        assert np.array_equal(sample["output.npy"], own.output)
        item = shards.items[rec.item]
        assert sample["json"]["item"] == item.id
        assert sample["json"]["start"] == rec.start
        assert sample["json"]["settings"] == item.settings
        assert sample["json"]["controls"] == item.controls


@pytest.mark.parametrize("sample_format", FORMATS)
@pytest.mark.parametrize("held", [1, 4])
def test_webdataset_reads_every_sample_format(
    tmp_path: Path, sample_format: str, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = noise(LONG, 1, 1)
    folder = store(tmp_path, {"a": whole}, held, sample_format, longer(1, 1))
    samples, shards = by_webdataset(folder, monkeypatch)
    for sample, rec in zip(samples, shards.index.records, strict=True):
        window = slice(rec.start, rec.start + rec.samples)
        for field, audio in (("input", whole.input), ("output", whole.output)):
            if sample_format == "flac":
                stream = io.BytesIO(sample[f"{field}.flac"])
                found = soundfile.read(stream, dtype="float32", always_2d=True)[0].T
            else:
                found = to_float32(sample[f"{field}.npy"])
            assert np.array_equal(found, nearest(audio, sample_format)[:, window])


def by_webdataset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], ShardSet]:
    """All samples of a set, decoded by webdataset alone, in its secure mode."""
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr(webdataset.utils, "enforce_security", True)
    shards = ShardSet.open(folder)
    urls = [str(folder / shard.name) for shard in shards.index.shards]
    return list(webdataset.WebDataset(urls, shardshuffle=False).decode()), shards


@pytest.mark.parametrize("sample_format", ["pcm24", "flac"])
def test_the_example_in_the_description_of_the_format_runs(
    tmp_path: Path, sample_format: str
) -> None:
    pytest.importorskip("webdataset")
    folder = store(tmp_path, {"train-a": noise(LOOKBACK + 17 * HOP)}, 1, sample_format)
    readme = Path(__file__).parents[2] / "shards" / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(), flags=re.DOTALL)
    code = code.replace("shards/data/demo/train", str(folder))
    code += "assert webdataset.utils.enforce_security"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("ratio") == 17
