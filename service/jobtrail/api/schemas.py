"""The shapes of the answers, for OpenAPI; `representation` writes them, and a test holds the two together."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from jobtrail.job.limits import MAX_BATCH
from jobtrail.job.record import PauseKind
from jobtrail.job.submission import Documented, Submission

# an enumeration would be a schema of its own, under a name that a host may have too
AnyStatus = Literal["pending", "running", "succeeded", "failed", "cancelled"]
AnyAction = Literal["cancel", "retry"]


class Shape(Documented):
    """Exactly these fields."""

    model_config = ConfigDict(extra="forbid")


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


class ListedJob(Shape):
    """A job of a list: args, result and error.traceback only where asked for."""

    id: UUID
    task: str
    queue: str
    args: Annotated[dict[str, Any] | None, Field(description="Only with include=args.")] = None
    status: AnyStatus
    result: Annotated[Any, Field(description="Only with include=result.")] = None
    error: JobError | None
    trace_id: Annotated[str, Field(description="32 hex digits (W3C Trace Context).")]
    priority: Annotated[int, Field(description="0 to 9, higher first.")]
    tags: list[str]
    attempt: Annotated[int, Field(description="How often it was started; 0 before the first time.")]
    max_attempts: int
    timeout: Annotated[float | None, Field(description="Seconds for one attempt; null: no limit.")]
    progress: Annotated[Progress | None, Field(description="Of the last attempt; null: it said nothing.")]
    run_at: datetime | None
    created_at: datetime
    started_at: Annotated[datetime | None, Field(description="Of the last attempt.")]
    finished_at: datetime | None
    ttl: Annotated[float | None, Field(description="Seconds that the row is kept after its end; null: for ever.")]
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    created_by: str
    node_id: Annotated[UUID | None, Field(description="The node that runs it or ended it.")]


class Job(ListedJob):
    """One submitted run of a task."""

    args: dict[str, Any] = Field()
    result: Annotated[Any, Field(description="What the task returned; null unless it succeeded.")] = Field()


class JobList(Shape):
    """Newest first. A page of large args, results or tracebacks is shorter than its limit."""

    items: list[ListedJob]
    next_cursor: Annotated[str | None, Field(description="For the next page; null on the last.")]


class Batch(Documented):
    """Jobs that are stored together or not at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: Annotated[list[Submission], Field(min_length=1, max_length=MAX_BATCH)]


class SubmittedJobs(Shape):
    """In the order of the request."""

    items: list[Job]


class Bulk(Shape):
    """What came of one call for many jobs."""

    action: AnyAction
    dry_run: bool
    matched: Annotated[int, Field(description="Jobs of the filter that the action fitted when the call began.")]
    changed: Annotated[int, Field(description="Moved, or asked to stop where they were running.")]
    remaining: Annotated[
        int, Field(description="As they were: beyond the limit, or locked by somebody else. Call again for them.")
    ]


class Transition(Shape):
    """One move of a job. `from_status` null is its birth, `to_status` may be `purged`."""

    seq: int
    attempt: int
    from_status: str | None
    to_status: str
    at: datetime
    actor: str
    node_id: UUID | None
    reason: str | None
    error: JobError | None
    trace_id: str
    task: str


class TransitionList(Shape):
    """The history, by `seq`; it outlives the job."""

    items: list[Transition]
    next_cursor: Annotated[str | None, Field(description="For the next page; null on the last.")]


class LogLine(Shape):
    """Something that a job said while it ran."""

    attempt: int
    number: Annotated[int, Field(description="In its attempt, from 1; lines that were not kept leave gaps.")]
    at: datetime
    level: str
    logger: str
    message: Annotated[str, Field(description="With its traceback; at most 8 KiB.")]


class JobLog(Shape):
    """Oldest first."""

    items: list[LogLine]


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


class TaskList(Shape):
    """The tasks of this process."""

    items: list[Task]


class Node(Shape):
    """One process that runs jobs; a fresh id per start."""

    id: UUID
    host: str
    pid: int
    version: str
    queues: Annotated[list[str], Field(description="Empty: all of them.")]
    tasks: Annotated[list[str], Field(description="Those that it has slots for.")]
    slots: Annotated[dict[str, int], Field(description="How many jobs at once, in the loop, a thread or a process.")]
    running: int
    left_behind: Annotated[int, Field(description="Tasks that did not end when told to, and still take a slot.")]
    stale_ends: Annotated[int, Field(description="Ends of attempts that were refused, since its start.")]
    started_at: datetime
    heartbeat_at: datetime


class NodeList(Shape):
    """By their start."""

    items: list[Node]


class Pause(Shape):
    """A queue or a task of which no job is started for now."""

    kind: PauseKind
    name: str
    paused_at: datetime
    paused_by: str
    reason: str | None


class PauseList(Shape):
    """Queues first, then tasks, by name."""

    items: list[Pause]


class QuestionParameter(Shape):
    """What a question can be narrowed by, as `?name=value`."""

    name: str
    default: str
    description: str


class Question(Shape):
    """Something an operator asks the database."""

    name: str
    title: Annotated[str, Field(description="The question.")]
    note: Annotated[str, Field(description="What to know about its answer.")]
    parameters: list[QuestionParameter]
    sql: str


class QuestionList(Shape):
    """All the audit questions."""

    items: list[Question]


class Answer(Shape):
    """Rows as objects, their keys in the order of `columns`."""

    name: str
    columns: list[str]
    items: list[dict[str, Any]]


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


class ProblemKindList(Shape):
    """Every kind of problem that this service knows."""

    items: list[ProblemKind]
