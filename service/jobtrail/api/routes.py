"""The calls of the service in their places: under a version of ours, or among a host's routes."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, FastAPI, params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from jobtrail.api import batches, events, jobs, openapi, ops, problems, schedules, service, stats, webhooks
from jobtrail.api.context import ApiContext
from jobtrail.api.links import VERSION_PREFIX, Hosted
from jobtrail.api.middleware import SecurityHeadersMiddleware
from jobtrail.api.route import ProblemRoute, Row
from jobtrail.callers import Scope

_NAMES: Final = "jobtrail."
"""Before the name of each of our routes, so that none is taken for a host's."""

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


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
    pages = app.router.routes[:]
    app.router.routes.clear()
    versioned = [Mounted(row, VERSION_PREFIX) for row in (*_calls(context), *ops.rows_of_keys(context))]
    _add(app.router, context, [*versioned, *(Mounted(row) for row in service.rows_of_health(context))])
    app.router.routes += pages  # a call finds its route by trying them in order, and pages are rare
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
    return [
        *jobs.rows(context),
        *events.rows(context),
        *batches.rows(context),
        *service.rows_of_tasks(context),
        *ops.rows(context),
        *schedules.rows(context),
        *stats.rows(context),
        *webhooks.rows(context),
        *service.rows_of_problems(context),
    ]


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
    answers: openapi.Responses = {row.status: {"headers": sends}}
    if row.content is not None:
        answers[row.status]["content"] = row.content
    for status, meaning in row.also:
        model = {"model": row.model} if status in (HTTPStatus.OK, HTTPStatus.ACCEPTED) else {}
        answers[status] = {"description": meaning, "headers": sends, **model}
    refuses = (*row.refuses, *openapi.refuses_alone(row.needs, prefix + row.path)) if alone else row.refuses
    return {
        "operation_id": operation if alone else f"jobtrail_{operation}",  # a host's function may have it
        "status_code": row.status,
        "response_model": row.model,
        "tags": [row.tag],
        "summary": row.summary,
        "responses": {**answers, **openapi.refusals(refuses)},
        **({} if row.content is None else {"response_class": Response}),
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
