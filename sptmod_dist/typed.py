"""What people type, on command lines and in tables: numbers, and pairs with = between them.

It knows no control and no option itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sptmod_dist.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def number_or_text(text: str) -> float | str:
    """A number where the text is one as people write it, the text otherwise: so is `1_0`."""
    return float(text) if _NUMBER.fullmatch(text.strip()) else text


def pairs(option: str, texts: Sequence[str] | None, form: str) -> dict[str, str]:
    """The texts of an option that may be repeated, as a mapping.

    Args:
        option: as users type it, such as `--control`.
        texts: what was given; None is nothing.
        form: what to give, such as `NAME=VALUE`.

    Raises:
        UserError: no such pair, or a name that stands twice.
    """
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"{option} {text}: give {form}")
        if name in found:
            raise UserError(f"{option} {text}: {name} is given twice; give it once")
        found[name] = value
    return found
