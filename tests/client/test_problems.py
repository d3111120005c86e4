"""The errors of the client are those of the service."""

import subprocess
import sys

import httpx
import pytest

from jobtrail import errors
from jobtrail.api.problems import PROBLEM_TYPES
from jobtrail.client.problems import KINDS, ApiError, require

OTHERS = {
    # of calls that the client does not have, or of requests that it does not send
    "not-json", "incomplete-body", "not-this-machine", "limit-not-found", "key-not-found", "task-not-found",
    "queue-not-found", "problem-not-found", "question-not-found", "body-too-slow", "precondition-failed",
    "body-too-large", "not-json-content", "audit-timeout", "internal-error", "webhook-not-found",
}  # fmt: skip


def test_each_problem_is_the_error_that_it_came_from() -> None:
    found = {kind.slug: error for error, kind in PROBLEM_TYPES.items() if kind.slug not in OTHERS}
    known = {slug: error for slug, error in found.items() if error.__module__ == "jobtrail.errors"}
    of_http = dict.fromkeys(("overloaded", "too-many-streams"), errors.UnavailableError)
    assert {**known, "invalid-input": errors.InvalidInputError, **of_http} == KINDS
    assert KINDS.keys() == found.keys()


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/html", b"<html>"),
        ("application/problem+json", b"\xff"),
        ("application/problem+json", b"[]"),
        ("application/problem+json", b'{"type": "about:blank", "errors": null}'),
        ("application/problem+json; charset=utf-8", b'{"type": "https://a.test/of/a-proxy", "title": "x"}'),
    ],
)
def test_an_answer_that_is_of_no_kind_is_an_api_error(content_type: str, content: bytes) -> None:
    request = httpx.Request("GET", "http://a.test/v1/jobs")
    with pytest.raises(ApiError) as caught:
        require(httpx.Response(418, headers={"Content-Type": content_type}, content=content, request=request))
    assert (caught.value.status, list(caught.value.errors)) == (418, [])


def test_it_needs_no_database_and_says_what_it_needs() -> None:
    script = """
import sys
from jobtrail.client import AsyncClient, Client
print(sorted({"sqlalchemy", "asyncpg", "fastapi", "starlette", "uvicorn", "alembic"} & sys.modules.keys()))
"""
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "[]\n"
    for name in ("httpx", "httpx_sse"):
        script = f"""
import sys
sys.modules["{name}"] = None
import jobtrail
try:
    import jobtrail.client
except ImportError as error:
    print(error)
"""
        said = subprocess.check_output([sys.executable, "-c", script], text=True)
        assert said == f"jobtrail.client needs {name}: pip install 'jobtrail[client]'\n"
