"""Addresses of our own calls, under the prefix that was called: a host may have them under several, or under one with
parameters.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote
from uuid import UUID

from starlette.requests import Request

VERSION_PREFIX: Final = "/v1"
"""Of the stand-alone service."""

JOB: Final = "/jobs/{job_id}"
JOBS: Final = "/jobs"
PROBLEM: Final = "/problems/{slug}"

HOSTED: Final = "jobtrail.hosted"
"""Key of the Hosted in the scope of a request to a call among a host's."""


class Hosted(NamedTuple):
    """A call among a host's: its path below the host's prefix, and those of all the calls that are there."""

    path: str
    calls: frozenset[str]


def path(request: Request, call: str, **parts: str) -> str:
    """The path of a call, the proxy's part included; `about:blank` where a host does not have it."""
    return _path(request, call, parts) or "about:blank"


def url(request: Request, call: str, **parts: str) -> str | None:
    """The same with scheme and host; None where a host does not have it."""
    found = _path(request, call, parts)
    return None if found is None else str(request.base_url.replace(path=found))


class JobLinks:
    """The `url` of jobs. It costs as much as storing one, so what it said last is kept while it is asked the same."""

    def __init__(self) -> None:
        self._asked: tuple[object, ...] = ()
        self._before: str | None = None

    def location(self, request: Request, job_id: UUID) -> Mapping[str, str]:
        """The header `Location`; none where a host has no call that reads a job."""
        scope = request.scope
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        asked = (host, scope.get("scheme"), scope.get("server"), scope.get("root_path"), scope["path"], scope["app"])
        if asked != self._asked:
            self._before = url(request, JOB, job_id="")
            self._asked = asked
        return {} if self._before is None else {"Location": f"{self._before}{job_id}"}


def _path(request: Request, call: str, parts: Mapping[str, str]) -> str | None:
    scope = request.scope
    root = str(scope.get("root_path", "")).rstrip("/")
    hosted: Hosted | None = scope.get(HOSTED)
    if hosted is None:
        prefix = root + VERSION_PREFIX
    elif call in hosted.calls:
        # a proxy or a mount may have left its part in the path, or not
        called = scope["path"] if scope["path"].startswith(f"{root}/") else root + scope["path"]
        prefix = called.rsplit("/", hosted.path.count("/"))[0]
    else:
        return None
    return quote(prefix + call.format_map(parts), errors="replace")
