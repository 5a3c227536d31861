"""Checks of what stands in a document: keys that are needed, keys that are known.

It must not know what the documents mean, nor how they are stored.
"""

from __future__ import annotations

from collections.abc import Collection
from reprlib import repr as brief
from typing import Any

from sptmod_dist.errors import UserError
from sptmod_dist.names import advice


def check_keys(
    entry: Any, required: Collection[str], optional: Collection[str], where: str
) -> dict[str, Any]:
    """Give `entry` back if it is a mapping with all required keys and no unknown ones.

    Raises:
        UserError: naming `where`, the key, and the closest known one.
    """
    if not isinstance(entry, dict):
        raise UserError(
            f"{where} must be keys and values, not {brief(entry)}; write 'key: value' lines."
        )
    known = [*required, *optional]
    for key in entry:
        if key not in known:
            raise UserError(f"{where} has the unknown key {brief(key)}: {advice(str(key), known)}")
    for key in required:
        if key not in entry:
            raise UserError(f"{where} lacks the key '{key}'; add it.")
    return entry
