"""Which types survive being stored as JSON and read back, perhaps by another process and weeks later."""

import collections.abc
import io
import typing
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import IO, Annotated, Any, BinaryIO, Final, Literal, TextIO

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from jobtrail.job.context import JobContext
from jobtrail.job.reachable import unreachable

_WEB: Final = frozenset({"fastapi", "starlette"})
_ONCE: Final[frozenset[object]] = frozenset(
    getattr(collections.abc, f"{prefix}{name}")
    for prefix in ("", "Async")
    for name in ("Iterable", "Iterator", "Generator")
)
_FUNCTIONS: Final[frozenset[object]] = frozenset({Callable, FunctionType})
_FILES: Final[frozenset[object]] = frozenset({IO, TextIO, BinaryIO})
_KINDS: Final = {
    "ordered-dict": "the order of keys is not kept: take dict[…], or list[tuple[KEY, VALUE]] where the order counts",
    "callable": "a function is not JSON: pass the name of what to do, or make it a task of its own",
    "generator": "what can be read only once cannot be stored: write list[…]",
    "is-subclass": "a class is not JSON: pass its name, for example as a Literal",
}


class UnfitTypeError(ValueError):
    """A type that does not survive; the text names the fix."""


class StrictJsonSchema(GenerateJsonSchema):
    """Raises PydanticInvalidForJsonSchema for one member of a union too, where pydantic only warns."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        if kind == "skipped-choice":
            raise PydanticInvalidForJsonSchema(detail)


def adapter_of(hint: Any) -> TypeAdapter[Any]:
    """The reader and writer of the type. Raises UnfitTypeError when it does not survive JSON."""
    for part in _parts_of_hint(hint):
        _refuse(part)
    try:
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


def _refuse_inner(schema: Any) -> None:
    """What hides in fields of models and dataclasses, found in pydantic's schema of the whole type."""
    todo = [schema]
    while todo:
        node = todo.pop()
        if isinstance(node, list | tuple):
            todo.extend(node)
        elif isinstance(node, dict):
            kind = node.get("type")
            if isinstance(kind, str) and kind in _KINDS:
                raise UnfitTypeError(_KINDS[kind])
            _refuse(node.get("cls"))
            function = node.get("function")
            _refuse(getattr(function, "__self__", function))
            # Metadata and defaults are the user's own objects and say nothing of the type.
            todo.extend(inner for key, inner in node.items() if key not in {"metadata", "default", "serialization"})
    if reason := unreachable(schema):
        raise UnfitTypeError(reason)


def _refuse(part: object) -> None:
    reason = _reason_against_class(part) if isinstance(part, type) else _reason_against_metadata(part)
    if reason:
        raise UnfitTypeError(reason)


def _reason_against_class(part: type) -> str | None:
    return next((reason.format(part.__name__) for applies, reason in _CLASSES if applies(part)), None)


def _is_of_the_web(part: type) -> bool:
    return any(base.__module__.partition(".")[0] in _WEB for base in part.__mro__)


_CLASSES: Final[tuple[tuple[Callable[[type], bool], str], ...]] = (
    (
        lambda part: issubclass(part, Secret | SecretStr | SecretBytes),
        "{} is masked in JSON and would be lost: pass a reference, and read the secret inside the task",
    ),
    (
        lambda part: part is JobContext,
        "the node hands the JobContext over: make it the first parameter, annotated JobContext alone",
    ),
    (_is_of_the_web, "{} ends with its request: pass what the task needs from it"),
    (
        lambda part: hasattr(part, "__mapper__"),
        "{} is a row of a database session: pass its key, and load the row inside the task",
    ),
    (
        lambda part: part in _FILES or issubclass(part, io.IOBase),
        "{} is an open file, which stays in its process: pass the path",
    ),
    (lambda part: issubclass(part, OrderedDict), _KINDS["ordered-dict"]),
    (lambda part: part is BaseModel, "BaseModel itself has no fields, so all of them would be lost: name the models"),
    (lambda part: part in _ONCE, _KINDS["generator"]),
    (lambda part: part in _FUNCTIONS, _KINDS["callable"]),
)


def _reason_against_metadata(part: object) -> str | None:
    if type(part).__module__.partition(".")[0] in _WEB:
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
