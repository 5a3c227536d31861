"""Items in tables, as spreadsheets and programs leave them; what is older keeps its bytes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sptmod_dist.data import recordings
from sptmod_dist.data.controls import Control
from sptmod_dist.data.item_tables import read_table, write_table
from sptmod_dist.data.recordings import Manifest
from sptmod_dist.errors import UserError
from tests.data.small_sets import GEOMETRY, RATIO, noise, record, store

TABLE = "id,input,output,ratio\na,x.wav,y.wav,2\n"
ROW = {"id": "a", "input": "x.wav", "output": "y.wav", "controls": {"ratio": 2.0}}


@pytest.mark.parametrize("text", [
    TABLE,
    "\ufeff" + TABLE,
    TABLE.replace("\n", "\r\n"),
    "id,input,output,ratio,,\na,x.wav,y.wav,2,,\n,,,,,\n",
    "ratio, output ,id,input,split\n 2.0 ,y.wav,a,x.wav,\n",
    'id,input,output,ratio\n"a","x.wav","y.wav","2"\n\n',
    "sep=,\n" + TABLE,
    "SEP=,\r\n" + TABLE,
])  # fmt: skip
def test_a_table_is_read_as_spreadsheets_leave_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, newline="", encoding="utf-8")
    line = 3 if text.casefold().startswith("sep") else 2
    assert read_table(tmp_path / "t.csv", [RATIO]) == [(f"{tmp_path}/t.csv, line {line}", ROW)]


@pytest.mark.parametrize(("name", "text", "sentence"), [
    ("t.csv", TABLE.replace(",", ";"), "its columns are not divided by commas"),
    ("t.csv", "sep=;\n" + TABLE.replace(",", ";"), "its columns are not divided by commas"),
    ("t.csv", TABLE.replace(",", "\t"), "its columns are not divided by commas"),
    ("t.csv", TABLE.replace("ratio", "id"), "has the column 'id' twice"),
    ("t.csv", TABLE.replace(",ratio", ","), "line 2: '2' stands under no column"),
    ("t.csv", TABLE.replace(",2", ""), "line 2 has 3 cells under 4 columns"),
    ("t.csv", "id,input\n", "has no rows"),
    ("t.csv", "", "has no rows"),
    ("t.csv", b"id,input\n\xe9,x\n", "is not UTF-8 text"),
    ("t.csv", None, "cannot be read"),
    ("t.txt", TABLE, "name it .csv or .jsonl"),
    ("t.jsonl", "", "has no rows"),
    ("t.jsonl", '{"id": "a"}\n{"id"}', "line 2 is no JSON"),
    ("t.jsonl", '{"id": "a", "id": "b"}', "line 1 is no JSON (the key 'id' stands there twice)"),
    ("t.jsonl", "[" * 100_000, "line 1 is no JSON"),
])  # fmt: skip
def test_a_table_that_is_none_is_refused_by_its_place(
    tmp_path: Path, name: str, text: str | bytes | None, sentence: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as refused:
        read_table(path, [RATIO])
    assert str(refused.value).startswith(str(path)) and sentence in str(refused.value)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_names_with_commas_quotes_and_rare_line_ends_are_read_back(
    tmp_path: Path, name: str
) -> None:
    entries: list[dict[str, Any]] = [
        {"id": "a", "input": 'so, "it" is', "output": "l\u2028ine", "controls": {"r": "a,b"}},
        {"id": "b", "input": "x", "output": "\u00e9", "controls": {"r": 0.1 + 0.2}},
    ]
    write_table(tmp_path / name, entries, ["r"])
    assert [entry for _, entry in read_table(tmp_path / name, [Control("r", 0, 1)])] == entries


def test_positions_that_are_texts_stay_so_in_every_table(tmp_path: Path) -> None:
    texts = ("1", "01", "1.0", "-1_0", "1e0", "nan")
    mode = Control("mode", scale="list", positions=texts)
    manifest = record(tmp_path, {f"train-{n}": 900 for n in range(len(texts))})
    items = tuple(
        replace(item, settings={"mode": text})
        for item, text in zip(manifest.items, texts, strict=True)
    )
    for name in ("items.csv", "items.jsonl", None):
        replace(manifest, controls=(mode,), items=items).write(tmp_path / "m.yaml", name)
        found = [item.settings["mode"] for item in Manifest.read(tmp_path / "m.yaml").items]
        assert tuple(found) == texts


def test_a_control_with_the_name_of_a_column_is_refused_in_csv_alone(tmp_path: Path) -> None:
    entry = {"id": "a", "input": "x", "output": "y", "controls": {"split": 1.0}}
    write_table(tmp_path / "t.jsonl", [entry], ["split"])
    assert read_table(tmp_path / "t.jsonl", [Control("split", 0, 2)])[0][1] == entry
    with pytest.raises(UserError, match="column 'split' cannot be told from the control"):
        write_table(tmp_path / "t.csv", [entry], ["split"])
    assert not (tmp_path / "t.csv").exists()


def test_a_row_of_jsonl_that_is_no_item_is_refused_by_its_line(tmp_path: Path) -> None:
    manifest = record(tmp_path, {"train-a": 900})
    manifest.write(tmp_path / "m.yaml", "items.jsonl")
    for line, sentence in (("3", "must be keys and values"), ('{"id": 3}', "lacks the key")):
        with open(tmp_path / "items.jsonl", "a") as file:
            file.write(f"{line}\n")
        with pytest.raises(UserError, match=rf"items.jsonl, line 2 .*{sentence}"):
            Manifest.read(tmp_path / "m.yaml")
        manifest.write(tmp_path / "m.yaml", "items.jsonl")


def test_manifest_and_table_change_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = record(tmp_path, {"train-a": 900, "test-b": 900})
    manifest.write(tmp_path / "m.yaml", "items.csv")
    before = {name: (tmp_path / name).read_bytes() for name in ("m.yaml", "items.csv")}
    shorter = replace(manifest, items=manifest.items[:1], device="another")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recordings, "write_table", full)
    with pytest.raises(OSError):
        shorter.write(tmp_path / "m.yaml", "items.csv")
    assert before == {name: (tmp_path / name).read_bytes() for name in before}


def test_one_output_of_two_items_in_no_split_is_refused(tmp_path: Path) -> None:
    manifest = record(tmp_path, {"train-a": 900, "test-b": 900})
    items = tuple(replace(i, output=manifest.items[0].output, split="") for i in manifest.items)
    replace(manifest, items=items).write(tmp_path / "m.yaml", "items.csv")
    assert "split" not in (tmp_path / "items.csv").read_text()
    with pytest.raises(UserError, match="the output of 'train-a' and of 'test-b';"):
        Manifest.read(tmp_path / "m.yaml")


def test_an_index_of_a_range_has_the_bytes_that_it_always_had(tmp_path: Path) -> None:
    """Written before switches were known; checkpoints name sets by this sum."""
    stored = store(tmp_path, {"train-a": noise(1000)}, 2)
    found = hashlib.sha256((stored / "index.json").read_bytes()).hexdigest()
    assert found == "2ffedbb4b2b13c44ec5c75b48ccc5973c96f070bf827835cde4d4b62677ad1ce"


def test_a_default_changes_nothing_that_a_model_sees() -> None:
    mode = Control("mode", scale="list", positions=("fast", "slow", "auto"))
    there = replace(GEOMETRY, controls=(mode, RATIO))
    words = dict(there.in_words())["controls"]
    assert words == "mode 'fast' 'slow' 'auto' (list), ratio 2.0 to 8.0:1 (log)"
    with_default = replace(mode, default="slow")
    assert there.differences(replace(there, controls=(with_default, RATIO))) == []
    other = replace(mode, positions=("slow", "fast", "auto"))
    assert there.differences(replace(there, controls=(other, RATIO)))
