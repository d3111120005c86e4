"""What the `type` of a problem leads to: the service explains its own refusals."""

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api import links, representation
from jobtrail.api.errors import ProblemNotFoundError
from jobtrail.api.kinds import BY_SLUG, Kind


class ProblemRoutes:
    """/problems."""

    async def list_problems(self, request: Request) -> Response:
        """Every kind of problem that this service knows."""
        items = [_explained(request, kind) for kind in BY_SLUG.values()]
        return representation.answer({"items": items})

    async def get_problem(self, request: Request, slug: str) -> Response:
        """One kind of problem: what it means and what to do about it."""
        kind = BY_SLUG.get(slug)
        if kind is None:
            raise ProblemNotFoundError(slug)
        return representation.answer(_explained(request, kind))


def _explained(request: Request, kind: Kind) -> dict[str, Any]:
    address = links.path(request, links.PROBLEM, slug=kind.slug)
    example: dict[str, Any] = {
        "type": address,
        "title": kind.title,
        "status": kind.status,
        "detail": "What exactly was wrong with this request.",
        "instance": "/the/path/that/was/called",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }
    if kind.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        example["errors"] = [{"pointer": "/args/n", "detail": "What is wrong there."}]
    return {
        "type": address,
        "status": kind.status,
        "title": kind.title,
        "meaning": kind.meaning,
        "example": example,
    }
