"""One call: its row, and its route, which reads the body, makes problems of errors, completes an answer's headers."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from inspect import signature
from typing import Any, ClassVar, Final, NamedTuple
from urllib.parse import unquote_to_bytes
from uuid import UUID

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as HttpScope

from jobtrail.api import problems
from jobtrail.api.context import ApiContext
from jobtrail.api.headers import complete
from jobtrail.api.links import HOSTED, Hosted
from jobtrail.callers import Scope
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.task.storable import parse

_CONCRETE: Final = frozenset({"batch", "bulk"})
"""Words that stand in the path of other calls where the id of a job would be."""

_JSON: Final = "application/json"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
"""Answers a request."""

SUBMIT: Final[Sequence[Scope]] = ("submit",)
READ: Final[Sequence[Scope]] = ("read",)
SEE: Final[Sequence[Scope]] = ("read", "submit")  # who may only submit sees its own
CANCEL: Final[Sequence[Scope]] = ("operate", "submit")  # the same
OPERATE: Final[Sequence[Scope]] = ("operate",)
NOTHING: Final[Sequence[Scope]] = ()


class Row(NamedTuple):
    """One call. `needs`: one of these scopes, and among a host's routes the guard of the first. `sends` and `reads` are
    headers; `also` are other statuses that it may answer, 200 and 202 with the same body. `content`: of a call whose
    answer is no JSON.
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
    also: Sequence[tuple[int, str]] = ()
    content: dict[str, Any] | None = None


class ProblemRoute(APIRoute):
    """A route of ours, in our own service or among a host's: nothing that it does reaches the other routes of the app.

    FastAPI turns what goes wrong while it reads a body into a bare 400, so the body is read here, before.
    """

    context: ClassVar[ApiContext]
    needs: ClassVar[Collection[Scope]]
    hosted: ClassVar[Hosted | None]

    @classmethod
    def of(cls, context: ApiContext, needs: Collection[Scope], hosted: Hosted | None) -> type["ProblemRoute"]:
        """The class for routes in this context that need one of these scopes; `hosted` None: of our own service.

        A class and not arguments, since FastAPI makes the routes by itself, and again when it includes a router.
        """
        return type(cls.__name__, (cls,), {"context": context, "needs": tuple(needs), "hosted": hosted})

    def matches(self, scope: HttpScope) -> tuple[Match, HttpScope]:
        """Concrete paths come before templated ones (OpenAPI 3.1, section 4.8.8.2), whatever the method."""
        match, found = super().matches(scope)
        if match is not Match.NONE and found.get("path_params", {}).get("job_id") in _CONCRETE:
            return Match.NONE, {}
        return match, found

    def __init__(self, *args: Any, **said: Any) -> None:
        super().__init__(*args, **said)
        if (proceed := _plain(self)) is not None:
            self.app = _alone(self._around(proceed))

    def get_route_handler(self) -> Handler:
        return self._around(super().get_route_handler())

    def _around(self, proceed: Handler) -> Handler:
        field = self.body_field

        async def answer(request: Request) -> Response:
            if self.hosted is not None:
                request.scope[HOSTED] = self.hosted
            try:
                await self.context.access.admit(request, self.needs)
                _refuse_bytes(request)
                if field is not None:
                    await _read(request, self.context, required=field.field_info.is_required())
                response = await proceed(request)
            except Exception as error:
                if problems.is_for_the_host(request, error):
                    raise
                return problems.answer(request, error)
            if self.hosted is not None:  # else the middleware does it
                complete(response.raw_headers, request.scope)
            return response

        return answer


def _plain(route: "ProblemRoute") -> Handler | None:
    """What FastAPI does for a call of a request and a body, or of a request and an id in its path, in a third of its
    time; None where there may be more to do: for other calls, and among the routes of a host, which may depend on
    anything.
    """
    field, endpoint = route.body_field, route.endpoint
    takes = list(signature(endpoint).parameters.values())
    if route.hosted is not None or route.dependencies:
        return None
    if len(takes) != 2 or takes[0].annotation is not Request:  # noqa: PLR2004
        return None
    name, kind = takes[1].name, takes[1].annotation
    if kind is not UUID if field is None else not field.field_info.is_required():
        return None
    adapter = TypeAdapter[Any](kind)
    place = ("path", name) if field is None else ("body",)

    async def proceed(request: Request) -> Response:
        given = request.path_params[name] if field is None else await request.json()
        try:
            wanted = adapter.validate_python(given, from_attributes=True)
        except ValidationError as error:
            found = [{**each, "loc": (*place, *each["loc"])} for each in error.errors(include_url=False)]
            raise RequestValidationError(found, body=given) from None
        response: Response = await endpoint(request, wanted)
        return response

    return proceed


def _alone(answer: Handler) -> ASGIApp:
    """A call that raises nothing and has no dependency: it needs neither FastAPI's stacks nor its error handlers."""

    async def app(scope: HttpScope, receive: Receive, send: Send) -> None:
        response = await answer(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


def _refuse_bytes(request: Request) -> None:
    """Refuses a query that is not UTF-8, which would be read as another one."""
    query: bytes = request.scope["query_string"]
    if not query:
        return
    try:
        query.decode("ascii")
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        raise InvalidInputError(
            [FieldError("?", "the query must be UTF-8, with all but ASCII percent-encoded")]
        ) from None


async def _read(request: Request, context: ApiContext, *, required: bool) -> None:
    """Reads the body: announced as JSON, within the limit, strictly parsed. Empty is none if not `required`. It is
    kept where the request looks for it, so that FastAPI does not parse it again.

    Raises ContentTypeError, BodyTooLargeError, BodyTooSlowError, NotJsonError, InvalidInputError, and ClientDisconnect.
    """
    if required:
        _require_json(request)
    within = context.body_timeout.total_seconds()
    try:
        async with asyncio.timeout(within):
            raw = await _take(request, context.max_body)
    except TimeoutError:
        raise problems.BodyTooSlowError(within) from None
    request._body = raw  # noqa: SLF001 - as Starlette keeps it
    if not required:
        if not raw:
            return
        _require_json(request)
    request._json = parse(raw)  # noqa: SLF001


def _require_json(request: Request) -> None:
    """`application/json`, or a type built on it (RFC 6839, section 3.1)."""
    said = request.headers.get("content-type")
    if said == _JSON:
        return
    media = (said or "").partition(";")[0].strip().lower()
    if media != _JSON and not (media.startswith("application/") and media.endswith("+json")):
        raise problems.ContentTypeError(said)


async def _take(request: Request, limit: int) -> bytes:
    """The bytes, or BodyTooLargeError as soon as the limit is passed: by the announcement, else while reading."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > len(str(limit)) + 20 or int(announced) > limit):
        raise problems.BodyTooLargeError(limit)
    taken, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        taken += message.get("body", b"")
        if len(taken) > limit:
            raise problems.BodyTooLargeError(limit)
        more = message.get("more_body", False)
    return bytes(taken)
