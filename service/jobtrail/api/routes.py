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
from jobtrail.api.context import ApiContext
from jobtrail.api.jobs import JobRoutes
from jobtrail.api.links import VERSION_PREFIX, Hosted
from jobtrail.api.middleware import SecurityHeadersMiddleware
from jobtrail.api.openapi import OF_BODY, OF_DATABASE, Responses
from jobtrail.api.problem_types import ProblemNotFoundError, TaskNotFoundError
from jobtrail.api.route import ProblemRoute
from jobtrail.api.service import ServiceRoutes
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


class Mounted(NamedTuple):
    """A call in its place: under a prefix of ours, or among a host's routes, behind guards."""

    row: Row
    prefix: str = ""
    guards: Sequence[params.Depends] = ()
    hosted: Hosted | None = None


Guards = Mapping[Scope, Sequence[params.Depends]]
"""A host's dependencies for each scope that it opens."""


def routes(context: ApiContext, guards: Guards) -> APIRouter:
    """The calls but health, for any app and under any prefix. Nothing of it reaches the app's other routes.

    A call is there if the scope that it needs first is in `guards`, and behind what is found there; what explains
    problems is there for who may read.
    """
    calls = [(row, row.needs[0] if row.needs else "read") for row in _calls(context)]
    calls = [(row, scope) for row, scope in calls if scope in guards]
    paths = frozenset(row.path for row, _ in calls)
    router = APIRouter()
    _add(
        router,
        context,
        [
            Mounted(row, "", [*guards[scope], _confirmation(context, row.needs)], Hosted(row.path, paths))
            for row, scope in calls
        ],
    )
    return router


def install(
    app: FastAPI, context: ApiContext, *, connections: Callable[[], int] = lambda: 0, most_connections: int = 1000
) -> None:
    """Make `app` the stand-alone service: every error of it is a problem, the framework's own too.

    Before it serves: an app copies its error handlers with the first request. `connections`: how many are open.
    """
    for route in app.routes:  # the pages of the documentation answer HEAD too
        if isinstance(route, APIRoute) and route.methods == {"GET"} and not route.include_in_schema:
            route.methods = {"GET", "HEAD"}
    versioned = [Mounted(row, VERSION_PREFIX) for row in (*_calls(context), *_keys(context))]
    _add(app.router, context, [*versioned, *(Mounted(row) for row in _health(context))])
    openapi.tell_of_keys(app)
    # a redirect would be made from a query that was never looked at
    app.router.redirect_slashes = False
    for error in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(error, _answer)
    app.add_middleware(SecurityHeadersMiddleware, connections=connections, most=most_connections)


def _confirmation(context: ApiContext, needs: Sequence[Scope]) -> params.Depends:
    """The last of the guards: what the host says of the caller itself."""

    async def confirm(request: Request) -> None:
        await context.access.confirm(request, needs)

    return params.Depends(confirm)


def _calls(context: ApiContext) -> Sequence[Row]:
    jobs, service = JobRoutes(context), ServiceRoutes(context)
    unknown = (errors.UnknownQueueError, TaskNotFoundError)
    submits = (*OF_BODY, errors.UnknownTaskError, errors.InvalidArgumentsError, errors.OverloadedError, *OF_DATABASE)
    finds = (errors.JobNotFoundError, errors.InvalidInputError, *OF_DATABASE)
    cancels = (*finds, errors.JobFinishedError)
    asked = (202, "The job is running: its node was asked to stop it, and it may still succeed.")
    unchanged = (304, "Nothing has changed.")
    return [
        Row(_SUBMIT, "POST", "/jobs", jobs.submit_job, 202, schemas.Job, "jobs", "Submit a job",
            (*submits, errors.IdempotencyKeyReusedError),
            ("Location", "Retry-After", "Idempotency-Replayed"), ("Idempotency-Key", "traceparent")),
        Row(_SUBMIT, "POST", "/jobs/batch", jobs.submit_jobs, 202, schemas.SubmittedJobs, "jobs",
            "Submit several jobs, all or none", submits, ("Retry-After",), ("traceparent",)),
        Row(_OPERATE, "POST", "/jobs/bulk", jobs.move_jobs, 200, schemas.Bulk, "jobs", "Cancel or retry many jobs",
            (*OF_BODY, *OF_DATABASE)),
        Row(_SEE, "GET", "/jobs", jobs.list_jobs, 200, schemas.JobList, "jobs", "List jobs",
            (errors.InvalidInputError, *OF_DATABASE), ("Link",)),
        Row(_SEE, "GET", "/jobs/{job_id}", jobs.get_job, 200, schemas.Job, "jobs", "Read a job", finds,
            ("ETag", "Retry-After"), ("If-None-Match",), unchanged),
        Row(_OPERATE, "PATCH", "/jobs/{job_id}", jobs.amend_job, 200, schemas.Job, "jobs", "Change a job",
            (*OF_BODY, errors.JobNotFoundError, errors.JobConflictError, errors.PreconditionError, *OF_DATABASE),
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
        Row(_SEE, "GET", "/tasks", service.list_tasks, 200, schemas.TaskList, "tasks", "List the tasks"),
        Row(_SEE, "GET", "/tasks/{name}", service.get_task, 200, schemas.Task, "tasks", "Read a task",
            (TaskNotFoundError, errors.InvalidInputError)),
        Row(_READ, "GET", "/nodes", service.list_nodes, 200, schemas.NodeList, "nodes", "List the nodes", OF_DATABASE),
        Row(_READ, "GET", "/pauses", service.list_pauses, 200, schemas.PauseList, "pauses",
            "List what is paused", OF_DATABASE),
        Row(_OPERATE, "PUT", "/pauses/{kind}/{name}", service.put_pause, 200, schemas.Pause, "pauses",
            "Pause a queue or a task",
            (*OF_BODY, *unknown, *OF_DATABASE)),
        Row(_OPERATE, "DELETE", "/pauses/{kind}/{name}", service.delete_pause, 204, None, "pauses",
            "Resume a queue or a task",
            (errors.InvalidInputError, *unknown, *OF_DATABASE)),
        Row(_READ, "GET", "/audit", service.list_questions, 200, schemas.QuestionList, "audit",
            "List the audit questions"),
        Row(_READ, "GET", "/audit/{name}", service.ask, 200, schemas.Answer, "audit", "Ask an audit question",
            (errors.UnknownQuestionError, errors.InvalidInputError, *OF_DATABASE, errors.AuditTimeoutError)),
        Row(_NOTHING, "GET", "/problems", service.list_problems, 200, schemas.ProblemKindList, "problems",
            "List the kinds of problems"),
        Row(_NOTHING, "GET", "/problems/{slug}", service.get_problem, 200, schemas.ProblemKind, "problems",
            "Explain a kind of problem", (ProblemNotFoundError, errors.InvalidInputError)),
    ]  # fmt: skip


def _keys(context: ApiContext) -> Sequence[Row]:
    """Never among a host's routes: a host knows its callers by itself."""
    service = ServiceRoutes(context)
    return [
        Row(_OPERATE, "GET", "/keys", service.list_keys, 200, schemas.AccessKeyList, "keys", "List the access keys",
            OF_DATABASE),
        Row(_OPERATE, "POST", "/keys", service.create_key, 201, schemas.NewAccessKey, "keys", "Make an access key",
            (*OF_BODY, *OF_DATABASE)),
        Row(_OPERATE, "DELETE", "/keys/{key_id}", service.revoke_key, 204, None, "keys", "Revoke an access key",
            (errors.InvalidInputError, errors.AccessKeyNotFoundError, *OF_DATABASE)),
    ]  # fmt: skip


def _health(context: ApiContext) -> Sequence[Row]:
    service = ServiceRoutes(context)
    return [
        Row(_NOTHING, "GET", "/health", service.health, 200, schemas.Health, "health", "Ready?", OF_DATABASE),
        Row(_NOTHING, "GET", "/health/live", service.live, 200, schemas.Health, "health", "Does the process answer?"),
        Row(_NOTHING, "GET", "/health/ready", service.ready, 200, schemas.Health, "health", "Can it do its work?",
            OF_DATABASE),
    ]  # fmt: skip


def _add(router: APIRouter, context: ApiContext, calls: Sequence[Mounted]) -> None:
    for row, prefix, guards, hosted in calls:
        router.add_api_route(
            prefix + row.path,
            row.endpoint,
            route_class_override=ProblemRoute.of(context, row.needs, hosted),
            methods=[row.method],
            name=_NAMES + row.endpoint.__name__,
            dependencies=guards,
            **_description(row, prefix, alone=hosted is None),
        )
    # HEAD is GET without the content (RFC 9110, section 9.3.2), which the server leaves out. Routes of their own, after
    # all others: they are rare, and not to be told in the documentation
    for row, prefix, guards, hosted in calls:
        if row.method == "GET":
            router.add_api_route(
                prefix + row.path,
                row.endpoint,
                route_class_override=ProblemRoute.of(context, row.needs, hosted),
                methods=["HEAD"],
                name=f"{_NAMES}head_{row.endpoint.__name__}",
                dependencies=guards,
                include_in_schema=False,
                response_model=None,
            )


def _description(row: Row, prefix: str, *, alone: bool) -> dict[str, Any]:
    """The arguments of `add_api_route` that the documentation shows."""
    operation = row.endpoint.__name__
    sends = openapi.headers(row.sends)
    answers: Responses = {row.status: {"headers": sends}}
    if row.also is not None:
        status, meaning = row.also
        model = {} if status == HTTPStatus.NOT_MODIFIED else {"model": row.model}
        answers[status] = {"description": meaning, "headers": sends, **model}
    refuses = (*row.refuses, *openapi.refuses_alone(row.needs, prefix + row.path)) if alone else row.refuses
    return {
        "operation_id": operation if alone else f"jobtrail_{operation}",  # a host's function may have it
        "status_code": row.status,
        "response_model": row.model,
        "tags": [row.tag],
        "summary": row.summary,
        "responses": {**answers, **openapi.refusals(refuses)},
        "openapi_extra": {**openapi.parameters(row.reads), **(openapi.security(row.needs) if alone else {})},
    }


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # all that the path has (RFC 9110, section 10.2.1): a route knows only its own
        asked = ({**request.scope, "method": method} for method in _METHODS)
        there = [
            each["method"]
            for each in asked
            if any(route.matches(each)[0] is Match.FULL for route in request.app.router.routes)
        ]
        error.headers = {"Allow": ", ".join(there)}
    return problems.answer(request, error)
