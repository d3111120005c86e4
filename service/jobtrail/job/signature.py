"""The signature of a task is the schema of its arguments: checked when a job is submitted and again when it runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from pydantic import TypeAdapter

from jobtrail.job import declaration, storable
from jobtrail.job.errors import FieldError, InvalidArgumentsError
from jobtrail.job.parameter import Parameter
from jobtrail.job.pointer import step
from jobtrail.job.storable import MAX_FLAWS
from jobtrail.job.survival import StrictJsonSchema

MISSING: Final = "this argument is missing"
UNKNOWN: Final = "there is no such argument"


class Signature:
    """The parameters of a task, without the JobContext. `takes_context`: the function wants one before them."""

    def __init__(self, parameters: Sequence[Parameter], *, takes_context: bool) -> None:
        self.parameters: Final = {parameter.name: parameter for parameter in parameters}
        self.takes_context: Final = takes_context

    @classmethod
    def of(cls, function: Callable[..., object]) -> "Signature":
        """Raises DeclarationError, naming function, parameter and fix, when the function cannot be a task."""
        declared = declaration.read(function)
        return cls([Parameter(each) for each in declared.parameters], takes_context=declared.takes_context)

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
        given, flaws = self._named(args, kwargs)
        return self._converted(given, flaws, Parameter.store)

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
                name: schemas[name, "validation"] | _default_of(parameter)
                for name, parameter in self.parameters.items()
            },
            "required": [name for name, parameter in self.parameters.items() if parameter.required],
            "additionalProperties": False,
            **shared,
        }

    def _converted(
        self, given: Mapping[str, object], flaws: list[FieldError], convert: Callable[[Parameter, object], Any]
    ) -> dict[str, Any]:
        """Raises InvalidArgumentsError with these flaws and all that are found."""
        flaws += self._flaws_of_names(given)
        converted = {}
        for name in [name for name in self.parameters if name in given]:
            try:
                converted[name] = convert(self.parameters[name], given[name])
            except InvalidArgumentsError as error:
                flaws += error.flaws
        if flaws:
            raise InvalidArgumentsError(flaws[:MAX_FLAWS])
        return converted

    def _named(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> tuple[dict[str, object], list[FieldError]]:
        """Every argument by its name, as Python itself would assign them."""
        places = [name for name, parameter in self.parameters.items() if parameter.by_position]
        given = dict(zip(places, args, strict=False))
        flaws = [FieldError(step(name), "given twice: by position and by name") for name in given if name in kwargs]
        if len(args) > len(places):
            flaws.append(
                FieldError("", f"{len(args)} arguments by position, but the task takes {len(places)} that way")
            )
        return {**kwargs, **given}, flaws

    def _flaws_of_names(self, args: Mapping[str, object]) -> list[FieldError]:
        missing = [name for name, parameter in self.parameters.items() if parameter.required and name not in args]
        taken = ", ".join(self.parameters) or "no arguments"
        unknown = [name for name in args if name not in self.parameters]
        return [FieldError(step(name), MISSING) for name in missing] + [
            FieldError(step(name), f"{UNKNOWN}; the task takes {taken}") for name in unknown[:MAX_FLAWS]
        ]


def _default_of(parameter: Parameter) -> dict[str, object]:
    """The default for readers of the schema, if JSON can say it; the function itself fills it in."""
    if parameter.required:
        return {}
    try:
        default = parameter.adapter.dump_python(parameter.default, mode="json", round_trip=True, warnings=False)
    except ValueError:
        return {}
    return {} if storable.check(default) else {"default": default}
