"""Controls find their parameters by name, and say so in a sentence where they do not."""

from __future__ import annotations

import pytest

from sptmod_dist.capture.parameters import Parameter, match
from sptmod_dist.data.controls import Control
from sptmod_dist.errors import UserError

THRESHOLD = Parameter("threshold_db", 0.0, -60.0, 0.0, "dB")
ATTACK = Parameter("attack_ms", 10.0, 0.1, 100.0, "ms")
LEVEL = Parameter("output_level_db", -45.0, -45.0, 20.0, "dB", readable=True)
MODE = Parameter("mode", "slow", choices=("slow", "fast"))


def known(*parameters: Parameter) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in parameters}


def control(name: str, unit: str = "") -> Control:
    return Control(name, 1.0, 2.0, unit=unit)


@pytest.mark.parametrize(
    "name",
    ["threshold", "Threshold", "THRESHOLD_DB", "threshold-dB", "thresholddb", "Threshold(dB)"],
)
def test_names_match_without_case_spaces_and_units(name: str) -> None:
    parameters = known(THRESHOLD, ATTACK, LEVEL, MODE)
    assert match([control(name)], parameters, {}) == {name: "threshold_db"}


def test_an_equal_name_goes_before_one_that_is_equal_without_its_unit() -> None:
    plain = Parameter("attack", 1.0, 0.0, 5.0)
    assert match([control("attack")], known(ATTACK, plain), {}) == {"attack": "attack"}
    assert match([control("attack_ms")], known(ATTACK, plain), {}) == {"attack_ms": "attack_ms"}


def test_a_map_goes_before_names() -> None:
    parameters = known(THRESHOLD, ATTACK)
    assert match([control("threshold")], parameters, {"threshold": "attack"}) == {
        "threshold": "attack_ms"
    }


@pytest.mark.parametrize(
    ("controls", "mapping", "taken", "words"),
    [
        ([control("treshold")], {}, (), "did you mean threshold_db; say which with --map"),
        ([control("output_level")], {}, (), "there is no parameter"),  # a meter is not turned
        ([control("threshold")], {"thrshold": "attack"}, (), "did you mean threshold?"),
        ([control("threshold")], {"threshold": "atack_ms"}, (), "did you mean attack_ms"),
        ([control("Attack"), control("attack")], {}, (), "both turn attack_ms"),
        ([control("attack")], {}, ("attack_ms",), "which --set fixes"),
        ([control("attack", "s")], {}, (), "is in s and attack_ms in ms"),
    ],
)
def test_what_does_not_match_is_refused_in_words(
    controls: list[Control], mapping: dict[str, str], taken: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        match(controls, known(THRESHOLD, ATTACK, LEVEL, MODE), mapping, taken)
    assert words in str(caught.value)


def test_several_that_match_are_named() -> None:
    twice = known(Parameter("ratio_db", 1.0), Parameter("ratio_ms", 1.0))
    with pytest.raises(UserError, match=r"may be any of ratio_db, ratio_ms; say which with --map"):
        match([control("ratio")], twice, {})


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        (ATTACK, 0.05, "give 0.1 to 100 ms."),
        (ATTACK, float("nan"), "is outside"),
        (ATTACK, "fast", "takes a number"),
        (MODE, "medium", "takes slow, fast alone"),
        (MODE, 1.0, "takes slow, fast alone"),
        (Parameter("on", 0.0, 0.0, 1.0, choices=(0.0, 1.0)), 0.5, "takes 0, 1 alone"),
    ],
)
def test_what_a_parameter_cannot_be_is_refused(
    parameter: Parameter, value: float | str, words: str
) -> None:
    with pytest.raises(UserError) as caught:
        parameter.require(value, "take 3")
    assert "take 3" in str(caught.value) and words in str(caught.value)


def test_what_a_parameter_can_be_passes() -> None:
    for value in (0.1, 100.0, 5):
        ATTACK.require(value, "")
    MODE.require("fast", "")
