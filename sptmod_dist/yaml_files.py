"""YAML files, and JSON as YAML's flow style, read strictly as plain values.

What people write by hand is taken as it stands or refused with its line: no key twice, no tags
that name types, no merge keys. `5e-4` is a number, as in YAML 1.2 and JSON, and a date is text. It
must not know what the files mean.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import yaml

from sptmod_dist.errors import UserError

MOST_REPEATED = 100_000
"""Values that a file's aliases may stand for together; a few lines of them can mean billions."""


def read_mapping(path: str | Path) -> dict[str, Any]:
    """A file whose top level is keys with values; an empty file is an empty mapping.

    Raises:
        UserError: missing, unreadable, not UTF-8, malformed, nested too deeply, a key given twice,
            or something else than keys at the top; with the file, and the line where one is known.
    """
    try:
        value = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    except (ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is not valid YAML{_fault(error)}") from error
    if value is not None and not isinstance(value, dict):
        raise UserError(f"{path}: must hold keys with values at its top, such as `name: value`")
    return value or {}


def _fault(error: Exception) -> str:
    """The line of a fault, and what is wrong there."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object[: error.start].count(b"\n") + 1
        return f" in line {line}: it is not UTF-8 text"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        return f" in line {mark.line + 1}: {error.problem}" if mark else f": {error.problem}"
    if isinstance(error, RecursionError):
        return ": it is nested too deeply"
    return ": " + " ".join(str(error).split())


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, made strict where it would guess, and wide enough for all JSON."""

    def __init__(self, text: str) -> None:
        self._repeated = 0
        self._sizes: dict[yaml.Node, int] = {}
        super().__init__(text)

    def scan_to_next_token(self) -> None:
        super().scan_to_next_token()
        while self.flow_level and self.peek() == "\t":  # JSON may be indented with tabs
            self.forward()
            super().scan_to_next_token()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise _refusal(f"the tag {brief(event.tag)} cannot stand here: leave it out", event)
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            self._check_alias(node, event)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[Any] = set()
        for place, _ in node.value:
            if not isinstance(place, yaml.ScalarNode):
                raise _refusal("a key must be one word or text, no list and no mapping", place)
            if place.tag == "tag:yaml.org,2002:merge":
                raise _refusal("the merge key << cannot stand here: write its keys out", place)
            key = self.construct_object(place)
            if key in seen:
                raise _refusal(f"the key {brief(place.value)} stands there twice", place)
            seen.add(key)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:  # such as a number of 5000 digits
            raise _refusal(f"no value can be made of this: {error}", node) from error

    def _check_alias(self, node: Any, event: yaml.AliasEvent) -> None:
        if node.end_mark is None:  # not closed yet
            raise _refusal(f"the alias *{event.anchor} stands inside what it repeats", event)
        self._repeated += self._size(node)
        if self._repeated > MOST_REPEATED:
            raise _refusal(f"the aliases repeat more than {MOST_REPEATED} values", event)

    def _size(self, node: yaml.Node) -> int:
        """The values in a node, with all that its aliases repeat."""
        if isinstance(node, yaml.ScalarNode):
            return 1
        if node not in self._sizes:
            inner = chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
            self._sizes[node] = 1 + sum(map(self._size, inner))
        return self._sizes[node]


def _refusal(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


def _text(_: _Loader, node: yaml.ScalarNode) -> str:
    """JSON writes letters beyond 16 bits as two halves, which PyYAML leaves apart."""
    return node.value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


_TYPES = [f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "merge")]
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _TYPES]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as something else."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )
_Loader.add_constructor("tag:yaml.org,2002:str", _text)


def dump(value: Any, default_flow_style: bool | None = False) -> str:
    """Plain values as YAML that `read_mapping` reads back as they are, keys in their order.

    Args:
        default_flow_style: as PyYAML's; None writes the innermost lists and mappings on one line.
    """
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=default_flow_style,
    )
    return text
