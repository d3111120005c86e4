"""Values of a type that no JSON is read as, and values that reading makes anew: found in pydantic's schema of it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final

from pydantic_core import SchemaSerializer, SchemaValidator

Node = Mapping[str, Any]

_CONVERTING: Final = frozenset({"function-before", "function-wrap", "function-plain", "chain"})
"""What is below them meets what they make of the JSON, which may be anything."""

_TRANSPARENT: Final = frozenset({"nullable", "default", "function-after"})
_NO_KEYS: Final = frozenset(
    {"tuple", "list", "set", "frozenset", "dict", "model", "dataclass", "typed-dict", "call", "none"}
)

# What is no schema of what is read: the user's own objects, and what is only written.
_ELSEWHERE: Final = frozenset({"metadata", "default", "serialization", "python_schema", "computed_fields"})

_FIX: Final = (
    "{!r} is one of its values, and no JSON is read as it: use texts, numbers, true, false or null, as in an Enum of "
    "texts or Literal['red']"
)
_FIX_OF_KEYS: Final = (
    "the keys of an object in JSON are texts, and {} is read from none: take list[tuple[KEY, VALUE]] instead"
)


def unreachable(schema: Node) -> str | None:
    """The first value that is declared and that no JSON is read as, with the fix; None: there is none."""
    known = {node["ref"]: node for node in _all(schema) if isinstance(node.get("ref"), str)}
    return next((reason for node in _met(schema, known) if (reason := _reason(node, known))), None)


def makes_values(schema: Node) -> bool:
    """Whether reading the same JSON again may give another value: by a default_factory, or a function of the user's."""
    return any(
        "default_factory" in node or node.get("post_init") or node.get("custom_init") or _has_function(node)
        for node in _all(schema)
    )


def _has_function(node: Node) -> bool:
    function = node["function"].get("function") if isinstance(node.get("function"), Mapping) else None
    return callable(function) and not str(getattr(function, "__module__", "")).startswith("pydantic")


def _all(schema: object) -> Iterator[Node]:
    todo = [schema]
    while todo:
        node = todo.pop()
        if isinstance(node, list | tuple):
            todo.extend(node)
        elif isinstance(node, dict):
            yield node
            todo.extend(_inner(node))


def _met(schema: object, known: Mapping[str, Node]) -> Iterator[Node]:
    """The schemas that meet the JSON itself. Definitions are looked up where they are used."""
    todo, seen = [schema], set()
    while todo:
        node = todo.pop()
        if isinstance(node, list | tuple):
            todo.extend(node)
        elif isinstance(node, dict) and _kind(node) not in _CONVERTING:
            yield node
            todo.extend([node["schema"]] if _kind(node) == "definitions" else _inner(node))
            ref = node.get("schema_ref")
            if isinstance(ref, str) and ref not in seen:
                seen.add(ref)
                todo.append(known.get(ref))


def _inner(node: Node) -> Iterator[object]:
    return (inner for key, inner in node.items() if not (_kind(node) and key in _ELSEWHERE))


def _reason(node: Node, known: Mapping[str, Node]) -> str | None:
    if lost := _lost(node, _values(node)):
        return _FIX.format(lost[0])
    keys = _unwrapped(node["keys_schema"], known) if _kind(node) == "dict" and "keys_schema" in node else {}
    if _kind(keys) in _NO_KEYS and not keys.get("root_model"):
        return _FIX_OF_KEYS.format(f"a {_name(keys)}")
    if lost := _lost({"type": "dict", "keys_schema": keys}, [{each: None} for each in _values(keys)]):
        return _FIX_OF_KEYS.format(repr(next(iter(lost[0]))))
    return None


def _lost(node: Node, values: Iterable[Any]) -> list[Any]:
    return [each for each in values if not _comes_back(node, each)]


def _kind(node: Node) -> str:
    """Empty for what is no schema: the fields of a model by their names, say."""
    kind = node.get("type")
    return kind if isinstance(kind, str) else ""


def _values(node: Node) -> Iterable[Any]:
    """All of them, if they can be counted. An Enum with a _missing_ of its own may read anything."""
    match _kind(node):
        case "literal":
            return node["expected"]  # type: ignore[no-any-return]
        case "enum" if node["cls"]._missing_.__func__ is Enum._missing_.__func__:  # type: ignore[attr-defined]
            return node["members"]  # type: ignore[no-any-return]
        case _:
            return ()


def _comes_back(node: Any, value: object) -> bool:
    """As Parameter reads and writes it."""
    try:
        plain = SchemaSerializer(node).to_python(value, mode="json")
        validator = SchemaValidator(node)
        try:
            back = validator.validate_python(plain)
        except ValueError:
            back = validator.validate_json(json.dumps(plain))
        return bool(back == value)
    except Exception:  # noqa: BLE001 - the user's own classes may raise anything, which is an answer too
        return False


def _unwrapped(node: Node, known: Mapping[str, Node]) -> Node:
    while _kind(node) in _TRANSPARENT or "schema_ref" in node:
        node = known.get(node.get("schema_ref", ""), {}) if "schema_ref" in node else node["schema"]
    return node


def _name(node: Node) -> str:
    return getattr(node.get("cls"), "__name__", str(node["type"]))
