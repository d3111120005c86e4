"""Unique keys: at most one unfinished job of a key. Or debounce: the one that waits takes the newest arguments."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from jobtrail import ranges
from jobtrail.errors import DeclarationError, FieldError, InvalidInputError
from jobtrail.task.storable import check
from jobtrail.task.template import filled, names_in, require_arguments

OnDuplicate = Literal["keep", "replace"]
UniqueKey = Annotated[str, Field(strict=True, min_length=1, max_length=ranges.MAX_LIMIT_KEY)]
Delay = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=ranges.MAX_TTL)]

UNIQUE_FIELDS: Final = ("unique_key", "on_duplicate", "delay", "max_delay")
"""The fields of a submission that make its key."""

LIMIT_KEY: Final = "unique:{}"
"""The limit of one that the jobs of a debounced key have, so that its runs do not overlap."""


@dataclass(frozen=True, slots=True)
class Unique:
    """What a task or a caller says of it, durations in seconds. None: nothing."""

    unique_key: str | None = None
    on_duplicate: OnDuplicate | None = None
    delay: float | None = None
    max_delay: float | None = None

    @property
    def replaces(self) -> bool:
        return self.on_duplicate == "replace"

    def over(self, other: "Unique") -> "Unique":
        """What is said here, else what the other says."""
        return Unique(
            other.unique_key if self.unique_key is None else self.unique_key,
            other.on_duplicate if self.on_duplicate is None else self.on_duplicate,
            other.delay if self.delay is None else self.delay,
            other.max_delay if self.max_delay is None else self.max_delay,
        )

    def flaws(self) -> Sequence[FieldError]:
        """What does not go together."""
        found = []
        if self.unique_key is not None:
            found += [FieldError("/unique_key", flaw.detail) for flaw in check(self.unique_key)]
        if self.on_duplicate is not None and self.unique_key is None:
            found.append(FieldError("/on_duplicate", "say of which: write unique_key too"))
        if self.max_delay is not None and not self.replaces:
            advice = 'it is how long a job waits whose arguments are replaced: write on_duplicate="replace" too'
            found.append(FieldError("/max_delay", advice))
        if self.max_delay is not None and self.delay is not None and self.max_delay < self.delay:
            found.append(FieldError("/max_delay", f"it is less than the delay of {self.delay:g} seconds"))
        return found


NOTHING: Final = Unique()


def declared(said: Unique, parameters: Collection[str], place: str) -> Unique:
    """Raises DeclarationError for what does not go together, or with the parameters of the task."""
    if said == NOTHING:
        return NOTHING
    if flaws := said.flaws():
        raise DeclarationError(f"task {place}: {'; '.join(f'{each.pointer[1:]}: {each.detail}' for each in flaws)}")
    if said.unique_key is not None:
        require_arguments(names_in(said.unique_key), parameters, f"task {place}, unique_key={said.unique_key!r}")
    return said


def resolve(said: Unique, task: Unique, parameters: Collection[str], value: Callable[[str], Any]) -> Unique:
    """What holds for a job: the caller's word, else the task's; the key with its arguments, which `value` gives as
    JSON.

    Raises InvalidInputError with pointers into the submission.
    """
    found = said.over(task)
    if said.max_delay is None and not found.replaces:  # the task's, for jobs that replace
        found = Unique(found.unique_key, found.on_duplicate, found.delay)
    if flaws := found.flaws():
        raise InvalidInputError(flaws)
    if found.unique_key is None:
        return found
    if said.unique_key is not None:
        try:
            require_arguments(names_in(said.unique_key), parameters, repr(said.unique_key))
        except DeclarationError as error:
            raise InvalidInputError([FieldError("/unique_key", str(error))]) from None
    return Unique(filled(found.unique_key, value), found.on_duplicate, found.delay, found.max_delay)


def later(delay: float) -> datetime:
    """So many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=delay)
