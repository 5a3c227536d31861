"""Leaks between splits: what was learned must not be measured on.

It looks at items by their content, whatever their files are called, and may look at their settings.
That splits share inputs is no leak: a listener's clips go through the device at many settings.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from sptmod_dist.data.geometry import ShardError
from sptmod_dist.data.shard_index import Item


def check_leaks(items: Iterable[tuple[str, Item]], distinct_settings: bool, where: str) -> None:
    """Refuse items of which something stands on two sides.

    Args:
        items: each with its split.
        distinct_settings: refuse a setting of the controls, too, that stands in two splits.
        where: where the items are from, for the message.

    Raises:
        ShardError: naming two items and their splits.
    """
    items = list(items)
    shared = _first_shared((item.sha256, split, item.id) for split, item in items)
    if shared:
        raise ShardError(
            f"{where}: the outputs of {shared} are the same recording: leave one of them out"
        )
    if distinct_settings and not all(item.settings for _, item in items):
        raise ShardError(
            f"{where}: data.distinct_settings is set, but the device has no controls by which "
            "items differ: unset it"
        )
    settings = ((tuple(sorted(i.settings.items())), split, i.id) for split, i in items)
    shared = _first_shared(settings) if distinct_settings else ""
    if shared:
        raise ShardError(
            f"{where}: {shared} have the same setting of the controls: move one of them to the "
            "other's split, or unset data.distinct_settings"
        )


def _first_shared(entries: Iterable[tuple[Hashable, str, str]]) -> str:
    """The first two of different splits that are alike, in words."""
    first: dict[Hashable, tuple[str, str]] = {}
    for what, split, name in entries:
        other_split, other = first.setdefault(what, (split, name))
        if other_split != split:
            return f"'{other}' ({other_split}) and '{name}' ({split})"
    return ""
