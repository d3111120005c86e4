"""Addresses of our own calls, under the prefix that was called: a host may have them under several, or under one with
parameters.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from starlette.requests import Request
from starlette.routing import NoMatchFound

PREFIX: Final = "jobtrail."
"""Before the name of each of our routes, so that none is taken for a host's."""

JOB: Final = f"{PREFIX}get_job"
JOBS: Final = f"{PREFIX}list_jobs"
PROBLEM: Final = f"{PREFIX}get_problem"

_NO_ID: Final = str(UUID(int=0))


def path(request: Request, name: str, **parts: str) -> str:
    """The path of a route, the proxy's part included; `about:blank` where our routes are not to be found."""
    return _path(request, name, parts) or "about:blank"


def url(request: Request, name: str, **parts: str) -> str | None:
    """The same with scheme and host; None where our routes are not to be found."""
    found = _path(request, name, parts)
    return None if found is None else str(request.base_url.replace(path=found))


class JobLinks:
    """The `url` of jobs. It costs as much as storing one, so what it said last is kept while it is asked the same."""

    def __init__(self) -> None:
        self._asked: tuple[object, ...] = ()
        self._before: str | None = None

    def location(self, request: Request, job_id: UUID) -> Mapping[str, str]:
        """The header `Location`; none where a host lets nobody read."""
        scope = request.scope
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        asked = (host, scope.get("scheme"), scope.get("server"), scope.get("root_path"), scope["path"], scope["app"])
        if asked != self._asked:
            found = url(request, JOB, job_id=_NO_ID)
            self._before = None if found is None else found.removesuffix(_NO_ID)
            self._asked = asked
        return {} if self._before is None else {"Location": f"{self._before}{job_id}"}


def _path(request: Request, name: str, parts: Mapping[str, str]) -> str | None:
    calls, above = _included(request)
    root = str(request.scope.get("root_path", "")).rstrip("/")
    try:
        return quote(root + str((calls or request.app).url_path_for(name, **{**above, **parts})), errors="replace")
    except NoMatchFound:
        return None


def _included(request: Request) -> tuple[Any, Mapping[str, object]]:
    """The routes that a host included together with the one that was called, and the parameters of their prefix.

    None outside of them, as in the stand-alone service, whose app has each of our routes once.
    """
    scope = request.scope
    known, route = scope.get("fastapi", {}), scope.get("route")
    context = known.get("effective_route_context")
    # an app that was mounted inherits what was known of the mount
    if route is None or context is None or context.original_route is not route:
        return None, {}
    above = context.param_convertors.keys() - route.param_convertors.keys()
    return known.get("included_router"), {each: scope["path_params"][each] for each in above}
