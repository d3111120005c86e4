"""The result of a job that has ended, in the type that its task declares."""

import typing
from typing import Any

from pydantic import TypeAdapter, ValidationError

from jobtrail.errors import JobCancelledError, JobFailedError
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task import storable
from jobtrail.task.task import Task


def result_of(job: Job) -> Any:
    """As JSON. Raises JobFailedError, JobCancelledError."""
    if job.status is Status.CANCELLED:
        raise JobCancelledError(job.id, job.cancel_reason)
    if job.status is Status.FAILED:
        error: dict[str, Any] = dict(job.error or {})
        raise JobFailedError(job.id, str(error.get("type")), str(error.get("message", "")), error.get("traceback"))
    return job.result


def typed(task: Task[..., Any], result: Any) -> Any:
    """The stored JSON in the type of the task's annotation; as it is, where pydantic cannot use that.

    Raises TypeError when the result does not fit the annotation.
    """
    try:
        hint = typing.get_type_hints(task.function, include_extras=True).get("return", Any)
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except Exception:  # noqa: BLE001 - an annotation that means nothing outside of a type checker
        return result
    try:
        return adapter.validate_json(storable.dump(result))
    except ValidationError as error:
        raise TypeError(f"the result of {task!r} does not fit its annotation: {error}") from error
