"""A file is read as it is written, or refused in one sentence with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sptmod_dist.errors import UserError
from sptmod_dist.names import advice, closest
from sptmod_dist.yaml_files import MOST_REPEATED, dump, read_mapping

READ: dict[str, Any] = {
    "": {},
    "# nothing but a comment\n": {},
    "{}": {},
    "\ufeffa: 1": {"a": 1},
    "a: 5e-4\nb: 1E3\nc: -.5e+2": {"a": 5e-4, "b": 1e3, "c": -50.0},
    "a: 1.5\nb: 76_800\nc: 3": {"a": 1.5, "b": 76_800, "c": 3},
    "a: 2026-11-22\nb: =": {"a": "2026-11-22", "b": "="},
    "a: [null, ~, true, '3', 3e]": {"a": [None, None, True, "3", "3e"]},
    "1: a\n'1': b": {1: "a", "1": "b"},
    "a: &x {b: [1]}\nc: *x": {"a": {"b": [1]}, "c": {"b": [1]}},
    '{"a":"\\/\\ud834\\udd1e","b":[1,2e3]}': {"a": "/𝄞", "b": [1, 2000.0]},
    '{\n\t"a":\t[\n\t\t1\t,\n\t\t{}\n\t],\n\t"b": null\n\t}\n': {"a": [1, {}], "b": None},
}


@pytest.mark.parametrize(("text", "value"), READ.items())
def test_values_are_read_as_they_are_written(tmp_path: Path, text: str, value: Any) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    found = read_mapping(tmp_path / "a.yaml")
    assert found == value
    assert [type(v) for v in found.values()] == [type(v) for v in value.values()]


KEYS = st.text(max_size=80)  # YAML ends at keys of 1024 letters, and JSON escapes one as twelve
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.sampled_from([None, 2, "\t"]))
def test_json_is_read_as_json(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any], indent: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(value, indent=indent))
    assert read_mapping(path) == value


@pytest.mark.parametrize("text", ["1e5", "-.5E+2", "1.5", "on", "~", "2026-11-22", "=", "<<"])
def test_what_is_dumped_is_read_back(tmp_path: Path, text: str) -> None:
    for style in (False, None):
        (tmp_path / "a.yaml").write_text(dump({text: [text, {"id": text}]}, style))
        assert read_mapping(tmp_path / "a.yaml") == {text: [text, {"id": text}]}


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 10}]\n" for n in range(1, 30))
HOSTILE: dict[str | bytes, str] = {
    # keys
    "a: 1\nb: 2\na: 3": "line 3: the key 'a' stands there twice",
    "a: 1\n'a': 3": "line 2: the key 'a' stands there twice",
    "a:\n  - b: {c: 1,\n        c: 2}": "line 3: the key 'c' stands there twice",
    "16: a\n0x10: b": "line 2: the key '0x10' stands there twice",
    '{"a": 1,\n "a": 2}': "line 2: the key 'a' stands there twice",
    '"a\\nb": 1\n"a\\nb": 2': "line 2: the key 'a\\\\nb' stands there twice",
    "a: 1\n? [b]\n: 3": "line 2: a key must be one word or text",
    "? {b: 1}\n: 3": "line 1: a key must be one word or text",
    "a: &x {b: 1}\nc: {<<: *x}": "line 2: the merge key << cannot stand here",
    # more than plain values
    "a: !!python/object/apply:os.system [ls]": "the tag 'tag:yaml.*os.system' cannot stand here",
    "a: 1\nb: !!bool maybe": "line 2: the tag 'tag:yaml.org,2002:bool' cannot stand here",
    "a: !<x%0Ay> 1": "the tag 'x\\\\ny' cannot stand here",
    # aliases
    "a: *b": "line 1: found undefined alias",
    "a: &x [1, *x]": r"line 1: the alias \*x stands inside what it repeats",
    "a: &x\n  b: {c: *x}": r"line 2: the alias \*x stands inside what it repeats",
    BOMB: f"line 6: the aliases repeat more than {MOST_REPEATED} values",
    # no values
    "a: 1\nb: " + "9" * 5000: "line 2: no value can be made of this: Exceeds the limit",
    "a: 0b_": "line 1: no value can be made of this",
    'a: "\\ud800"': "line 1: no value can be made of this",
    'a: "\\U99999999"': "is not valid YAML: ",
    # no YAML
    "a: [1": "line 1: ",
    "{": "line 1: ",
    "a: 1\n---\nb: 2": "line 2: but found another document",
    "a:\n\t- b": "line 2: found character '.t' that cannot start any token",
    "a: \x07": "is not valid YAML: unacceptable character #x0007",
    "[" * 5_000: "is not valid YAML: it is nested too deeply",
    "a: 1\n" + '{"a":' * 5_000: "is not valid YAML",
    b"a: 1\nname: caf\xe9": "is not valid YAML in line 2: it is not UTF-8 text",
    "a: 1".encode("utf-16"): "is not valid YAML in line 1: it is not UTF-8 text",
    # no mapping
    "- 16": "must hold keys with values at its top, such as `name: value`",
    "text": "must hold keys with values",
    "false": "must hold keys with values",
    "[]": "must hold keys with values",
}


@pytest.mark.parametrize(("text", "words"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_a_hostile_file_is_refused_in_one_sentence(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=words) as caught:
        read_mapping(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(UserError, match=f"{path}: cannot be read"):
            read_mapping(path)


def test_aliases_may_repeat_much_but_not_without_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &x {ratio: 2}\nb: [" + "*x, " * 3000 + "]")
    assert read_mapping(path)["b"] == [{"ratio": 2}] * 3000


NAMES = ["batch_size", "model.hidden_size", "model.spn.channels", "ratio"]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("batchsize", "batch_size"),
        ("hidden_size", "model.hidden_size"),
        ("spn.hidden_size", "model.hidden_size"),
        ("model.spn.chanels", "model.spn.channels"),
        ("chanels", "model.spn.channels"),
        ("ratoi", "ratio"),
        ("qqq", None),
        ("", None),
    ],
)
def test_the_closest_name_is_found_where_one_is_close(wrong: str, right: str | None) -> None:
    assert closest(wrong, NAMES) == right


def test_without_a_close_name_all_are_listed_or_where_to_find_them() -> None:
    assert advice("ratoi", NAMES) == "did you mean ratio?"
    assert advice("qqq", ["a", "b"]) == "choose one of a, b"
    assert advice("qqq", []) == "remove it, none is known here"
    assert advice("qqq", NAMES, "see --help") == "see --help"
