"""An index that says what cannot be is refused by the place that is wrong, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.damage import at, forge, refused, without


def as_items(fields: dict[str, Any]) -> None:
    fields |= {"kind": "items", "sequences_per_record": 0}


def as_flac(fields: dict[str, Any]) -> None:
    fields |= {"sample_format": "flac", "block": 8192}


MALICE: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (at("shards", 0, "name", value="../shard-00000.tar"), r"shards\[0\].name"),
    (at("shards", 0, "name", value="/etc/passwd"), r"shards\[0\].name"),
    (at("shards", 0, "name", value="shard-00000.tar\n"), r"shards\[0\].name"),
    (at("shards", 0, "name", value="."), r"shards\[0\].name"),
    (at("shards", 0, "name", value="shard-00001.tar"), "two shards have the same name"),
    (at("shards", 0, "bytes", value=-1), r"shards\[0\].bytes is -1"),
    (at("shards", 0, "bytes", value=10**30), r"shards\[0\].bytes is 1000"),
    (at("shards", 0, "bytes", value=1.5), r"shards\[0\].bytes is 1.5"),
    (at("shards", 0, "bytes", value=True), r"shards\[0\].bytes is True"),
    (at("shards", 0, "sha256", value="00"), r"shards\[0\].sha256"),
    (at("shards", value=[]), "shards is not a list of at least 1"),
    (at("records", value=[]), "records is not a list of at least 1"),
    (at("records", value={}), "records is not a list"),
    (at("items", 0, "id", value=""), r"items\[0\].id"),
    (at("items", 0, "settings", "ratio", value=None), r"items\[0\].settings.ratio is None"),
    (at("items", 0, "settings", "ratio", value=10**400), "is no good index"),
    (at("items", 0, "settings", "drive", value=1.0), "unknown 'drive'"),
    (at("items", 0, "controls", value=[1.5]), "not from 0 to 1"),
    (at("items", 0, "controls", value=[0.1, 0.2]), "2 values for 1 controls"),
    (at("items", 0, "controls", 0, value=float("nan")), "contains NaN"),
    (at("items", 0, "sequences", value=6), "cannot hold so many sequences"),
    (at("items", 0, "sequences", value=4), r"items\[0\] has 5 sequences instead of 4"),
    (at("records", 0, "key", value="../x"), r"records\[0\].key"),
    (at("records", 0, "shard", value=99), "names a shard or an item that is not there"),
    (at("records", 0, "item", value=99), "names a shard or an item that is not there"),
    (at("records", 0, "start", value=600), "ends after its item"),
    (at("records", 1, "start", value=0), r"records\[1\] is not after the one before it"),
    (at("records", 0, "samples", value=165), "is no record of up to 1 sequences"),
    (at("records", 0, "sequences", value=0), r"records\[0\].sequences is 0"),
    (at("records", 0, "sequences", value=2), "are not 2 sequences"),
    (at("records", 0, "input", value=[0, 784]), r"records\[0\].input is not"),
    (at("records", 0, "input", 0, value=-512), r"records\[0\].input offset is -512"),
    (at("records", 0, "input", 0, value=10**9), "ends after its shard"),
    (at("records", 0, "input", 1, value=10), "has a member of 10 bytes"),
    (at("records", 0, "input", 2, value=2**32), r"records\[0\].input crc32s"),
    (at("records", 0, "input", 2, value="0000000"), r"records\[0\].input crc32s"),
    (at("records", 0, "input", 2, value="0000000G"), r"records\[0\].input crc32s"),
    (at("records", 0, "input", 2, value=""), r"records\[0\].input crc32s"),
    (at("records", 0, "input", 2, value="0" * 16), "has 2 sums of its input"),
    (at("records", 0, "input", 2, value="0" * 8), "CRC-32 differs"),
    (at("records", 0, "input", 0, value=1024), "CRC-32 differs"),
    (at("records", 0, "other", value=[0, 1, 2]), "unknown 'other'"),
    (at("sample_rate", value=0), "sample_rate is 0"),
    (at("sample_rate", value="8000"), "sample_rate is '8000'"),
    (at("input_channels", value=0), "input_channels is 0"),
    (at("input_channels", value=2), "has a member of"),
    (at("lengths", value=[]), "lengths is not a list"),
    (at("lengths", value=[64, -32, 32]), r"lengths\[1\] is -32"),
    (at("lengths", value=[128, 32, 32]), "input_length is less than"),
    (at("hop", value=127), "hop is not the sum"),
    (at("input_length", value=10**20), "input_length is 1000"),
    (at("controls", 0, "minimum", value=9), "minimum 9 is not below"),
    (at("controls", 0, value="ratio"), "control"),
    (at("controls", value=[]), r"items\[0\].settings has an unknown 'ratio'"),
    (at("split", value="training"), "split is 'training', not train or"),
    (at("split", value=["train"]), r"split is \['train'\]"),
    (at("kind", value="items"), "sequences_per_record is 1 for items"),
    (at("sequences_per_record", value=0), "sequences_per_record is 0 for sequences"),
    (as_items, r"records\[0\] is not its whole item"),
    (at("sample_format", value="object"), "sample_format is 'object', not float32 or pcm24"),
    (at("block", value=-1), "block is -1"),
    (at("block", value=2**40), "block is 1099511627776"),
    (at("block", value=8), "has 1 sums of its input, which do not cover"),
    (as_flac, "block is 8192, and flac has none"),
    (at("sample_format", value="flac"), "no usable samples in train-0000-000000000.input.flac"),
    (at("sample_format", value="pcm24"), "input.npy .it holds float32 .1, 164. where the index"),
    (at("format", value="sptmod-shards-1"), "reads sptmod-shards-2.*shards build --overwrite"),
    (at("items", 0, "sha256", value="00"), r"items\[0\].sha256"),
    (at("provenance", "converted_from", value="a set"), "provenance.converted_from"),
    (at("records", 1, "start", value=127), r"records\[1\] does not go on where the one before"),
    (at("records", 0, "json", 2, value="0" * 16), "has 2 sums of its json"),
    (at("items", 0, "dropped", value=1), r"items\[0\] drops 0 samples, not 1"),
    (at("extra", value=1), "unknown 'extra'"),
    (at("provenance", "device", value=3), "provenance.device"),
    (without("provenance"), "lacks provenance"),
    (without("records", 0, "json"), r"records\[0\] lacks json"),
    (without("records", 0), r"items\[0\] has 4 sequences instead of 5"),
]


@pytest.mark.parametrize("change, said", MALICE)
def test_a_forged_index_is_refused_by_the_place_that_is_wrong(
    sets: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    forge(sets / "train" / "index.json", change)
    refused(sets / "train", said)


def test_the_forger_can_write_an_index_that_passes(sets: Path) -> None:
    path = sets / "train" / "index.json"
    before = path.read_bytes()
    forge(path, lambda fields: None)
    assert path.read_bytes() == before
