"""The calls of the service, one row each."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, FastAPI, params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from jobtrail import errors
from jobtrail.api import openapi, problems, schemas
from jobtrail.api.audit import AuditRoutes
from jobtrail.api.bulk import BulkRoutes
from jobtrail.api.context import ApiContext
from jobtrail.api.health import HealthRoutes
from jobtrail.api.jobs import JobRoutes
from jobtrail.api.keys import KeyRoutes
from jobtrail.api.links import VERSION_PREFIX, Hosted
from jobtrail.api.middleware import SecurityHeadersMiddleware
from jobtrail.api.nodes import NodeRoutes
from jobtrail.api.openapi import OF_BODY, OF_DATABASE, Responses
from jobtrail.api.pauses import PauseRoutes
from jobtrail.api.problem_types import ProblemNotFoundError, TaskNotFoundError
from jobtrail.api.route import ProblemRoute
from jobtrail.api.submissions import SubmissionRoutes
from jobtrail.api.tasks import TaskRoutes
from jobtrail.errors import InvalidInputError, JobNotFoundError
from jobtrail.ops.access import Scope

_NAMES: Final = "jobtrail."
"""Before the name of each of our routes, so that none is taken for a host's."""

_SUBMIT: Final[Sequence[Scope]] = ("submit",)
_READ: Final[Sequence[Scope]] = ("read",)
_SEE: Final[Sequence[Scope]] = ("read", "submit")  # who may only submit sees its own
_CANCEL: Final[Sequence[Scope]] = ("operate", "submit")  # the same
_OPERATE: Final[Sequence[Scope]] = ("operate",)
_NOTHING: Final[Sequence[Scope]] = ()

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Row(NamedTuple):
    """One call. `needs`: one of these scopes, and among a host's routes the guard of the first. `sends` and `reads` are
    headers; `also` is another status that it may answer with the same body.
    """

    needs: Sequence[Scope]
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


Guards = Mapping[Scope, Sequence[params.Depends]]
"""A host's dependencies for each scope that it opens."""


def routes(context: ApiContext, guards: Guards) -> APIRouter:
    """The calls but health, for any app and under any prefix. Nothing of it reaches the app's other routes.

    A call is there if the scope that it needs first is in `guards`, and behind what is found there; what explains
    problems is there for who may read.
    """
    router = APIRouter()
    calls = [row for row in _calls(context) if _group(row) in guards]
    rows = [(row, [*guards[_group(row)], _confirmation(context, row.needs)]) for row in calls]
    there = frozenset(row.path for row in calls)
    for row, asking in rows:
        _add(router, row, context, guards=asking, hosted=Hosted(row.path, there))
    for row, asking in rows:
        _add_head(router, row, context, guards=asking, hosted=Hosted(row.path, there))
    return router


def install(
    app: FastAPI, context: ApiContext, *, connections: Callable[[], int] = lambda: 0, most_connections: int = 1000
) -> None:
    """Make `app` the stand-alone service: every error of it is a problem, the framework's own too.

    Before it serves: an app copies its error handlers with the first request. `connections`: how many are open.
    """
    _let_pages_be_asked(app)
    rows = [(row, VERSION_PREFIX) for row in (*_calls(context), *_keys(context))]
    rows += [(row, "") for row in _health(context)]
    for row, prefix in rows:
        _add(app.router, row, context, prefix=prefix)
    for row, prefix in rows:
        _add_head(app.router, row, context, prefix=prefix)
    openapi.tell_of_keys(app)
    # a redirect would be made from a query that was never looked at
    app.router.redirect_slashes = False
    for error in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(error, _answer)
    app.add_middleware(SecurityHeadersMiddleware, connections=connections, most=most_connections)


def _group(row: Row) -> Scope:
    """The scope whose guard it is behind among a host's routes."""
    return row.needs[0] if row.needs else "read"


def _confirmation(context: ApiContext, needs: Sequence[Scope]) -> params.Depends:
    """The last of the guards: what the host says of the caller itself."""

    async def confirm(request: Request) -> None:
        await context.access.confirm(request, needs)

    return params.Depends(confirm)


def _calls(context: ApiContext) -> Sequence[Row]:
    submit, bulk, jobs = SubmissionRoutes(context), BulkRoutes(context), JobRoutes(context)
    tasks, nodes, audit = TaskRoutes(context), NodeRoutes(context), AuditRoutes(context)
    pauses, explain = PauseRoutes(context), problems.ProblemRoutes()
    unknown = (errors.UnknownQueueError, TaskNotFoundError)
    submits = (*OF_BODY, errors.UnknownTaskError, errors.InvalidArgumentsError, errors.OverloadedError, *OF_DATABASE)
    finds = (JobNotFoundError, InvalidInputError, *OF_DATABASE)
    cancels = (*finds, errors.JobFinishedError)
    asked = (202, "The job is running: its node was asked to stop it, and it may still succeed.")
    unchanged = (304, "Nothing has changed.")
    return [
        Row(_SUBMIT, "POST", "/jobs", submit.submit_job, 202, schemas.Job, "jobs", "Submit a job",
            (*submits, errors.IdempotencyKeyReusedError),
            ("Location", "Retry-After", "Idempotency-Replayed"), ("Idempotency-Key", "traceparent")),
        Row(_SUBMIT, "POST", "/jobs/batch", submit.submit_jobs, 202, schemas.SubmittedJobs, "jobs",
            "Submit several jobs, all or none", submits, ("Retry-After",), ("traceparent",)),
        Row(_OPERATE, "POST", "/jobs/bulk", bulk.move_jobs, 200, schemas.Bulk, "jobs", "Cancel or retry many jobs",
            (*OF_BODY, *OF_DATABASE)),
        Row(_SEE, "GET", "/jobs", jobs.list_jobs, 200, schemas.JobList, "jobs", "List jobs",
            (InvalidInputError, *OF_DATABASE), ("Link",)),
        Row(_SEE, "GET", "/jobs/{job_id}", jobs.get_job, 200, schemas.Job, "jobs", "Read a job", finds,
            ("ETag", "Retry-After"), ("If-None-Match",), unchanged),
        Row(_OPERATE, "PATCH", "/jobs/{job_id}", jobs.amend_job, 200, schemas.Job, "jobs", "Change a job",
            (*OF_BODY, JobNotFoundError, errors.JobConflictError, errors.PreconditionError, *OF_DATABASE),
            ("ETag", "Retry-After"), ("If-Match",)),
        Row(_CANCEL, "DELETE", "/jobs/{job_id}", jobs.delete_job, 200, schemas.Job, "jobs",
            "Cancel a job, without a body",
            cancels, ("Retry-After",), (), asked),
        Row(_SEE, "GET", "/jobs/{job_id}/transitions", jobs.get_transitions, 200, schemas.TransitionList, "jobs",
            "Read the history of a job", finds),
        Row(_SEE, "GET", "/jobs/{job_id}/log", jobs.get_log, 200, schemas.JobLog, "jobs",
            "Read the log of a job", finds),
        Row(_CANCEL, "POST", "/jobs/{job_id}/cancel", jobs.cancel_job, 200, schemas.Job, "jobs", "Cancel a job",
            (*OF_BODY, *cancels), ("Retry-After",), (), asked),
        Row(_OPERATE, "POST", "/jobs/{job_id}/retry", jobs.retry_job, 202, schemas.Job, "jobs", "Retry a job by hand",
            (*OF_BODY, *finds, errors.JobConflictError), ("Retry-After",)),
        Row(_SEE, "GET", "/tasks", tasks.list_tasks, 200, schemas.TaskList, "tasks", "List the tasks"),
        Row(_SEE, "GET", "/tasks/{name}", tasks.get_task, 200, schemas.Task, "tasks", "Read a task",
            (TaskNotFoundError, InvalidInputError)),
        Row(_READ, "GET", "/nodes", nodes.list_nodes, 200, schemas.NodeList, "nodes", "List the nodes", OF_DATABASE),
        Row(_READ, "GET", "/pauses", pauses.list_pauses, 200, schemas.PauseList, "pauses",
            "List what is paused", OF_DATABASE),
        Row(_OPERATE, "PUT", "/pauses/{kind}/{name}", pauses.put_pause, 200, schemas.Pause, "pauses",
            "Pause a queue or a task",
            (*OF_BODY, *unknown, *OF_DATABASE)),
        Row(_OPERATE, "DELETE", "/pauses/{kind}/{name}", pauses.delete_pause, 204, None, "pauses",
            "Resume a queue or a task",
            (InvalidInputError, *unknown, *OF_DATABASE)),
        Row(_READ, "GET", "/audit", audit.list_questions, 200, schemas.QuestionList, "audit",
            "List the audit questions"),
        Row(_READ, "GET", "/audit/{name}", audit.ask, 200, schemas.Answer, "audit", "Ask an audit question",
            (errors.UnknownQuestionError, InvalidInputError, *OF_DATABASE, errors.AuditTimeoutError)),
        Row(_NOTHING, "GET", "/problems", explain.list_problems, 200, schemas.ProblemKindList, "problems",
            "List the kinds of problems"),
        Row(_NOTHING, "GET", "/problems/{slug}", explain.get_problem, 200, schemas.ProblemKind, "problems",
            "Explain a kind of problem", (ProblemNotFoundError, InvalidInputError)),
    ]  # fmt: skip


def _keys(context: ApiContext) -> Sequence[Row]:
    """Never among a host's routes: a host knows its callers by itself."""
    keys = KeyRoutes(context)
    return [
        Row(_OPERATE, "GET", "/keys", keys.list_keys, 200, schemas.AccessKeyList, "keys", "List the access keys",
            OF_DATABASE),
        Row(_OPERATE, "POST", "/keys", keys.create_key, 201, schemas.NewAccessKey, "keys", "Make an access key",
            (*OF_BODY, *OF_DATABASE)),
        Row(_OPERATE, "DELETE", "/keys/{key_id}", keys.revoke_key, 204, None, "keys", "Revoke an access key",
            (InvalidInputError, errors.AccessKeyNotFoundError, *OF_DATABASE)),
    ]  # fmt: skip


def _health(context: ApiContext) -> Sequence[Row]:
    health = HealthRoutes(context)
    return [
        Row(_NOTHING, "GET", "/health", health.health, 200, schemas.Health, "health", "Ready?", OF_DATABASE),
        Row(_NOTHING, "GET", "/health/live", health.live, 200, schemas.Health, "health", "Does the process answer?"),
        Row(
            _NOTHING,
            "GET",
            "/health/ready",
            health.ready,
            200,
            schemas.Health,
            "health",
            "Can it do its work?",
            OF_DATABASE,
        ),
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


def _add(
    router: APIRouter,
    row: Row,
    context: ApiContext,
    *,
    prefix: str = "",
    guards: Sequence[params.Depends] = (),
    hosted: Hosted | None = None,
) -> None:
    operation, alone = row.endpoint.__name__, hosted is None
    refuses = (*row.refuses, *openapi.refuses_alone(row.needs, prefix + row.path)) if alone else row.refuses
    answers: Responses = {row.status: {"headers": openapi.headers(row.sends)}}
    if row.also is not None:
        status, meaning = row.also
        answers[status] = {"description": meaning, "headers": openapi.headers(row.sends)}
        if status != HTTPStatus.NOT_MODIFIED:
            answers[status]["model"] = row.model
    router.add_api_route(
        prefix + row.path,
        row.endpoint,
        route_class_override=ProblemRoute.of(context, row.needs, hosted),
        methods=[row.method],
        name=_NAMES + operation,
        operation_id=operation if alone else f"jobtrail_{operation}",  # a host's function may have it
        status_code=row.status,
        response_model=row.model,
        tags=[row.tag],
        summary=row.summary,
        dependencies=guards,
        responses={**answers, **openapi.refusals(refuses)},
        openapi_extra={**openapi.parameters(row.reads), **(openapi.security(row.needs) if alone else {})},
    )


def _add_head(
    router: APIRouter,
    row: Row,
    context: ApiContext,
    *,
    prefix: str = "",
    guards: Sequence[params.Depends] = (),
    hosted: Hosted | None = None,
) -> None:
    """HEAD is GET without the content (RFC 9110, section 9.3.2), which the server leaves out. A route of its own, after
    all others: it is rare, and not to be told in the documentation.
    """
    if row.method == "GET":
        router.add_api_route(
            prefix + row.path,
            row.endpoint,
            route_class_override=ProblemRoute.of(context, row.needs, hosted),
            methods=["HEAD"],
            name=f"{_NAMES}head_{row.endpoint.__name__}",
            include_in_schema=False,
            response_model=None,
            dependencies=guards,
        )


def _let_pages_be_asked(app: FastAPI) -> None:
    """The same for the pages of the documentation."""
    for route in app.routes:
        if isinstance(route, APIRoute) and route.methods == {"GET"} and not route.include_in_schema:
            route.methods = {"GET", "HEAD"}
