"""Trees of settings: plain dicts checked against nested dataclasses, strictly, in one sentence.

A dataclass is the only description of a tree: its fields are the keys, their types what may stand
there, their defaults what stands there otherwise. No value is bent to fit (`"16"` is no number,
`true` is no 1). This file knows nothing of training, of files, or of the command line.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sptmod_dist.errors import UserError
from sptmod_dist.names import advice

Tree = TypeVar("Tree")

KIND = "kind"
"""Where a field may hold one of several dataclasses, the key whose value says which; without it
the first is meant."""

_PLAIN: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
}


class SettingsError(UserError):
    """A setting that is unknown or of the wrong type, with its file and its dotted key."""


def to_plain(value: Any) -> Any:
    """Dataclasses to dicts and tuples to lists, all the way down."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in fields(value)}
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`; where both hold a mapping, those are merged too."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def dotted_keys(cls: type, prefix: str = "") -> Iterator[str]:
    """Every key of a tree, inner ones (`model.spn`) and leaves (`model.spn.channels`)."""
    for name, hint in get_type_hints(cls).items():
        yield prefix + name
        inner = (key for found in _dataclasses_in(hint) for key in dotted_keys(found))
        yield from (f"{prefix}{name}.{key}" for key in dict.fromkeys(inner))


def check(cls: type, data: Any, where: str, prefix: str = "", root: type | None = None) -> Any:
    """A plain mapping with every key known and every value converted to its field's type.

    Keys may be missing: a layer of settings holds only what it changes.

    Args:
        cls: The dataclass whose fields the keys are.
        data: What was read.
        where: The file's name, for the messages.
        prefix: The dotted key of `data` itself, with a last dot.
        root: The whole tree's dataclass, where `cls` is a part of it.

    Raises:
        SettingsError: an unknown key or a wrong type; the sentence names file, key and remedy.
    """
    root = root or cls
    if not isinstance(data, Mapping):
        raise _wrong_type(prefix.rstrip(".") or "the file", data, "keys with values", where)
    hints = get_type_hints(cls)
    metadata = {item.name: item.metadata for item in fields(cls)}
    checked = {}
    for name, value in data.items():
        key = f"{prefix}{name}"
        if name not in hints:
            raise _unknown_key(key, where, dotted_keys(root))
        inner = _chosen(hints[name], value, key, where)
        if inner is not None and not (value is None and _optional(hints[name])):
            checked[name] = check(inner, value, where, f"{key}.", root)
        else:
            checked[name] = check_leaf(hints[name], value, key, where, metadata[name].get("hint"))
    return checked


def check_leaf(hint: Any, value: Any, key: str, where: str, advice: str | None = None) -> Any:
    """One value as its type wants it (whole numbers become floats, lists tuples), or refuse it."""
    try:
        return _convert(hint, value)
    except ValueError:
        raise _wrong_type(key, value, expected(hint), where, advice) from None


def build(cls: type[Tree], data: Mapping[str, Any]) -> Tree:
    """The dataclass from checked data; missing keys take their defaults."""
    hints = get_type_hints(cls)
    values = dict(data)
    for name, value in data.items():
        inner = _chosen(hints[name], value, name, "settings")
        if inner is not None and value is not None:
            values[name] = build(inner, value)
    return cls(**values)


def expected(hint: Any) -> str:
    """A type in words."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    options = get_args(hint)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, options))
    if get_origin(hint) is tuple:
        example = "[8, 8]" if options[0] is int else "[a, b]"
        return f"a list such as {example}, each value {expected(options[0])}"
    if _dataclasses_in(hint):
        return "keys with values"
    return " or ".join("null" if o is types.NoneType else expected(o) for o in options)


def field_type(cls: type, key: str) -> Any:
    """The type that stands behind a dotted key, or None for an unknown one."""
    hint: Any = cls
    for name in key.split("."):
        hints = (get_type_hints(inner).get(name) for inner in _dataclasses_in(hint))
        hint = next(filter(None, hints), None)
    return hint


def _unknown_key(key: str, where: str, keys: Iterable[str]) -> SettingsError:
    remedy = advice(key, keys, "`sptmod-dist train --help` lists all keys")
    return SettingsError(f"{where}: there is no setting {key}: {remedy}")


def _wrong_type(
    key: str, value: Any, wanted: str, where: str, advice: str | None = None
) -> SettingsError:
    tail = f"; {advice}" if advice else ""
    return SettingsError(f"{where}: {key} is {_shown(value)}, but must be {wanted}{tail}")


def _shown(value: Any) -> str:
    """A value as it would stand in YAML, cut where it is long."""
    text = repr(value)
    if value is None or isinstance(value, bool):
        text = "null" if value is None else text.lower()
    return text if len(text) <= 60 else text[:57] + "..."


def _convert(hint: Any, value: Any) -> Any:
    origin, options = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _only_if(isinstance(value, str) and value in options, value)
    if origin is tuple:
        _only_if(isinstance(value, (list, tuple)), value)
        return tuple(_convert(options[0], item) for item in value)
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in options:
            return None
        (inner,) = (option for option in options if option is not types.NoneType)
        return _convert(inner, value)
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(_only_if(number and math.isfinite(value), value))
    return _only_if(type(value) is hint, value)


def _only_if(right: bool, value: Any) -> Any:
    if not right:
        raise ValueError
    return value


def _optional(hint: Any) -> bool:
    return types.NoneType in get_args(hint)


def _dataclasses_in(hint: Any) -> list[type]:
    """What a field may hold, `[SPNConfig]` for `SPNConfig | None`; nothing for a leaf."""
    candidates = (hint, *get_args(hint))
    return [found for found in candidates if isinstance(found, type) and is_dataclass(found)]


def _chosen(hint: Any, value: Any, key: str, where: str) -> type | None:
    """The dataclass that a value is of, None for a leaf; a key of another kind is refused."""
    found = _dataclasses_in(hint)
    if len(found) < 2 or not isinstance(value, Mapping):
        return found[0] if found else None
    kinds = {get_args(get_type_hints(each)[KIND])[0]: each for each in found}
    kind = value.get(KIND, next(iter(kinds)))
    if not isinstance(kind, str) or kind not in kinds:
        raise _wrong_type(f"{key}.{KIND}", kind, "one of " + ", ".join(kinds), where)
    for name in value:
        of = [other for other, each in kinds.items() if name in get_type_hints(each)]
        if of and kind not in of:
            raise SettingsError(
                f"{where}: {key}.{name} is a setting of {key}.{KIND} {of[0]}, but {key}.{KIND} is "
                f"{kind}: leave one of them out"
            )
    return kinds[kind]
