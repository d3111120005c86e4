"""Addresses of our own calls, under whatever prefix a host chose."""

from typing import Final
from uuid import UUID
from weakref import WeakKeyDictionary

from starlette.requests import Request
from starlette.routing import NoMatchFound

PREFIX: Final = "jobtrail."
"""Before the name of each of our routes, so that none is taken for a host's."""

JOB: Final = f"{PREFIX}get_job"
JOBS: Final = f"{PREFIX}list_jobs"
PROBLEM: Final = f"{PREFIX}get_problem"

_NO_ID: Final = UUID(int=0)


def path(request: Request, name: str, **parts: str) -> str:
    """The path of a route, the proxy's part included; `about:blank` where our routes are not to be found."""
    scope = request.scope
    root = str(scope.get("app_root_path", scope.get("root_path", ""))).rstrip("/")
    try:
        return root + str((scope.get("router") or request.app).url_path_for(name, **parts))
    except NoMatchFound:
        return "about:blank"


class JobLinks:
    """`url_for` of jobs. Its search through all routes of the app is done once: it costs as much as a whole answer."""

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[object, str] = WeakKeyDictionary()

    def url(self, request: Request, job_id: UUID) -> str:
        router = request.scope["router"]
        path = self._found.get(router)
        if path is None:
            path = self._found[router] = router.url_path_for(JOB, job_id=_NO_ID)
        return str(request.base_url).rstrip("/") + path.replace(str(_NO_ID), str(job_id))
