"""The route class of every call: its errors become problems, and its answer has its trace id."""

from collections.abc import Callable, Collection, Coroutine
from typing import Any, ClassVar, Final
from urllib.parse import unquote_to_bytes

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope as HttpScope

from jobtrail.api import problems
from jobtrail.api.body import read
from jobtrail.api.browsers import protect
from jobtrail.api.context import ApiContext
from jobtrail.api.headers import trace_of
from jobtrail.api.links import HOSTED, Hosted
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.ids import new_trace_id
from jobtrail.ops.access import Scope

CONCRETE: Final = frozenset({"batch", "bulk"})
"""Words that stand in the path of other calls where the id of a job would be."""

Answer = Callable[[Request], Coroutine[Any, Any, Response]]


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
        if match is not Match.NONE and found.get("path_params", {}).get("job_id") in CONCRETE:
            return Match.NONE, {}
        return match, found

    def get_route_handler(self) -> Answer:
        proceed = super().get_route_handler()
        field = self.body_field

        async def answer(request: Request) -> Response:
            if self.hosted is not None:
                request.scope[HOSTED] = self.hosted
            try:
                await self.context.access.admit(request, self.needs)
                _refuse_bytes(request)
                if field is not None:
                    request = await read(
                        request,
                        limit=self.context.max_body,
                        within=self.context.body_timeout,
                        required=field.field_info.is_required(),
                    )
                response = await proceed(request)
            except Exception as error:
                if problems.is_for_the_host(request, error):
                    raise
                return problems.answer(request, error)
            if "X-Trace-Id" not in response.headers:
                response.headers["X-Trace-Id"] = trace_of(request) or new_trace_id()
            protect(response.raw_headers)
            return response

        return answer


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
