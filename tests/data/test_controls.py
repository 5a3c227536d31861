"""A control maps its range onto 0 to 1, and refuses whatever is not in it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sptmod_dist.data.controls import Control, exact, normalised_vector
from sptmod_dist.errors import UserError
from sptmod_dist.typed import number_or_text

RATIO = Control("ratio", 2, 8, scale="log", unit=":1")
THRESHOLD = Control("threshold", -8, 4, unit="dB")


@pytest.mark.parametrize("control", [RATIO, THRESHOLD])
def test_the_ends_of_a_range_are_0_and_1(control: Control) -> None:
    assert control.normalise(control.minimum) == 0.0
    assert control.normalise(control.maximum) == 1.0


def test_the_middle_of_a_log_range_is_the_geometric_mean() -> None:
    assert RATIO.normalise(4) == pytest.approx(0.5, abs=1e-15)
    assert THRESHOLD.normalise(-2) == 0.5


def test_a_control_survives_plain_values_and_back() -> None:
    assert Control.from_dict(RATIO.to_dict()) == RATIO
    assert Control.from_dict({"name": "a", "minimum": 0, "maximum": 1}) == Control("a", 0, 1)


@pytest.mark.parametrize("value", [1.99, 8.01, math.nan, math.inf, -math.inf, "4", True, None])
def test_a_value_outside_the_range_is_refused_by_name(value: Any) -> None:
    with pytest.raises(UserError, match="'ratio'.*"):
        RATIO.normalise(value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "", "minimum": 0, "maximum": 1}, "no name"),
        ({"name": "a b", "minimum": 0, "maximum": 1}, "no name"),
        ({"name": "a=b", "minimum": 0, "maximum": 1}, "no name"),
        ({"name": 3, "minimum": 0, "maximum": 1}, "no name"),
        ({"name": "a", "minimum": 1, "maximum": 1}, "not below"),
        ({"name": "a", "minimum": 2, "maximum": 1}, "not below"),
        ({"name": "a", "minimum": "0", "maximum": 1}, "minimum: '0' is not a finite number"),
        ({"name": "a", "minimum": 0, "maximum": math.inf}, "maximum: inf is not"),
        ({"name": "a", "minimum": 0, "maximum": 10**400}, "maximum: 1000"),
        ({"name": "a", "minimum": 0, "maximum": 1, "scale": "log"}, "above 0"),
        ({"name": "a", "minimum": 0, "maximum": 1, "scale": "cubic"}, "cubic"),
        ({"name": "a", "minimum": 0, "maximum": 1, "unit": 3}, "unit 3"),
        (
            {"name": "a", "minimum": 0, "maximun": 1},
            "'maximun': did you mean maximum",
        ),
        ({"name": "a", "minimum": 0}, "lacks the key 'maximum'"),
        ("ratio", "keys and values"),
    ],
)
def test_a_control_that_makes_no_sense_is_refused(entry: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Control.from_dict(entry)


def test_the_vector_follows_the_order_of_the_controls() -> None:
    vector = normalised_vector([RATIO, THRESHOLD], {"threshold": -8, "ratio": 8})
    assert vector == [1.0, 0.0]
    assert normalised_vector([], {}) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ratoi": 4, "threshold": 0}, "no control 'ratoi': did you mean ratio"),
        ({"ratio": 4}, "'threshold' has no value"),
        ({"ratio": 4, "threshold": 5}, "'threshold' = 5 .* -8 to 4 dB"),
    ],
)
def test_unknown_missing_and_wild_settings_are_refused(
    settings: dict[str, float], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        normalised_vector([RATIO, THRESHOLD], settings)


SWITCH = Control("mode", scale="list", positions=("fast", "medium", "slow"), default="slow")
STEPS = Control("ratio", scale="list", positions=(2, 4, 10, 20), unit=":1")


def test_a_switch_is_seen_in_equal_steps() -> None:
    assert [SWITCH.normalise(position) for position in SWITCH.positions] == [0.0, 0.5, 1.0]
    assert [STEPS.at(place) for place in (0, 0.3, 1)] == [2.0, 4.0, 20.0]
    assert normalised_vector((STEPS, SWITCH), {"ratio": 10, "mode": "fast"}) == [2 / 3, 0.0]


@pytest.mark.parametrize("control", [SWITCH, STEPS, Control("a", 1, 100, "log", default=10)])
def test_what_a_document_says_of_a_control_is_read_back(control: Control) -> None:
    entry = control.to_dict()
    assert Control.from_dict(entry) == control
    assert Control.from_dict({k: v for k, v in entry.items() if k != "scale"}).name == control.name
    for place in (0.0, 0.25, 1.0):
        step = 0.34 if control.positions else 1e-12
        assert abs(control.normalise(control.at(place)) - place) < step


def test_what_is_written_of_a_range_is_what_was_always_written() -> None:
    """So that sets of shards keep their bytes."""
    entry = Control("ratio", 2, 8, "log", ":1").to_dict()
    assert list(entry.items()) == [
        ("name", "ratio"), ("minimum", 2.0), ("maximum", 8.0), ("scale", "log"), ("unit", ":1")
    ]
    assert Control("ratio", 2, 8, "log", ":1").in_words() == "ratio 2.0 to 8.0:1 (log)"


@pytest.mark.parametrize(("entry", "sentence"), [
    ({"positions": ["a"]}, "no list of two or more"),
    ({"positions": "ab"}, "no list of two or more"),
    ({"positions": ["a", 2]}, "all numbers or all texts"),
    ({"positions": [1, 1.0]}, "is listed twice"),
    ({"positions": ["a", " b"]}, "begins or ends with a space"),
    ({"positions": [1, 2], "minimum": 0, "maximum": 3}, "and a range besides"),
    ({"positions": [1, 2], "scale": "linear"}, "positions belong to the scale list"),
    ({"positions": [1, 2], "default": 3}, "is none of its positions; give one of 1, 2"),
    ({"minimum": 0, "maximum": 1, "scale": "list"}, "a range besides"),
])
def test_a_switch_that_is_none_is_refused(entry: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        Control.from_dict({"name": "mode", **entry})
    assert sentence in str(refused.value)


def test_a_position_is_found_however_it_is_written() -> None:
    texts = Control("mode", scale="list", positions=("1e3", "02", "x"))
    assert [texts.setting(value) for value in ("1e3", 1000.0, "02", 2, "x")] == [
        "1e3", "1e3", "02", "02", "x"
    ]  # fmt: skip
    near = Control("rate", scale="list", positions=(1_000_001, 1_000_002))
    assert [near.normalise(value) for value in (1_000_002, "1000001", 1_000_001.0)] == [1, 0, 0]


def test_a_text_is_the_position_that_is_written_so_or_the_only_one_of_its_number() -> None:
    switch = Control("mode", scale="list", positions=("1", "01", "-1_0", "2.0"))
    assert [switch.setting(value) for value in ("01", "1", 1, 1.0, "-1_0", "2", 2)] == [
        "01", "1", "1", "1", "-1_0", "2.0", "2.0"
    ]  # fmt: skip
    for value in ("1.0", "001", -10, "-10"):
        with pytest.raises(UserError, match="none of its positions"):
            switch.setting(value)


@pytest.mark.parametrize("text", ["1_0", "-1_0", "nan", "inf", "\u0663", "1,5", "0x1", "", "."])
def test_what_no_person_writes_as_a_number_is_none(text: str) -> None:
    assert number_or_text(text) == text
    with pytest.raises(UserError, match="is not a finite number"):
        Control("a", -100, 100).setting(Control("a", -100, 100).read(text))


@pytest.mark.parametrize("text", ["1", "-1.5", "+.5", "2.", "1e-3", "1E+3", " 7 "])
def test_numbers_are_read_as_people_write_them(text: str) -> None:
    assert number_or_text(text) == float(text)


@pytest.mark.parametrize(("low", "high"), [(1e-300, 1.0), (1e-290, 1e299), (1e-20, 1e20)])
def test_a_log_scale_that_no_number_can_walk_is_refused(low: float, high: float) -> None:
    with pytest.raises(UserError, match="a log scale cannot reach from"):
        Control("a", low, high, "log")


def test_bare_words_that_yaml_takes_for_truth_values_are_explained() -> None:
    with pytest.raises(UserError, match="False is not .* in quotes"):
        Control.from_dict({"name": "mode", "positions": [False, True]})
    switch = Control("mode", scale="list", positions=("on", "off"))
    with pytest.raises(UserError, match="True is none of its positions; .* in quotes"):
        switch.setting(True)
    with pytest.raises(UserError, match="True is none"):
        Control("a", scale="list", positions=(0, 1)).setting(True)


@pytest.mark.parametrize("value", [0.1 + 0.2, 5.0, -4e-7, 1e22, 1 / 3, "fast"])
def test_a_setting_in_a_table_is_exact(value: Any) -> None:
    assert value == (exact(value) if isinstance(value, str) else float(exact(value)))
