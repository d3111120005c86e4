"""Addresses of our own calls, under whatever prefix a host chose."""

from collections.abc import Mapping
from typing import Final
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
    scope = request.scope
    root = str(scope.get("app_root_path", scope.get("root_path", ""))).rstrip("/")
    try:
        return root + str((scope.get("router") or request.app).url_path_for(name, **parts))
    except NoMatchFound:
        return "about:blank"


class JobLinks:
    """`url_for` of jobs. It costs as much as storing one, so what it said last is kept while it is asked the same."""

    def __init__(self) -> None:
        self._router: object = None
        self._asked: tuple[object, ...] = ()
        self._before: str | None = None

    def location(self, request: Request, job_id: UUID) -> Mapping[str, str]:
        """The header `Location`; none where a host lets nobody read."""
        scope = request.scope
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        asked = (host, scope.get("scheme"), scope.get("server"), scope.get("root_path"), scope.get("app_root_path"))
        if scope["router"] is not self._router or asked != self._asked:
            self._before = _before(request)
            self._router, self._asked = scope["router"], asked
        return {} if self._before is None else {"Location": f"{self._before}{job_id}"}


def _before(request: Request) -> str | None:
    """The URL of a job, without its id."""
    try:
        return str(request.url_for(JOB, job_id=_NO_ID)).removesuffix(_NO_ID)
    except NoMatchFound:
        return None
