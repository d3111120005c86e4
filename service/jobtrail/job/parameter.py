"""One parameter of a task: its JSON, its Python value, and the way between them in both directions."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from jobtrail.job import storable
from jobtrail.job.declaration import REQUIRED, Declared
from jobtrail.job.errors import FieldError, InvalidArgumentsError
from jobtrail.job.pointer import step
from jobtrail.job.reachable import makes_values
from jobtrail.job.sameness import are_same
from jobtrail.job.storable import MAX_FLAWS, clip, names_in, shown
from jobtrail.job.survival import UnfitTypeError, adapter_of

_LONGEST_DETAIL: Final = 1000
_MOST_ERRORS: Final = 10_000
"""Above it only their number is told: pydantic writes all or none of them, half a second for 200,000."""

_OF_PYDANTIC: Final = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error"}
"""The kinds of errors whose words are pydantic's own; of all others they are those of a validator."""


class Parameter:
    """Pointers of the errors raised here begin with the parameter's own name."""

    def __init__(self, declared: Declared) -> None:
        """Raises DeclarationError when the type does not survive JSON, or the default does not fit the type."""
        self.name: Final = declared.name
        self.required: Final = declared.default is REQUIRED
        self.by_position: Final = declared.by_position
        self.default: Final = declared.default
        try:
            self.adapter: Final[TypeAdapter[Any]] = adapter_of(declared.hint)
        except UnfitTypeError as error:
            declared.refuse(str(error))
        self._makes_values: Final = makes_values(self.adapter.core_schema)
        if not self.required and not self._fits(declared.default):
            kind = "None" if declared.default is None else type(declared.default).__name__
            declared.refuse(
                f"the default {shown(declared.default)} does not fit the annotation: give a default of that type, or "
                f"widen the annotation (… | {kind})"
            )

    def load(self, value: object) -> Any:
        """The Python value of stored JSON. Raises InvalidArgumentsError with all that is wrong."""
        try:
            return self._load(value)
        except ValidationError as error:
            raise InvalidArgumentsError(self._flaws(error, value)) from None
        except Exception as error:
            raise self._refusal(f"cannot be read: {type(error).__name__}: {error}", value) from error

    def store(self, value: object) -> Any:
        """The JSON of a Python value, which will be the same value when it is read back.

        Raises InvalidArgumentsError; `Animal` given a `Cat` is one reason, since it would come back as an `Animal`.
        """
        try:
            typed = self.adapter.validate_python(value)
        except ValidationError as error:
            raise InvalidArgumentsError(self._flaws(error, value)) from None
        except Exception as error:
            raise self._refusal(f"cannot be written as JSON: {error}", value) from error
        return self._written(typed)

    def settle(self, value: object) -> Any:
        """The JSON of what the task would see of this JSON, where reading it makes a part of it: by a default_factory,
        say. So each attempt sees the same. Else the JSON as it is.

        Raises as load; also when what is made cannot be written, and is another each time.
        """
        typed = self.load(value)
        if not self._makes_values:
            return value
        try:
            return self._written(typed)
        except InvalidArgumentsError:
            if are_same(self.load(value), typed):
                return value
            raise

    def _written(self, typed: object) -> Any:
        try:
            plain = self.adapter.dump_python(typed, mode="json", round_trip=True, by_alias=True, warnings="error")
        except Exception as error:
            raise self._refusal(f"cannot be written as JSON: {error}", typed) from error
        if flaws := storable.check(plain):
            raise InvalidArgumentsError([flaw.under(step(self.name)) for flaw in flaws])
        back = self.load(plain)
        if not are_same(back, typed):
            detail = f"does not survive JSON: it would come back as {shown(back)}; use a type that JSON can tell"
            raise self._refusal(detail, plain)
        return plain

    def _load(self, value: object) -> Any:
        try:
            return self.adapter.validate_python(value)
        except ValidationError:
            # As JSON text again: a strict model takes a date from a string only when it comes from JSON.
            return self.adapter.validate_json(storable.dump(value))

    def _fits(self, default: object) -> bool:
        try:
            return are_same(self.adapter.validate_python(default), default)
        except Exception:  # noqa: BLE001 - the type's own validators may raise anything, which is an answer too
            return False

    def _flaws(self, error: ValidationError, value: object) -> list[FieldError]:
        if error.error_count() > _MOST_ERRORS:
            return [FieldError(step(self.name), f"{error.error_count()} things in it do not fit: {error.title}")]
        details = error.errors(include_url=False, include_context=False, include_input=False)
        return [self._flaw(each, value) for each in islice(details, MAX_FLAWS)]

    def _flaw(self, error: ErrorDetails, value: object) -> FieldError:
        steps = tuple(_steps(error["loc"], value, error["type"]))
        is_theirs = error["type"] not in _OF_PYDANTIC
        return FieldError(
            step(self.name) + "".join(map(step, steps)),
            clip(error["msg"], _LONGEST_DETAIL),
            names_in(_at(value, steps)) if is_theirs else frozenset(),
        )

    def _refusal(self, detail: str, value: object) -> InvalidArgumentsError:
        return InvalidArgumentsError([FieldError(step(self.name), clip(detail, _LONGEST_DETAIL), names_in(value))])


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


def _at(value: Any, steps: Iterable[int | str]) -> object:
    for key in steps:
        value = value[key]
    return value
