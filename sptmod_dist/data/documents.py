"""YAML and JSON files as plain values, read strictly: a key that stands twice is an error, not a
choice.

Used for what people write by hand. It must not know what the documents mean.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import yaml

from sptmod_dist.errors import UserError


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read a document whose top level is a mapping; `.json` is read as JSON, all else as YAML.

    Raises:
        UserError: missing, unreadable, not UTF-8, malformed, a key given twice, or no mapping at
            the top.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"{path} cannot be read ({reason}); give a manifest file in YAML or JSON."
        ) from error
    try:
        value = _parse(text, path.suffix == ".json")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be understood ({' '.join(str(error).split())}); correct it."
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"{path} must hold keys and values at its top level; see the format's description."
        )
    return value


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
            raise UserError(
                f"{where} has the unknown key {brief(key)}; {closest(str(key), known)}."
            )
    for key in required:
        if key not in entry:
            raise UserError(f"{where} lacks the key '{key}'; add it.")
    return entry


def closest(name: str, known: Iterable[str]) -> str:
    """The advice after an unknown name: the closest known one, or all of them."""
    known = list(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if match:
        return f"the closest known one is '{match[0]}'"
    return f"known are {', '.join(known)}" if known else "none is known here, remove it"


def _parse(text: str, is_json: bool) -> Any:
    if is_json:
        return json.loads(text, object_pairs_hook=_unique)
    return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader: it builds plain values only


def _unique(pairs: list[tuple[Any, Any]]) -> Mapping[Any, Any]:
    result: dict[Any, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key {key!r} stands twice")
        result[key] = value
    return result


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which keeps the last of two equal keys, made to refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        nodes = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in nodes]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise ValueError(
                    f"the key {key!r} stands twice, line {nodes[index].start_mark.line + 1}"
                )
        return super().construct_mapping(node, deep)
