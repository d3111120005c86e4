"""Which functions can be tasks and what they declare, before any type is looked at; each refusal names the fix."""

import functools
import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace, UnionType
from typing import Annotated, Any, Final, Never

from pydantic.fields import FieldInfo

from jobtrail.job.context import JobContext
from jobtrail.job.errors import DeclarationError

REQUIRED: Final = inspect.Parameter.empty
"""The default of a parameter that has none."""

_ON_TOP: Final = "move it to the top level of its module: a node finds a task by importing that module"
_KINDS: Final = {
    inspect.Parameter.VAR_POSITIONAL: "arguments are stored by name: take one list instead",
    inspect.Parameter.VAR_KEYWORD: "the signature must name every argument: take one dict instead",
    inspect.Parameter.POSITIONAL_ONLY: "arguments are stored by name: remove the / from the signature",
}


@dataclass(frozen=True)
class Declared:
    """One parameter as it is written, its annotation resolved; `where` names it in messages."""

    name: str
    hint: Any
    default: object
    by_position: bool
    where: str

    def refuse(self, reason: str) -> Never:
        raise DeclarationError(f"{self.where}: {reason}")


@dataclass(frozen=True)
class Declaration:
    """The parameters without the JobContext."""

    parameters: Sequence[Declared]
    takes_context: bool


def read(function: Callable[..., object]) -> Declaration:
    """What the function declares. Raises DeclarationError when it cannot be a task."""
    if advice := _advice(function):
        raise DeclarationError(f"{name_of(function)} cannot be a task: it {advice}")
    signature = inspect.signature(function)
    parameters = [_declared(function, parameter) for parameter in signature.parameters.values()]
    takes_context = bool(parameters) and _is_context(parameters[0].hint)
    if takes_context:
        context = parameters.pop(0)
        if context.default is not REQUIRED:
            context.refuse("the node always hands the JobContext over: remove its default")
        if not context.by_position:
            context.refuse("the JobContext is handed over by position: move it before the *")
    for declared in parameters:
        _refuse_unnamed(declared, signature.parameters[declared.name])
    return Declaration(parameters, takes_context)


def name_of(function: object) -> str:
    """Module and qualified name, or what there is of them."""
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}.{name}" if name else repr(function)


def _advice(function: object) -> str | None:
    """What is wrong with the function and how to mend it."""
    if inspect.isfunction(function):
        return next((advice for applies, advice in _FUNCTIONS if applies(function)), None)
    return next(advice for kind, advice in _OTHERS if isinstance(function, kind))


def _hides_async(function: FunctionType) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(function)) and not inspect.iscoroutinefunction(function)


_FUNCTIONS: Final[tuple[tuple[Callable[[FunctionType], bool], str], ...]] = (
    (lambda function: "<lambda>" in function.__qualname__, "has no name; write it with def"),
    (lambda function: "<locals>" in function.__qualname__, f"is defined inside another function; {_ON_TOP}"),
    (lambda function: "." in function.__qualname__, f"is defined inside a class; {_ON_TOP}"),
    (inspect.isgeneratorfunction, "yields; collect the values and return a list"),
    (inspect.isasyncgenfunction, "yields; collect the values and return a list"),
    (_hides_async, "is async behind a decorator that is not; make the decorator's function async def"),
)
_OTHERS: Final[tuple[tuple[type | UnionType, str], ...]] = (
    (type, "is a class; write a function that makes one and uses it"),
    (functools.partial, "is a partial; write a function and give the fixed arguments as defaults"),
    (MethodType | staticmethod | classmethod, f"is a method; {_ON_TOP}"),
    (BuiltinFunctionType, "is built in; write a function that calls it"),
    (object, "is not a function; write a function that uses it"),
)


def _declared(function: Callable[..., object], parameter: inspect.Parameter) -> Declared:
    where = f"task {name_of(function)}, parameter {parameter.name!r}"
    return Declared(
        name=parameter.name,
        hint=_resolved(function, parameter, where),
        default=parameter.default,
        by_position=parameter.kind is not inspect.Parameter.KEYWORD_ONLY,
        where=where,
    )


def _resolved(function: Callable[..., object], parameter: inspect.Parameter, where: str) -> Any:
    """The annotation as an object, Any when there is none. Only this one: a return annotation is not our business."""
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    holder: Any = SimpleNamespace(__annotations__={"hint": parameter.annotation})
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=namespace, include_extras=True)["hint"]
    except Exception as error:
        raise DeclarationError(
            f"{where}: the annotation {parameter.annotation!r} cannot be resolved ({error}): define or import it at "
            "the top level of the module, not only under TYPE_CHECKING"
        ) from error


def _is_context(hint: Any) -> bool:
    return (typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint) is JobContext


def _refuse_unnamed(declared: Declared, parameter: inspect.Parameter) -> None:
    if parameter.kind in _KINDS:
        declared.refuse(f"{str(parameter).partition(':')[0]}: {_KINDS[parameter.kind]}")
    default = declared.default
    if isinstance(default, FieldInfo) or type(default).__module__.partition(".")[0] in {"fastapi", "starlette"}:
        name = type(default).__name__.removesuffix("Info")
        declared.refuse(
            f"{name}(…) is no value that the function can use when it is called: write Annotated[TYPE, Field(…)] and "
            "give a plain default; a task has no request, so Query, Body and Depends do not apply"
        )
