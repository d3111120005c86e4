"""A job as a program asks for it: a task and its arguments, with options."""

from collections.abc import Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, overload
from uuid import UUID

from jobtrail.task.submission import JobOptions, Submission, submission_of
from jobtrail.task.task import Task

P = ParamSpec("P")
R = TypeVar("R")


class HasId(Protocol):
    """A handle of a job, or its record."""

    @property
    def id(self) -> UUID: ...


class Options(JobOptions, total=False):
    """The options of a job besides its arguments. `after`: jobs that must succeed before it starts. `idempotency_key`:
    one of the caller's, instead of one for each submit.
    """

    after: Sequence[HasId | UUID | str]


@overload
def submission(task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Submission: ...
@overload
def submission(task: str, /, **kwargs: Any) -> Submission: ...
def submission(task: Task[..., Any] | str, /, *args: Any, **kwargs: Any) -> Submission:
    """A job for a batch: the task, or its name where its code is not at hand, with its arguments.

    Raises InvalidArgumentsError when they do not fit the signature of the task.
    """
    return asked(task, args, kwargs, {})


def asked(task: Task[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options) -> Submission:
    """Raises TypeError, InvalidArgumentsError, InvalidInputError for an option out of range."""
    fields: dict[str, Any] = {name: value for name, value in options.items() if name != "idempotency_key"}
    if "after" in options:
        fields["after"] = [each if isinstance(each, UUID | str) else each.id for each in options["after"]]
    if isinstance(task, Task):
        return submission_of(task.name, task.signature.dump(*args, **kwargs), fields)
    if args:
        raise TypeError(f"the arguments of {task!r} go by name, as only its name is known here")
    return submission_of(task, kwargs, fields)
