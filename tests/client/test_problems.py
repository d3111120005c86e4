"""The errors of the client are those of the service."""

import subprocess
import sys
from functools import partial
from uuid import uuid4

import httpx
import pytest

from jobtrail import errors
from jobtrail.api.problems import PROBLEM_TYPES
from jobtrail.client import AsyncClient, Client, Submission
from jobtrail.client.problems import KINDS, ApiError, require
from support.faces import FACES, client_at
from support.wire import answer, answering

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
        ("application/problem+json", b'{"detail": null, "trace_id": 5, "errors": ["a", 5, null]}'),
        ("application/problem+json", b'{"type": 7, "errors": {"a": "b"}}'),
        ("application/problem+json", b'{"errors": 5}'),
        ("application/problem+json; charset=utf-8", b'{"type": "https://a.test/of/a-proxy", "title": "x"}'),
    ],
)
def test_an_answer_that_is_of_no_kind_is_an_api_error(content_type: str, content: bytes) -> None:
    request = httpx.Request("GET", "http://a.test/v1/jobs")
    with pytest.raises(ApiError) as caught:
        require(httpx.Response(418, headers={"Content-Type": content_type}, content=content, request=request))
    assert (caught.value.status, list(caught.value.errors)) == (418, [])


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'{"hello": 1}', b'{"items": [5], "next_cursor": null}', b"<"])
async def test_an_answer_of_something_else(face: str, body: bytes) -> None:
    async with answering(answer("application/json", body)) as (url, _), client_at(face, url) as client:
        for call in (
            lambda: client.get(uuid4()),
            lambda: client.wait(uuid4(), 5),
            client.list,
            lambda: client.submit("add", a=1),
            lambda: client.submit_all([Submission(task="add")]),
            lambda: client.transitions(uuid4()),
            lambda: client.log(uuid4()),
            lambda: client.get_batch(uuid4()),
            lambda: client.cancel_batch(uuid4()),
            client.list_schedules,
            client.stats,
            lambda: client.get_schedule("x"),
        ):
            with pytest.raises(ApiError, match=f"Not an answer of Jobtrail: {url}/.* answers, but not with "):
                await call()


HELLO = b'event: hello\ndata: {"since": "7-12345678-0"}\n\n'


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    "answered",
    [
        answer("text/html", b"<html>"),
        answer("text/html", b"<html>", 202),
        answer("text/event-stream", b"event: hello\ndata: <\n\n"),
        answer("text/event-stream", b'event: hello\ndata: {"since": 5}\n\n'),
        answer("text/event-stream", HELLO + b"event: transition\ndata: {}\n\n"),
        answer("text/event-stream", HELLO + b"event: log\ndata: []\n\n"),
        answer("text/event-stream", HELLO + b"event: end\ndata: null\n\n"),
        answer("text/event-stream", HELLO + b"event: gap\ndata: \n\n"),
        answer("text/event-stream", HELLO + "id: ä\n\n".encode()),
    ],
)
async def test_a_stream_of_something_else(face: str, answered: bytes) -> None:
    async with answering(answered) as (url, _), client_at(face, url) as client:
        with pytest.raises(ApiError, match=f"Not an answer of Jobtrail: {url}/events.* answers, but not with events"):
            await anext(client.events())


async def test_what_can_be_no_header_is_refused_at_the_call() -> None:
    for key in ("ä", "a\n", ""):
        with pytest.raises(ValueError, match="access key"):
            AsyncClient("http://a.test/v1", key)
    for url in ("http://[::1", "http://", "a.test"):
        with pytest.raises(ValueError, match="is no address of a service"):
            Client(url)
    async with AsyncClient("http://a.test/v1") as client:
        for call in (client.events, partial(client.job_events, uuid4())):
            with pytest.raises(ValueError, match=r"since='\\xe4' is no id"):
                call(since="ä")
    with Client("http://a.test/v1") as blocking, pytest.raises(ValueError, match="is no id"):
        blocking.events(since="7\n")


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
