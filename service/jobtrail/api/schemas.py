"""The response models, for OpenAPI; `representation` writes the answers, and a test holds the two together.

Those of records are made from the records. A list is an object with `items`.
"""

from datetime import timedelta
from typing import Annotated, Any, Final, Literal, get_args, get_origin
from uuid import UUID

from fastapi.openapi.models import Example
from pydantic import BaseModel, ConfigDict, Field, create_model

from jobtrail import records
from jobtrail.records import shown_fields
from jobtrail.status import Status
from jobtrail.task.submission import Documented

# an enumeration would be a schema of its own, under a name that a host may have too
AnyStatus = Literal["pending", "running", "succeeded", "failed", "cancelled"]
AnyAction = Literal["cancel", "retry"]


Examples = dict[str, Example]
"""Examples of a body, for the documentation."""


class Shape(Documented):
    """Exactly these fields."""

    model_config = ConfigDict(extra="forbid")


_IN_JSON: Final[dict[Any, Any]] = {Status: AnyStatus, timedelta: float, timedelta | None: float | None}

NEXT: Final = Annotated[str | None, Field(description="For the next page; null on the last.")]


def of_record(record: type, name: str, **others: Any) -> type[Shape]:
    """The response model of a record. `others` are the types of fields that hold more than their record says."""
    types: dict[str, Any] = {}
    for field, hint in shown_fields(record).items():
        plain, *said = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        types[field] = Annotated[others.get(field, _IN_JSON.get(plain, plain)), *said, Field()]
    return create_model(name, __base__=Shape, __doc__=record.__doc__, **types)


def list_of(item: type[BaseModel], name: str, doc: str, **more: Any) -> type[Shape]:
    items: Any = list.__class_getitem__(item)
    return create_model(name, __base__=Shape, __doc__=doc, items=items, **more)


class JobError(Shape):
    """Why an attempt failed. `type` is the exception's name, or `lost`, `timeout`, `result-not-json` and the like."""

    type: str
    message: str
    traceback: str | None = None
    attempt: int


class Progress(Shape):
    """How far a running job has come, as it says itself, or had come when it ended."""

    done: Annotated[float, Field(description="In whatever the task counts.")]
    total: Annotated[float | None, Field(description="In the same; null: it does not know.")]
    note: str | None


Job: Final = of_record(records.Job, "Job", error=JobError | None, progress=Progress | None)
ListedJob: Final = create_model(
    "ListedJob",
    __base__=Job,
    __doc__="A job of a list: args, result and error.traceback only where asked for.",
    args=Annotated[dict[str, Any] | None, Field(None, description="Only with include=args.")],
    result=Annotated[Any, Field(None, description="Only with include=result.")],
)
JobList: Final = list_of(
    ListedJob,
    "JobList",
    "Newest first. A page of large args, results or tracebacks is shorter than its limit.",
    next_cursor=NEXT,
)
SubmittedJobs: Final = list_of(Job, "SubmittedJobs", "In the order of the request.")

Transition: Final = of_record(records.Transition, "Transition", error=JobError | None)
TransitionList: Final = list_of(
    Transition, "TransitionList", "The history, by `seq`; it outlives the job.", next_cursor=NEXT
)
JobLog: Final = list_of(of_record(records.LogLine, "LogLine"), "JobLog", "Oldest first.")


class Bulk(Shape):
    """What came of one call for many jobs."""

    action: AnyAction
    dry_run: bool
    matched: Annotated[int, Field(description="Jobs of the filter that the action fitted when the call began.")]
    changed: Annotated[int, Field(description="Moved, or asked to stop where they were running.")]
    remaining: Annotated[
        int, Field(description="As they were: beyond the limit, or locked by somebody else. Call again for them.")
    ]


class TaskDefaults(Shape):
    """What a job of the task gets that says nothing itself; durations in seconds."""

    queue: str
    priority: int
    max_attempts: int
    timeout: float | None
    ttl: Annotated[float | None, Field(description="Kept after success; null: for ever.")]
    ttl_failed: Annotated[float | None, Field(description="Kept after a failure or a cancel; null: for ever.")]


class Task(Shape):
    """A function that jobs can run."""

    name: str
    description: str
    runs_in: Annotated[str, Field(description="loop, thread or process.")]
    args: Annotated[dict[str, Any], Field(description="JSON Schema of the arguments.")]
    defaults: TaskDefaults


TaskList: Final = list_of(Task, "TaskList", "The tasks of this process.")


class Health(Shape):
    """What was looked at."""

    status: str
    checks: dict[str, str]


class JobtrailFlaw(Shape):
    """One thing that is wrong with a request."""

    pointer: Annotated[
        str,
        Field(
            description="A JSON pointer into the body, `?name` for the query, `{name}` for the path, `Name:` a header."
        ),
    ]
    detail: str


class JobtrailProblem(Shape):
    """Why the service refused (RFC 9457)."""

    type: Annotated[str, Field(description="A path of this service that explains the kind.")]
    title: str
    status: int
    detail: str
    instance: Annotated[str, Field(description="The path that was called.")]
    trace_id: Annotated[str, Field(description="The same as the header X-Trace-Id.")]
    errors: Annotated[list[JobtrailFlaw] | None, Field(description="With status 422.")] = None
    job_id: Annotated[UUID | None, Field(description="The job that may be stored, if that is not known.")] = None


class ProblemKind(Shape):
    """A kind of problem and what to do about it."""

    type: str
    status: int
    title: str
    meaning: str
    example: JobtrailProblem


ProblemKindList: Final = list_of(ProblemKind, "ProblemKindList", "Every kind of problem that this service knows.")
