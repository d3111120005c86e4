"""The arguments of a task: its signature is their schema, checked when a job is submitted and again when it runs.

Each parameter has an adapter of its own, not a field of one model: a value is read as Python first and as JSON text
only where that fails, a validator may raise anything, and a refusal of either names the argument.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from types import BuiltinFunctionType, MethodType, SimpleNamespace
from typing import Annotated, Any, Final, NoReturn, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from jobtrail.errors import DeclarationError, FieldError, InvalidArgumentsError
from jobtrail.task import storable
from jobtrail.task.context import JobContext
from jobtrail.task.storable import MAX_FLAWS, step
from jobtrail.task.survival import (
    WEB,
    StrictJsonSchema,
    UnfitTypeError,
    adapter_of,
    are_same,
    makes_values,
    sets_in_order,
)

MISSING: Final = "this argument is missing"
UNKNOWN: Final = "there is no such argument"


class Signature:
    """The parameters of a task, without the JobContext. `takes_context`: the function wants one before them."""

    def __init__(self, function: Callable[..., object]) -> None:
        """Raises DeclarationError, naming function, parameter and fix, when the function cannot be a task."""
        if advice := next((advice for applies, advice in _NO_TASKS if applies(function)), None):
            raise DeclarationError(f"{name_of(function)} cannot be a task: it {advice}")
        self.takes_context = False
        self.parameters: Final[dict[str, Parameter]] = {}
        for place, declared in enumerate(inspect.signature(function).parameters.values()):
            try:
                hint = _resolved(function, declared)
                if place == 0 and _is_context(hint):
                    _refuse_form_of_context(declared)
                    self.takes_context = True
                else:
                    self.parameters[declared.name] = Parameter(declared, hint)
            except UnfitTypeError as error:
                reason = f"task {name_of(function)}, parameter {declared.name!r}: {error}"
                raise DeclarationError(reason) from error

    def check(self, args: Mapping[str, object]) -> None:
        """Raises InvalidArgumentsError with everything that keeps these JSON args from fitting."""
        self.bind(args)

    def settle(self, args: Mapping[str, object]) -> dict[str, Any]:
        """The JSON args with what reading them makes, as by a default_factory: each attempt sees the same. Raises as
        check.
        """
        return self._converted(args, [], Parameter.settle)

    def bind(self, args: Mapping[str, object]) -> dict[str, Any]:
        """The keyword arguments of the call, typed, from stored JSON; what was left out stays out. Raises as check."""
        return self._converted(args, [], Parameter.load)

    def dump(self, /, *args: object, **kwargs: object) -> dict[str, Any]:
        """The JSON args of a call from Python, without the JobContext. `bind` makes the same values of them again.

        Raises InvalidArgumentsError, also for what is no argument of the function and for what is missing.
        """
        places = [name for name, parameter in self.parameters.items() if parameter.by_position]
        given = dict(zip(places, args, strict=False))
        flaws = [FieldError(step(name), "given twice: by position and by name") for name in given if name in kwargs]
        if len(args) > len(places):
            flaws.append(
                FieldError("", f"{len(args)} arguments by position, but the task takes {len(places)} that way")
            )
        return self._converted({**kwargs, **given}, flaws, Parameter.store)

    def json_of(self, args: Mapping[str, object], name: str) -> Any:
        """An argument of these JSON args, or its default, as the task itself would write it: 5 for a lax "5"."""
        parameter = self.parameters[name]
        typed = parameter.load(args[name]) if name in args else parameter.default
        return parameter.adapter.dump_python(typed, mode="json")

    @cached_property
    def json_schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of the args: an object with one property for each parameter."""
        schemas, shared = TypeAdapter.json_schemas(
            [(name, "validation", parameter.adapter) for name, parameter in self.parameters.items()],
            schema_generator=StrictJsonSchema,
        )
        return {
            "$schema": StrictJsonSchema.schema_dialect,
            "type": "object",
            "properties": {
                name: schemas[name, "validation"] | parameter.default_in_schema()
                for name, parameter in self.parameters.items()
            },
            "required": [name for name, parameter in self.parameters.items() if parameter.required],
            "additionalProperties": False,
            **shared,
        }

    def _converted(
        self, given: Mapping[str, object], flaws: list[FieldError], convert: Callable[["Parameter", object], Any]
    ) -> dict[str, Any]:
        """Raises InvalidArgumentsError with these flaws and all that are found."""
        for name, parameter in self.parameters.items():
            if parameter.required and name not in given:
                flaws.append(FieldError(step(name), MISSING))
        if unknown := [name for name in given if name not in self.parameters][:MAX_FLAWS]:
            taken = ", ".join(self.parameters) or "no arguments"
            flaws += [FieldError(step(name), f"{UNKNOWN}; the task takes {taken}") for name in unknown]
        converted = {}
        for name, parameter in self.parameters.items():
            if name in given:
                try:
                    converted[name] = convert(parameter, given[name])
                except InvalidArgumentsError as error:
                    flaws += error.flaws
        if flaws:
            raise InvalidArgumentsError(flaws[:MAX_FLAWS])
        return converted


class Parameter:
    """One parameter: its JSON, its Python value, and the way between them in both directions.

    Pointers of the errors raised here begin with the parameter's own name.
    """

    def __init__(self, declared: inspect.Parameter, hint: Any) -> None:
        """Raises UnfitTypeError when the type does not survive JSON, or the default does not fit the type."""
        self.name: Final = declared.name
        self.default: Final = declared.default
        self.required: Final = declared.default is inspect.Parameter.empty
        self.by_position: Final = declared.kind is not inspect.Parameter.KEYWORD_ONLY
        _refuse_form(declared)
        self.adapter: Final[TypeAdapter[Any]] = adapter_of(hint)
        self._makes_values: Final = makes_values(self.adapter.core_schema)
        if not self.required and not self._fits(self.default):
            kind = "None" if self.default is None else type(self.default).__name__
            raise UnfitTypeError(
                f"the default {storable.shown(self.default)} does not fit the annotation: give a default of that type, "
                f"or widen the annotation (… | {kind})"
            )

    def load(self, value: object) -> Any:
        """The Python value of stored JSON. Raises InvalidArgumentsError with all that is wrong."""
        try:
            try:
                return self.adapter.validate_python(value)
            except ValidationError:
                # As JSON text again: a strict model takes a date from a string only when it comes from JSON.
                return self.adapter.validate_json(storable.dump(value))
        except Exception as error:  # noqa: BLE001 - the type's own validators may raise anything
            self._refuse(error, "cannot be read", value)

    def store(self, value: object) -> Any:
        """The JSON of a Python value, which will be the same value when it is read back.

        Raises InvalidArgumentsError; `Animal` given a `Cat` is one reason, since it would come back as an `Animal`.
        """
        try:
            typed = self.adapter.validate_python(value)
        except Exception as error:  # noqa: BLE001 - the same
            self._refuse(error, "cannot be written as JSON", value)
        return self._written(typed)

    def settle(self, value: object) -> Any:
        """The JSON of what the task would see of this JSON, where reading it makes a part of it: by a default_factory,
        say. So each attempt sees the same. Else the JSON as it is.

        What no JSON shows, as a private attribute, each attempt makes anew. Raises as load, and for what is made, is
        shown and cannot be read back.
        """
        typed = self.load(value)
        if not self._makes_values:
            return value
        try:
            return self._written(typed)
        except InvalidArgumentsError as error:
            if self._dumped(typed) == self._dumped(self.load(value)):
                return value
            detail = (
                f"a part of it is made anew each time it is read, and cannot be stored ({error}); give that part, or "
                "let it be read as it is written: alias= in place of validation_alias="
            )
            raise self._misfit(detail, value) from error

    def default_in_schema(self) -> dict[str, object]:
        """The default for readers of the schema, if JSON can say it; the function itself fills it in."""
        if self.required:
            return {}
        try:
            default = self.adapter.dump_python(self.default, mode="json", round_trip=True, warnings=False)
        except ValueError:
            return {}
        return {} if storable.check(default) else {"default": default}

    def _fits(self, default: object) -> bool:
        try:
            return are_same(self.adapter.validate_python(default), default)
        except Exception:  # noqa: BLE001 - the same
            return False

    def _written(self, typed: object) -> Any:
        try:
            plain = sets_in_order(typed, self._dumped(typed))
        except Exception as error:  # noqa: BLE001 - the type's own serializers may raise anything too
            self._refuse(error, "cannot be written as JSON", typed)
        if flaws := storable.check(plain):
            raise InvalidArgumentsError(flaws).under(step(self.name))
        back = self.load(plain)
        if not are_same(back, typed):
            told = storable.shown(back)
            raise self._misfit(
                f"does not survive JSON: it would come back as {told}; use a type that JSON can tell", plain
            )
        return plain

    def _dumped(self, typed: object) -> Any:
        return self.adapter.dump_python(typed, mode="json", round_trip=True, by_alias=True, warnings="error")

    def _refuse(self, error: Exception, doing: str, value: object) -> NoReturn:
        if not isinstance(error, ValidationError):
            raise self._misfit(f"{doing}: {type(error).__name__}: {error}", value) from error
        if error.error_count() > _MOST_ERRORS:
            flaws = [FieldError(step(self.name), f"{error.error_count()} things in it do not fit: {error.title}")]
        else:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            flaws = [self._flaw(each, value) for each in details[:MAX_FLAWS]]
        raise InvalidArgumentsError(flaws) from None

    def _flaw(self, error: ErrorDetails, value: Any) -> FieldError:
        """Follows pydantic's location through the value; it also names members of unions, which are no part of it."""
        pointer = step(self.name)
        for key in error["loc"]:
            is_name = isinstance(value, dict) and key in value
            if is_name or (isinstance(value, list) and isinstance(key, int) and key < len(value)):
                value = value[key]
                pointer += step(key)
            elif error["type"] == "missing" and key is error["loc"][-1]:
                pointer += step(key)
        names = frozenset() if error["type"] in _OF_PYDANTIC else storable.names_in(value)
        return FieldError(pointer, storable.clip(error["msg"], _LONGEST_DETAIL), names)

    def _misfit(self, detail: str, value: object) -> InvalidArgumentsError:
        detail = storable.clip(detail, _LONGEST_DETAIL)
        return InvalidArgumentsError([FieldError(step(self.name), detail, storable.names_in(value))])


_LONGEST_DETAIL: Final = 1000
_MOST_ERRORS: Final = 10_000
"""Above it the answer has only their number: pydantic writes all or none of them, half a second for 200,000."""

_OF_PYDANTIC: Final = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error"}
"""The kinds of errors whose words are pydantic's own; of all others they are those of a validator."""


def name_of(function: object) -> str:
    """Module and qualified name, or what there is of them."""
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}.{name}" if name else repr(function)


_ON_TOP: Final = "move it to the top level of its module: a node finds a task by importing that module"
_NO_TASKS: Final[tuple[tuple[Callable[[Any], bool], str], ...]] = (
    (lambda it: isinstance(it, type), "is a class; write a function that makes one and uses it"),
    (
        lambda it: isinstance(it, functools.partial),
        "is a partial; write a function and give the fixed arguments as defaults",
    ),
    (lambda it: isinstance(it, MethodType | staticmethod | classmethod), f"is a method; {_ON_TOP}"),
    (lambda it: isinstance(it, BuiltinFunctionType), "is built in; write a function that calls it"),
    (lambda it: not inspect.isfunction(it), "is not a function; write a function that uses it"),
    (lambda it: "<lambda>" in it.__qualname__, "has no name; write it with def"),
    (lambda it: "<locals>" in it.__qualname__, f"is defined inside another function; {_ON_TOP}"),
    (lambda it: "." in it.__qualname__, f"is defined inside a class; {_ON_TOP}"),
    (
        lambda it: inspect.isgeneratorfunction(it) or inspect.isasyncgenfunction(it),
        "yields; collect the values and return a list",
    ),
    (
        lambda it: inspect.iscoroutinefunction(inspect.unwrap(it)) and not inspect.iscoroutinefunction(it),
        "is async behind a decorator that is not; make the decorator's function async def",
    ),
)
"""Functions that cannot be a task, and the fix of each; the first that applies counts."""


def _resolved(function: Callable[..., object], declared: inspect.Parameter) -> Any:
    """The annotation as an object, Any when there is none. Only this one: a task may return what it likes."""
    if declared.annotation is inspect.Parameter.empty:
        return Any
    holder: Any = SimpleNamespace(__annotations__={"hint": declared.annotation})
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=namespace, include_extras=True)["hint"]
    except Exception as error:
        raise UnfitTypeError(
            f"the annotation {declared.annotation!r} cannot be resolved ({error}): define or import it at the top "
            "level of the module, not only under TYPE_CHECKING"
        ) from error


def _is_context(hint: Any) -> bool:
    return (typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint) is JobContext


def _refuse_form_of_context(declared: inspect.Parameter) -> None:
    if declared.default is not inspect.Parameter.empty:
        raise UnfitTypeError("the node always hands the JobContext over: remove its default")
    if declared.kind is inspect.Parameter.KEYWORD_ONLY:
        raise UnfitTypeError("the JobContext is handed over by position: move it before the *")


_KINDS: Final = {
    inspect.Parameter.VAR_POSITIONAL: "arguments are stored by name: take one list instead",
    inspect.Parameter.VAR_KEYWORD: "the signature must name every argument: take one dict instead",
    inspect.Parameter.POSITIONAL_ONLY: "arguments are stored by name: remove the / from the signature",
}


def _refuse_form(declared: inspect.Parameter) -> None:
    if declared.kind in _KINDS:
        raise UnfitTypeError(f"{str(declared).partition(':')[0]}: {_KINDS[declared.kind]}")
    default = type(declared.default)
    if issubclass(default, FieldInfo) or default.__module__.partition(".")[0] in WEB:
        raise UnfitTypeError(
            f"{default.__name__.removesuffix('Info')}(…) is no value that the function can use when it is called: "
            "write Annotated[TYPE, Field(…)] and give a plain default; a task has no request, so Query, Body and "
            "Depends do not apply"
        )
