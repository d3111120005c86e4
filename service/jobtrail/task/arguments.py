"""The arguments of a task: its signature is their schema, checked when a job is submitted and again when it runs.

Each parameter has an adapter of its own, not a field of one model: a value is read as Python first and as JSON text
only where that fails, a validator may raise anything, and a refusal of either names the argument.
"""

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace, UnionType
from typing import Annotated, Any, Final, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from jobtrail.errors import DeclarationError, FieldError, InvalidArgumentsError
from jobtrail.task import storable
from jobtrail.task.context import JobContext
from jobtrail.task.storable import MAX_FLAWS, clip, names_in, shown, step
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
        if advice := _advice(function):
            raise DeclarationError(f"{name_of(function)} cannot be a task: it {advice}")
        declared = [(each, _resolved(function, each)) for each in inspect.signature(function).parameters.values()]
        self.takes_context: Final = bool(declared) and _is_context(declared[0][1])
        if self.takes_context:
            context, _ = declared.pop(0)
            if context.default is not inspect.Parameter.empty:
                raise _refusal(function, context, "the node always hands the JobContext over: remove its default")
            if context.kind is inspect.Parameter.KEYWORD_ONLY:
                raise _refusal(function, context, "the JobContext is handed over by position: move it before the *")
        self.parameters: Final = {each.name: Parameter(function, each, hint) for each, hint in declared}

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
        taken = ", ".join(self.parameters) or "no arguments"
        unknown = (name for name in given if name not in self.parameters)
        flaws += [FieldError(step(name), f"{UNKNOWN}; the task takes {taken}") for name in islice(unknown, MAX_FLAWS)]
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

    def __init__(self, function: Callable[..., object], parameter: inspect.Parameter, hint: Any) -> None:
        """Raises DeclarationError when the type does not survive JSON, or the default does not fit the type."""
        self.name: Final = parameter.name
        self.default: Final = parameter.default
        self.required: Final = parameter.default is inspect.Parameter.empty
        self.by_position: Final = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        if reason := _reason_against(parameter):
            raise _refusal(function, parameter, reason)
        try:
            self.adapter: Final[TypeAdapter[Any]] = adapter_of(hint)
        except UnfitTypeError as error:
            raise _refusal(function, parameter, str(error)) from error
        self._makes_values: Final = makes_values(self.adapter.core_schema)
        if not self.required and not self._fits(self.default):
            kind = "None" if self.default is None else type(self.default).__name__
            raise _refusal(
                function,
                parameter,
                f"the default {shown(self.default)} does not fit the annotation: give a default of that type, or "
                f"widen the annotation (… | {kind})",
            )

    def load(self, value: object) -> Any:
        """The Python value of stored JSON. Raises InvalidArgumentsError with all that is wrong."""
        try:
            try:
                return self.adapter.validate_python(value)
            except ValidationError:
                # As JSON text again: a strict model takes a date from a string only when it comes from JSON.
                return self.adapter.validate_json(storable.dump(value))
        except ValidationError as error:
            raise InvalidArgumentsError(self._flaws(error, value)) from None
        except Exception as error:
            raise self._misfit(f"cannot be read: {type(error).__name__}: {error}", value) from error

    def store(self, value: object) -> Any:
        """The JSON of a Python value, which will be the same value when it is read back.

        Raises InvalidArgumentsError; `Animal` given a `Cat` is one reason, since it would come back as an `Animal`.
        """
        try:
            typed = self.adapter.validate_python(value)
        except ValidationError as error:
            raise InvalidArgumentsError(self._flaws(error, value)) from None
        except Exception as error:
            raise self._misfit(f"cannot be written as JSON: {error}", value) from error
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
        except Exception:  # noqa: BLE001 - the type's own validators may raise anything, which is an answer too
            return False

    def _written(self, typed: object) -> Any:
        try:
            plain = sets_in_order(typed, self._dumped(typed))
        except Exception as error:
            raise self._misfit(f"cannot be written as JSON: {error}", typed) from error
        if flaws := storable.check(plain):
            raise InvalidArgumentsError(flaws).under(step(self.name))
        back = self.load(plain)
        if not are_same(back, typed):
            detail = f"does not survive JSON: it would come back as {shown(back)}; use a type that JSON can tell"
            raise self._misfit(detail, plain)
        return plain

    def _dumped(self, typed: object) -> Any:
        return self.adapter.dump_python(typed, mode="json", round_trip=True, by_alias=True, warnings="error")

    def _flaws(self, error: ValidationError, value: object) -> list[FieldError]:
        if error.error_count() > _MOST_ERRORS:
            return [FieldError(step(self.name), f"{error.error_count()} things in it do not fit: {error.title}")]
        details = error.errors(include_url=False, include_context=False, include_input=False)
        return [self._flaw(each, value) for each in islice(details, MAX_FLAWS)]

    def _flaw(self, error: ErrorDetails, value: object) -> FieldError:
        steps = list(_steps(error["loc"], value, error["type"]))
        names: frozenset[str] = frozenset()
        if error["type"] not in _OF_PYDANTIC:
            names = names_in(functools.reduce(lambda at, key: at[key], steps, value))  # type: ignore[index]
        return FieldError(step(self.name) + "".join(map(step, steps)), clip(error["msg"], _LONGEST_DETAIL), names)

    def _misfit(self, detail: str, value: object) -> InvalidArgumentsError:
        return InvalidArgumentsError([FieldError(step(self.name), clip(detail, _LONGEST_DETAIL), names_in(value))])


_LONGEST_DETAIL: Final = 1000
_MOST_ERRORS: Final = 10_000
"""Above it the answer has only their number: pydantic writes all or none of them, half a second for 200,000."""

_OF_PYDANTIC: Final = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error"}
"""The kinds of errors whose words are pydantic's own; of all others they are those of a validator."""


def _steps(location: tuple[int | str, ...], value: Any, kind: str) -> Iterator[int | str]:
    """The part of pydantic's location that is a way through the value: it also names members of unions."""
    for key in location:
        is_name = isinstance(value, dict) and key in value
        is_index = isinstance(value, list) and isinstance(key, int) and key < len(value)
        if is_name or is_index:
            value = value[key]
            yield key
        elif kind == "missing" and key is location[-1]:
            yield key


def name_of(function: object) -> str:
    """Module and qualified name, or what there is of them."""
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}.{name}" if name else repr(function)


def _advice(function: object) -> str | None:
    """Why the function cannot be a task, and how to mend it."""
    if inspect.isfunction(function):
        return next((advice for applies, advice in _FUNCTIONS if applies(function)), None)
    return next(advice for kind, advice in _OTHERS if isinstance(function, kind))


_ON_TOP: Final = "move it to the top level of its module: a node finds a task by importing that module"
_FUNCTIONS: Final[tuple[tuple[Callable[[FunctionType], bool], str], ...]] = (
    (lambda function: "<lambda>" in function.__qualname__, "has no name; write it with def"),
    (lambda function: "<locals>" in function.__qualname__, f"is defined inside another function; {_ON_TOP}"),
    (lambda function: "." in function.__qualname__, f"is defined inside a class; {_ON_TOP}"),
    (inspect.isgeneratorfunction, "yields; collect the values and return a list"),
    (inspect.isasyncgenfunction, "yields; collect the values and return a list"),
    (
        lambda function: (
            inspect.iscoroutinefunction(inspect.unwrap(function)) and not inspect.iscoroutinefunction(function)
        ),
        "is async behind a decorator that is not; make the decorator's function async def",
    ),
)
_OTHERS: Final[tuple[tuple[type | UnionType, str], ...]] = (
    (type, "is a class; write a function that makes one and uses it"),
    (functools.partial, "is a partial; write a function and give the fixed arguments as defaults"),
    (MethodType | staticmethod | classmethod, f"is a method; {_ON_TOP}"),
    (BuiltinFunctionType, "is built in; write a function that calls it"),
    (object, "is not a function; write a function that uses it"),
)


def _refusal(function: object, parameter: inspect.Parameter, reason: str) -> DeclarationError:
    return DeclarationError(f"task {name_of(function)}, parameter {parameter.name!r}: {reason}")


def _resolved(function: Callable[..., object], parameter: inspect.Parameter) -> Any:
    """The annotation as an object, Any when there is none. Only this one: a return annotation is not our business."""
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    holder: Any = SimpleNamespace(__annotations__={"hint": parameter.annotation})
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=namespace, include_extras=True)["hint"]
    except Exception as error:
        reason = (
            f"the annotation {parameter.annotation!r} cannot be resolved ({error}): define or import it at the top "
            "level of the module, not only under TYPE_CHECKING"
        )
        raise _refusal(function, parameter, reason) from error


def _is_context(hint: Any) -> bool:
    return (typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint) is JobContext


_KINDS: Final = {
    inspect.Parameter.VAR_POSITIONAL: "arguments are stored by name: take one list instead",
    inspect.Parameter.VAR_KEYWORD: "the signature must name every argument: take one dict instead",
    inspect.Parameter.POSITIONAL_ONLY: "arguments are stored by name: remove the / from the signature",
}


def _reason_against(parameter: inspect.Parameter) -> str | None:
    """Before its type is looked at."""
    if parameter.kind in _KINDS:
        return f"{str(parameter).partition(':')[0]}: {_KINDS[parameter.kind]}"
    default = type(parameter.default)
    if not issubclass(default, FieldInfo) and default.__module__.partition(".")[0] not in WEB:
        return None
    return (
        f"{default.__name__.removesuffix('Info')}(…) is no value that the function can use when it is called: write "
        "Annotated[TYPE, Field(…)] and give a plain default; a task has no request, so Query, Body and Depends do not "
        "apply"
    )
