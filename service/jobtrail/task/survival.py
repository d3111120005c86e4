"""Types that survive being stored as JSON and read back, perhaps by another process and weeks later."""

import collections.abc
import io
import json
import typing
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from types import FunctionType
from typing import IO, Annotated, Any, BinaryIO, Final, Literal, TextIO

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import SchemaSerializer, SchemaValidator

from jobtrail.task.context import JobContext

Node = Mapping[str, Any]
"""A part of pydantic's schema of a type."""

WEB: Final = frozenset({"fastapi", "starlette"})


class UnfitTypeError(ValueError):
    """A type that does not survive; the text names the fix."""


class StrictJsonSchema(GenerateJsonSchema):
    """Raises PydanticInvalidForJsonSchema for one member of a union too, where pydantic only warns."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        if kind == "skipped-choice":
            raise PydanticInvalidForJsonSchema(detail)


def adapter_of(hint: Any) -> TypeAdapter[Any]:
    """The reader and writer of the type. Raises UnfitTypeError when it does not survive JSON."""
    try:
        for part in _parts_of_hint(hint):
            _refuse(part)
        adapter = TypeAdapter[Any](hint)
        adapter.rebuild(raise_errors=True)
        _refuse_inner(adapter.core_schema)
        adapter.json_schema(schema_generator=StrictJsonSchema)
    except UnfitTypeError:
        raise
    except Exception as error:
        # Only its first sentence: the next one advises to allow arbitrary types, which does not help here.
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise UnfitTypeError(
            f"the type does not survive JSON ({reason}): use what JSON has, or dates, UUIDs, enums, dataclasses, models"
        ) from error
    return adapter


def makes_values(schema: Node) -> bool:
    """True if reading the same JSON again may give another value, by a default_factory or a function of the user's."""
    return any(
        "default_factory" in node or node.get("post_init") or node.get("custom_init") or _has_function(node)
        for node, _ in _nodes(schema)
    )


def are_same(left: object, right: object) -> bool:
    """Equal, but for the zones of datetimes: one comes back with an offset, and in the hour that its zone repeats or
    leaves out it is equal to none of another zone (PEP 495).
    """
    try:
        if left == right:
            return True
    except Exception:  # noqa: BLE001 - the type's own __eq__ may raise anything
        return False
    if isinstance(left, datetime) and isinstance(right, datetime):
        return _instant(left) == _instant(right)
    if type(left) is not type(right):
        return False
    parts, others = _parts_of_value(left), _parts_of_value(right)
    if parts is None or others is None:
        # A class without __eq__ says nothing about sameness.
        return type(left).__eq__ is object.__eq__
    return len(parts) == len(others) and all(map(are_same, parts, others))


def _parts_of_value(value: Any) -> Sequence[object] | None:
    """The parts of a container, a model or a dataclass, in an order that two equal ones share."""
    match value:
        case dict():
            return [*value.keys(), *value.values()]
        case list() | tuple() | deque():
            return list(value)
        case set() | frozenset() if all(isinstance(each, datetime) and each.tzinfo for each in value):
            return sorted(map(_instant, value))
        case BaseModel():
            return [vars(value), value.__pydantic_extra__, value.__pydantic_private__]
        case _ if is_dataclass(value):
            return [getattr(value, field.name, None) for field in fields(value)]
        case _:
            return None


def _instant(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC)


def _parts_of_hint(hint: Any) -> Iterator[object]:
    """The classes that an annotation is made of, and the metadata of its Annotated parts."""
    origin = typing.get_origin(hint)
    yield hint if origin is None else origin
    if origin is Annotated:
        yield from hint.__metadata__
        yield from _parts_of_hint(hint.__origin__)
    elif origin is not Literal:
        for inner in typing.get_args(hint):
            yield from _parts_of_hint(inner)


_NOT_JSON: Final = {
    "ordered-dict": "the order of keys is not kept: take dict[…], or list[tuple[KEY, VALUE]] where the order counts",
    "callable": "a function is not JSON: pass the name of what to do, or make it a task of its own",
    "generator": "what can be read only once cannot be stored: write list[…]",
    "is-subclass": "a class is not JSON: pass its name, for example as a Literal",
}
"""By the kind of the schema."""

_FILE: Final = "{} is an open file, which stays in its process: pass the path"
_ONCE: Final = [
    getattr(collections.abc, f"{prefix}{name}")
    for prefix in ("", "Async")
    for name in ("Iterable", "Iterator", "Generator")
]

_CLASSES: Final[Mapping[object, str]] = {
    JobContext: "the node hands the JobContext over: make it the first parameter, annotated JobContext alone",
    BaseModel: "BaseModel itself has no fields, so all of them would be lost: name the models",
    FunctionType: _NOT_JSON["callable"],
    **dict.fromkeys(_ONCE, _NOT_JSON["generator"]),
    **dict.fromkeys((IO, TextIO, BinaryIO), _FILE),
}
"""Reasons against a class itself."""

_BASES: Final = {
    Secret | SecretStr | SecretBytes: "{} is masked in JSON and would be lost: pass a reference, and read the secret "
    "inside the task",
    io.IOBase: _FILE,
    OrderedDict: _NOT_JSON["ordered-dict"],
}
"""Reasons against a class and its subclasses."""


def _refuse(part: object) -> None:
    reason = _reason_against_class(part) if isinstance(part, type) else _reason_against_metadata(part)
    if reason:
        raise UnfitTypeError(reason)


def _reason_against_class(part: type) -> str | None:
    reason = _CLASSES.get(part) or next((reason for base, reason in _BASES.items() if issubclass(part, base)), None)
    if any(base.__module__.partition(".")[0] in WEB for base in part.__mro__):
        reason = "{} ends with its request: pass what the task needs from it"
    elif hasattr(part, "__mapper__"):
        reason = "{} is a row of a database session: pass its key, and load the row inside the task"
    return reason and reason.format(part.__name__)


def _reason_against_metadata(part: object) -> str | None:
    if type(part).__module__.partition(".")[0] in WEB:
        return f"{type(part).__name__}(…) needs a request, and a task has none: use pydantic's Field, or pass the value"
    if isinstance(part, FieldInfo):
        if part.alias or part.validation_alias or part.serialization_alias:
            return "an argument has the name of its parameter: remove the alias"
        if part.default_factory is not None:
            return (
                "a parameter has no default_factory: give the value when you submit the job, or put it into a field "
                "of a model, where it is made once for each job"
            )
        if not part.is_required():
            return "a default belongs to the function, where Python sees it: write it with ="
    return None


_CONVERTING: Final = frozenset({"function-before", "function-wrap", "function-plain", "chain"})
"""A schema below them reads their result, which may be anything, and not the JSON itself."""

_ELSEWHERE: Final = frozenset({"metadata", "default", "serialization", "computed_fields"})
"""Keys that hold no schema for reading: the user's own objects, and schemas for writing."""


def _nodes(schema: Node) -> Iterator[tuple[Node, bool]]:
    """Each part of the schema, also of fields of models, with True if it reads the JSON as it is stored."""
    known = _definitions_of(schema)
    todo: list[tuple[object, bool]] = [(schema, True)]
    seen: set[tuple[str, bool]] = set()
    while todo:
        node, meets = todo.pop()
        if isinstance(node, list | tuple):
            todo.extend((inner, meets) for inner in node)
        elif isinstance(node, dict):
            kind = _kind(node)
            meets = meets and kind not in _CONVERTING
            yield node, meets
            if kind == "definition-ref" and (use := (node["schema_ref"], meets)) not in seen:
                seen.add(use)
                todo.append((known.get(node["schema_ref"]), meets))
            todo.extend(
                (inner, meets and key != "python_schema")
                for key, inner in node.items()
                if not (kind and key in _ELSEWHERE) and (kind, key) != ("definitions", "definitions")
            )


def _definitions_of(schema: Node) -> dict[str, Node]:
    return {node["ref"]: node for node in schema.get("definitions", ())}


def _kind(node: Node) -> str:
    """The kind of a schema; empty for other parts, such as the fields of a model by their names."""
    kind = node.get("type")
    return kind if isinstance(kind, str) else ""


def _has_function(node: Node) -> bool:
    function = node["function"].get("function") if isinstance(node.get("function"), Mapping) else None
    return callable(function) and not str(getattr(function, "__module__", "")).startswith("pydantic")


def _refuse_inner(schema: Node) -> None:
    known = _definitions_of(schema)
    nodes = list(_nodes(schema))
    for node, _ in nodes:
        if reason := _NOT_JSON.get(_kind(node)):
            raise UnfitTypeError(reason)
        _refuse(node.get("cls"))
        function = node.get("function")
        _refuse(getattr(function, "__self__", function))
    for node, meets in nodes:
        if meets and (reason := _unreachable(node, known)):
            raise UnfitTypeError(reason)


_NO_KEYS: Final = frozenset(
    {"tuple", "list", "set", "frozenset", "dict", "model", "dataclass", "typed-dict", "call", "none"}
)


def _unreachable(node: Node, known: Mapping[str, Node]) -> str | None:
    """A value that is declared and that no JSON is read as, with the fix."""
    for value in _values(node):
        if not _comes_back(node, value):
            return (
                f"{value!r} is one of its values, and no JSON is read as it: use texts, numbers, true, false or null, "
                "as in an Enum of texts or Literal['red']"
            )
    if _kind(node) != "dict" or "keys_schema" not in node:
        return None
    keys = node["keys_schema"]
    while _kind(keys) in {"nullable", "default", "function-after", "definition-ref"}:
        keys = known.get(keys["schema_ref"], {}) if "schema_ref" in keys else keys["schema"]
    lost = [f"a {getattr(keys.get('cls'), '__name__', _kind(keys))}"]
    if _kind(keys) not in _NO_KEYS or keys.get("root_model"):
        as_keys = {"type": "dict", "keys_schema": keys}
        lost = [repr(value) for value in _values(keys) if not _comes_back(as_keys, {value: None})]
    if not lost:
        return None
    return (
        f"the keys of an object in JSON are texts, and {lost[0]} is read from none: "
        "take list[tuple[KEY, VALUE]] instead"
    )


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
    """As an argument is written and read."""
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


def sets_in_order(value: Any, written: Any) -> Any:
    """The JSON of a value with its sets in one order: equal arguments are the same JSON in every process."""
    match value, written:
        case set() | frozenset(), list() if len(value) == len(written):
            return sorted(map(sets_in_order, value, written), key=_sort_key)
        case ((list() | tuple() | deque()), list()) if len(value) == len(written):
            return list(map(sets_in_order, value, written))
        case Mapping(), dict() if len(value) == len(written):
            return dict(zip(written, map(sets_in_order, value.values(), written.values()), strict=True))
        case _, dict():  # a model or a dataclass
            return {name: sets_in_order(getattr(value, name, None), part) for name, part in written.items()}
        case _:
            return written


def _sort_key(written: object) -> str:
    return json.dumps(written, sort_keys=True)
