"""Checks of single values out of a JSON document: each gives the value back or says what is wrong.

It knows types, ranges and patterns, and nothing of what the values mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

LARGEST = 2**48  # samples or bytes: far more than any recording, far less than an overflow


class BadField(Exception):
    """What is wrong with a field, and where in the document."""


def fields(value: Any, names: Iterable[str], at: str) -> None:
    """An object with exactly these fields."""
    if not isinstance(value, dict):
        raise BadField(f"{at} is not an object")
    missing = [name for name in names if name not in value]
    unknown = [name for name in value if name not in set(names)]
    if missing or unknown:
        said = f"lacks {missing[0]}" if missing else f"has an unknown {unknown[0]!r:.60}"
        raise BadField(f"{at} {said}")


def a_list(value: Any, at: str, least: int = 1) -> list[Any]:
    """A list of at least so many entries."""
    if not isinstance(value, list) or len(value) < least:
        raise BadField(f"{at} is not a list of at least {least}")
    return value


def each(value: Any, at: str, read: Callable[[Any, str], Any], least: int = 1) -> list[Any]:
    """What `read` makes of each entry of a list and its place."""
    entries = enumerate(a_list(value, at, least))
    return [read(entry, f"{at}[{number}]") for number, entry in entries]


def integer(value: Any, at: str, least: int = 0, most: int = LARGEST) -> int:
    """An integer from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadField(f"{at} is {value!r:.40}, not an integer from {least} to {most}")
    return value


def number(value: Any, at: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadField(f"{at} is {value!r:.40}, not a number")
    if not math.isfinite(value):
        raise BadField(f"{at} is not finite")
    return float(value)


def unit_number(value: Any, at: str) -> float:
    """A number from 0 to 1."""
    if not 0 <= number(value, at) <= 1:
        raise BadField(f"{at} is not from 0 to 1")
    return float(value)


def text(value: Any, at: str, pattern: str = r"[\s\S]*") -> str:
    """A text that a regular expression fits as a whole."""
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise BadField(f"{at} is {value!r:.40}, which cannot be")
    return value


def one_of(value: Any, allowed: Iterable[str], at: str) -> str:
    """One of these texts."""
    if value not in (allowed := tuple(allowed)):
        raise BadField(f"{at} is {value!r:.40}, not {' or '.join(allowed)}")
    return value


def all_differ(names: Iterable[Any], what: str) -> None:
    """No name stands twice."""
    names = list(names)
    if len(set(names)) != len(names):
        raise BadField(f"two {what} have the same name")
