"""The calls of the service, one row each."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from jobtrail.api import links, openapi, problems, schemas
from jobtrail.api.bulk import BulkRoutes
from jobtrail.api.door import Door
from jobtrail.api.errors import TaskNotFoundError
from jobtrail.api.explain import ProblemRoutes
from jobtrail.api.health import HealthRoutes
from jobtrail.api.jobs import JobRoutes
from jobtrail.api.openapi import OF_BODY, OF_DATABASE, Responses
from jobtrail.api.pauses import PauseRoutes
from jobtrail.api.route import ProblemRoute
from jobtrail.api.submissions import SubmissionRoutes
from jobtrail.api.surroundings import AuditRoutes, NodeRoutes, TaskRoutes
from jobtrail.job import errors
from jobtrail.job.errors import InvalidInputError, JobNotFoundError

VERSION_PREFIX: Final = "/v1"

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Row(NamedTuple):
    """One call. `sends` and `reads` are headers; `also` is another status that it may answer with the same body."""

    method: str
    path: str
    endpoint: Callable[..., Any]
    status: int
    model: type[BaseModel] | None
    tag: str
    summary: str
    refuses: Sequence[type[Exception]] = ()
    sends: Sequence[str] = ()
    reads: Sequence[str] = ()
    also: tuple[int, str] | None = None


def routes(door: Door) -> APIRouter:
    """Every call but health, for any app and under any prefix. Nothing of it reaches the app's other routes."""
    router = APIRouter()
    _add(router, _calls(door), ProblemRoute.limited(door.max_body))
    return router


def install(app: FastAPI, door: Door) -> None:
    """Make `app` the stand-alone service: every error of it is a problem, the framework's own too.

    Before it serves: an app copies its error handlers with the first request.
    """
    route_class = ProblemRoute.limited(door.max_body)
    _add(app.router, _calls(door), route_class, prefix=VERSION_PREFIX)
    _add(app.router, _health(door), route_class)
    # a redirect would be made from a query that was never looked at
    app.router.redirect_slashes = False
    for error in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(error, _answer)


def _calls(door: Door) -> Sequence[Row]:
    submit, bulk, jobs = SubmissionRoutes(door), BulkRoutes(door), JobRoutes(door)
    tasks, nodes, audit, explain = TaskRoutes(door), NodeRoutes(door), AuditRoutes(door), ProblemRoutes()
    pauses = PauseRoutes(door)
    unknown = (errors.UnknownQueueError, TaskNotFoundError)
    submits = (*OF_BODY, errors.UnknownTaskError, errors.InvalidArgumentsError, *OF_DATABASE)
    finds = (JobNotFoundError, InvalidInputError, *OF_DATABASE)
    cancels = (*finds, errors.JobFinishedError)
    asked = (202, "The job is running: its node was asked to stop it, and it may still succeed.")
    unchanged = (304, "Nothing has changed.")
    return [
        Row("POST", "/jobs", submit.submit_job, 202, schemas.Job, "jobs", "Submit a job",
            (*submits, errors.IdempotencyKeyReusedError),
            ("Location", "Retry-After", "Idempotency-Replayed"), ("Idempotency-Key", "traceparent")),
        Row("POST", "/jobs/batch", submit.submit_jobs, 202, schemas.SubmittedJobs, "jobs",
            "Submit several jobs, all or none", submits, ("Retry-After",), ("traceparent",)),
        Row("POST", "/jobs/bulk", bulk.move_jobs, 200, schemas.Bulk, "jobs", "Cancel or retry many jobs",
            (*OF_BODY, *OF_DATABASE)),
        Row("GET", "/jobs", jobs.list_jobs, 200, schemas.JobList, "jobs", "List jobs",
            (InvalidInputError, *OF_DATABASE), ("Link",)),
        Row("GET", "/jobs/{job_id}", jobs.get_job, 200, schemas.Job, "jobs", "Read a job", finds,
            ("ETag", "Retry-After"), ("If-None-Match",), unchanged),
        Row("PATCH", "/jobs/{job_id}", jobs.amend_job, 200, schemas.Job, "jobs", "Change a job",
            (*OF_BODY, JobNotFoundError, errors.JobConflictError, errors.PreconditionError, *OF_DATABASE),
            ("ETag", "Retry-After"), ("If-Match",)),
        Row("DELETE", "/jobs/{job_id}", jobs.delete_job, 200, schemas.Job, "jobs", "Cancel a job, without a body",
            cancels, ("Retry-After",), (), asked),
        Row("GET", "/jobs/{job_id}/transitions", jobs.get_transitions, 200, schemas.TransitionList, "jobs",
            "Read the history of a job", finds),
        Row("GET", "/jobs/{job_id}/log", jobs.get_log, 200, schemas.JobLog, "jobs", "Read the log of a job", finds),
        Row("POST", "/jobs/{job_id}/cancel", jobs.cancel_job, 200, schemas.Job, "jobs", "Cancel a job",
            (*OF_BODY, *cancels), ("Retry-After",), (), asked),
        Row("POST", "/jobs/{job_id}/retry", jobs.retry_job, 202, schemas.Job, "jobs", "Retry a job by hand",
            (*finds, errors.JobConflictError), ("Retry-After",)),
        Row("GET", "/tasks", tasks.list_tasks, 200, schemas.TaskList, "tasks", "List the tasks"),
        Row("GET", "/tasks/{name}", tasks.get_task, 200, schemas.Task, "tasks", "Read a task",
            (TaskNotFoundError, InvalidInputError)),
        Row("GET", "/nodes", nodes.list_nodes, 200, schemas.NodeList, "nodes", "List the nodes", OF_DATABASE),
        Row("GET", "/pauses", pauses.list_pauses, 200, schemas.PauseList, "pauses", "List what is paused", OF_DATABASE),
        Row("PUT", "/pauses/{kind}/{name}", pauses.put_pause, 200, schemas.Pause, "pauses", "Pause a queue or a task",
            (*OF_BODY, *unknown, *OF_DATABASE)),
        Row("DELETE", "/pauses/{kind}/{name}", pauses.delete_pause, 204, None, "pauses", "Resume a queue or a task",
            (InvalidInputError, *unknown, *OF_DATABASE)),
        Row("GET", "/audit", audit.list_questions, 200, schemas.QuestionList, "audit", "List the audit questions"),
        Row("GET", "/audit/{name}", audit.ask, 200, schemas.Answer, "audit", "Ask an audit question",
            (errors.UnknownQuestionError, InvalidInputError, *OF_DATABASE, errors.AuditTimeoutError)),
        Row("GET", "/problems", explain.list_problems, 200, schemas.ProblemKindList, "problems",
            "List the kinds of problems"),
        Row("GET", "/problems/{slug}", explain.get_problem, 200, schemas.ProblemKind, "problems",
            "Explain a kind of problem", (InvalidInputError,)),
    ]  # fmt: skip


def _health(door: Door) -> Sequence[Row]:
    health = HealthRoutes(door)
    return [
        Row("GET", "/health", health.health, 200, schemas.Health, "health", "Ready?", OF_DATABASE),
        Row("GET", "/health/live", health.live, 200, schemas.Health, "health", "Does the process answer?"),
        Row("GET", "/health/ready", health.ready, 200, schemas.Health, "health", "Can it do its work?", OF_DATABASE),
    ]


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error.headers = {"Allow": ", ".join(_methods(request))}
    return problems.answer(request, error)


def _methods(request: Request) -> Sequence[str]:
    """All that the path has (RFC 9110, section 10.2.1): a route knows only its own."""
    routes = request.app.router.routes
    asked = ({**request.scope, "method": method} for method in _METHODS)
    return [each["method"] for each in asked if any(route.matches(each)[0] is Match.FULL for route in routes)]


def _add(router: APIRouter, rows: Sequence[Row], route_class: type[ProblemRoute], *, prefix: str = "") -> None:
    for row in rows:
        operation = row.endpoint.__name__
        answers: Responses = {row.status: {"headers": openapi.headers(row.sends)}}
        if row.also is not None:
            status, meaning = row.also
            answers[status] = {"description": meaning, "headers": openapi.headers(row.sends)}
            if status != HTTPStatus.NOT_MODIFIED:
                answers[status]["model"] = row.model
        router.add_api_route(
            prefix + row.path,
            row.endpoint,
            route_class_override=route_class,
            methods=[row.method],
            name=links.PREFIX + operation,
            operation_id=operation,
            status_code=row.status,
            response_model=row.model,
            tags=[row.tag],
            summary=row.summary,
            responses={**answers, **openapi.refusals(row.refuses)},
            openapi_extra=openapi.parameters(row.reads),
        )
