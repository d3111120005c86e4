"""Addresses of our own calls, under the prefix that was called: a host may have them under several, or under one with
parameters.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote
from uuid import UUID

from starlette.requests import Request

VERSION_PREFIX: Final = "/v1"
"""Before the paths of the stand-alone service."""

JOB: Final = "/jobs/{job_id}"
JOBS: Final = "/jobs"
BATCH: Final = "/batches/{batch_id}"
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


def job_url(request: Request, job_id: UUID) -> str | None:
    """The `url` of a job. To make one costs as much as to store the job, so all but the id is kept."""
    scope = request.scope
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    server = None if scope.get("server") is None else tuple(scope["server"])
    said = host, scope.get("scheme", "http"), server, scope.get("root_path", ""), scope["path"], scope.get(HOSTED)
    before = _before_id(*said)
    return None if before is None else f"{before}{job_id}"


@lru_cache(maxsize=16)
def _before_id(
    host: bytes | None, scheme: str, server: tuple[Any, ...] | None, root_path: str, path: str, hosted: Hosted | None
) -> str | None:
    headers = [] if host is None else [(b"host", host)]
    scope = {"type": "http", "headers": headers, "scheme": scheme, "server": server, "root_path": root_path}
    return url(Request({**scope, "path": path, HOSTED: hosted}), JOB, job_id="")


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
