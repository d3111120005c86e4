"""Bodies that are refused before anything is stored."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from support.service import MAX_BODY, Service
from support.world import Place

DEEP = "[" * 70 + "]" * 70

# body of POST /jobs, status, kind, pointer of the first error
BODIES = {
    "broken": ("{", 400, "not-json", None),
    "empty": ("", 400, "not-json", None),
    "two values": ('{"task":"noop"} {}', 400, "not-json", None),
    "invalid UTF-8": (b'{"task":"\xff"}', 400, "not-json", None),
    "byte order mark": ('\ufeff{"task":"noop"}', 400, "not-json", None),
    "single quotes": ("{'task':'noop'}", 400, "not-json", None),
    "not an object": ("[]", 422, "invalid-input", ""),
    "null": ("null", 422, "invalid-input", ""),
    "a number": ("7", 422, "invalid-input", ""),
    "a text": ('"noop"', 422, "invalid-input", ""),
    "NaN": ('{"task":"noop","args":{"n":NaN}}', 422, "invalid-input", "/args/n"),
    "Infinity": ('{"task":"noop","args":{"n":-Infinity}}', 422, "invalid-input", "/args/n"),
    "NUL": (r'{"task":"noop","args":{"n":"\u0000"}}', 422, "invalid-input", "/args/n"),
    "NUL in a key": (r'{"task":"noop","args":{"a\u0000":1}}', 422, "invalid-input", r"/args/a\u0000"),
    "NUL in a tag": (r'{"task":"noop","tags":["\u0000"]}', 422, "invalid-input", "/tags/0"),
    "NUL in the task": (r'{"task":"\u0000"}', 422, "invalid-input", "/task"),
    "lone surrogate": (r'{"task":"noop","args":{"n":"\ud800"}}', 422, "invalid-input", "/args/n"),
    "lone surrogate in a key": (r'{"task":"noop","args":{"\udfff":1}}', 422, "invalid-input", r"/args/\udfff"),
    "too deep": (f'{{"task":"noop","args":{{"n":{DEEP}}}}}', 422, "invalid-input", "/args/n" + "/0" * 62),
    "far too deep": ("[" * 50_000, 422, "invalid-input", "/0" * 64),
    "beyond a double": ('{"task":"noop","args":{"n":1e400}}', 422, "invalid-input", "/args/n"),
    "too many digits": (f'{{"task":"noop","args":{{"n":{"1" * 401}}}}}', 422, "invalid-input", "/args/n"),
    "a name twice": ('{"task":"noop","task":"nothing"}', 422, "invalid-input", "/task"),
    "a name twice, once escaped": (r'{"task":"noop","args":{"a":1,"\u0061":1}}', 422, "invalid-input", "/args/a"),
    "no task": ("{}", 422, "invalid-input", "/task"),
    "task null": ('{"task":null}', 422, "invalid-input", "/task"),
    "task empty": ('{"task":""}', 422, "invalid-input", "/task"),
    "task too long": (json.dumps({"task": "x" * 201}), 422, "invalid-input", "/task"),
    "unknown task": ('{"task":"nop"}', 422, "unknown-task", "/task"),
    "unknown field": ('{"task":"noop","speed":1}', 422, "invalid-input", "/speed"),
    "odd unknown field": ('{"task":"noop","a/b~c":1}', 422, "invalid-input", "/a~1b~0c"),
    "args a list": ('{"task":"noop","args":[]}', 422, "invalid-input", "/args"),
    "args null": ('{"task":"noop","args":null}', 422, "invalid-input", "/args"),
    "args of the wrong type": ('{"task":"noop","args":{"n":"x"}}', 422, "invalid-arguments", "/args/n"),
    "unknown argument": ('{"task":"noop","args":{"m":1}}', 422, "invalid-arguments", "/args/m"),
    "missing argument": ('{"task":"fail"}', 422, "invalid-arguments", "/args/how"),
    "priority true": ('{"task":"noop","priority":true}', 422, "invalid-input", "/priority"),
    "priority a text": ('{"task":"noop","priority":"5"}', 422, "invalid-input", "/priority"),
    "priority 1.5": ('{"task":"noop","priority":1.5}', 422, "invalid-input", "/priority"),
    "priority 5.5": ('{"task":"noop","priority":5.5}', 422, "invalid-input", "/priority"),
    "priority 10": ('{"task":"noop","priority":10}', 422, "invalid-input", "/priority"),
    "priority -1": ('{"task":"noop","priority":-1}', 422, "invalid-input", "/priority"),
    "priority huge": (f'{{"task":"noop","priority":{"9" * 300}}}', 422, "invalid-input", "/priority"),
    "max_attempts true": ('{"task":"noop","max_attempts":true}', 422, "invalid-input", "/max_attempts"),
    "max_attempts a text": ('{"task":"noop","max_attempts":"5"}', 422, "invalid-input", "/max_attempts"),
    "max_attempts 0": ('{"task":"noop","max_attempts":0}', 422, "invalid-input", "/max_attempts"),
    "max_attempts 1001": ('{"task":"noop","max_attempts":1001}', 422, "invalid-input", "/max_attempts"),
    "ttl true": ('{"task":"noop","ttl":true}', 422, "invalid-input", "/ttl"),
    "ttl a text": ('{"task":"noop","ttl":"5"}', 422, "invalid-input", "/ttl"),
    "ttl -1": ('{"task":"noop","ttl":-1}', 422, "invalid-input", "/ttl"),
    "ttl too long": ('{"task":"noop","ttl":1e300}', 422, "invalid-input", "/ttl"),
    "timeout true": ('{"task":"noop","timeout":true}', 422, "invalid-input", "/timeout"),
    "timeout a text": ('{"task":"noop","timeout":"5"}', 422, "invalid-input", "/timeout"),
    "timeout 0": ('{"task":"noop","timeout":0}', 422, "invalid-input", "/timeout"),
    "timeout too long": ('{"task":"noop","timeout":1e9}', 422, "invalid-input", "/timeout"),
    "run_at without a zone": ('{"task":"noop","run_at":"2030-01-31T12:00:00"}', 422, "invalid-input", "/run_at"),
    "run_at a number": ('{"task":"noop","run_at":1900000000}', 422, "invalid-input", "/run_at"),
    "run_at a number as text": ('{"task":"noop","run_at":"1900000000"}', 422, "invalid-input", "/run_at"),
    "run_at a word": ('{"task":"noop","run_at":"tomorrow"}', 422, "invalid-input", "/run_at"),
    "run_at a date": ('{"task":"noop","run_at":"2030-01-31"}', 422, "invalid-input", "/run_at"),
    "run_at no day": ('{"task":"noop","run_at":"2030-02-30T12:00:00Z"}', 422, "invalid-input", "/run_at"),
    "run_at on the last day": ('{"task":"noop","run_at":"9999-12-31T00:00:00Z"}', 422, "invalid-input", "/run_at"),
    "run_at on the first day": ('{"task":"noop","run_at":"0001-01-01T09:20:05Z"}', 422, "invalid-input", "/run_at"),
    "run_at true": ('{"task":"noop","run_at":true}', 422, "invalid-input", "/run_at"),
    "run_at after all years": (
        '{"task":"noop","run_at":"9999-12-31T23:59:59-01:00"}', 422, "invalid-input", "/run_at"
    ),
    "run_at before all years": (
        '{"task":"noop","run_at":"0001-01-01T00:00:00+01:00"}', 422, "invalid-input", "/run_at"
    ),
    "queue empty": ('{"task":"noop","queue":""}', 422, "invalid-input", "/queue"),
    "queue with a space": ('{"task":"noop","queue":"a b"}', 422, "invalid-input", "/queue"),
    "queue with a line break": (r'{"task":"noop","queue":"a\n"}', 422, "invalid-input", "/queue"),
    "queue too long": (json.dumps({"task": "noop", "queue": "x" * 101}), 422, "invalid-input", "/queue"),
    "tags a text": ('{"task":"noop","tags":"a"}', 422, "invalid-input", "/tags"),
    "tags null": ('{"task":"noop","tags":null}', 422, "invalid-input", "/tags"),
    "a tag that is no text": ('{"task":"noop","tags":["a",1]}', 422, "invalid-input", "/tags/1"),
    "a tag too long": (json.dumps({"task": "noop", "tags": ["x" * 65]}), 422, "invalid-input", "/tags/0"),
    "too many tags": (json.dumps({"task": "noop", "tags": ["x"] * 21}), 422, "invalid-input", "/tags"),
    "too large": (json.dumps({"task": "noop", "args": {"n": "x" * MAX_BODY}}), 413, "body-too-large", None),
}  # fmt: skip


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("body", "status", "kind", "pointer"), BODIES.values(), ids=BODIES)
async def test_a_body(
    caller: httpx.AsyncClient, body: str | bytes, status: int, kind: str, pointer: str | None
) -> None:
    answer = await caller.post("jobs", content=body, headers={"Content-Type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["type"].rpartition("/")[2]) == (status, kind), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Trace-Id"] == problem["trace_id"]
    assert problem["instance"] == f"{caller.base_url.path}jobs"
    assert [each["pointer"] for each in problem.get("errors", [])][:1] == ([] if pointer is None else [pointer])


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "text/json", "json", ";", "\xff"],
)
@pytest.mark.parametrize("path", ["jobs", "jobs/batch"])
async def test_a_body_that_is_not_announced_as_json(
    caller: httpx.AsyncClient, path: str, content_type: str | None
) -> None:
    headers = [] if content_type is None else [("Content-Type", content_type.encode("latin-1"))]
    answer = await caller.post(path, content=b'{"task":"noop"}', headers=headers)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (415, "not-json-content")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/vnd.jobs+json",
        "application/json;",
    ],
)
async def test_a_body_that_is_announced_as_json(caller: httpx.AsyncClient, content_type: str) -> None:
    answer = await caller.post("jobs", content=b'{"task":"noop"}', headers={"Content-Type": content_type})
    assert answer.status_code == 202


@pytest.mark.usefixtures("untouched")
async def test_a_body_is_not_read_to_its_end_when_it_says_that_it_is_too_long(
    caller: httpx.AsyncClient,
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    headers = {"Content-Type": "application/json", "Content-Length": str(MAX_BODY + 1)}
    answer = await caller.post("jobs", content=endless(), headers=headers)
    assert (answer.status_code, str(MAX_BODY) in answer.json()["detail"]) == (413, True)


@pytest.mark.usefixtures("untouched")
async def test_a_body_is_read_no_further_than_the_limit(caller: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 10_000
            assert sent <= MAX_BODY + 20_000
            yield b" " * 10_000

    answer = await caller.post("jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize("length", ["abc", "-1", "9" * 5000, "²", ""])
async def test_a_length_that_is_none(caller: httpx.AsyncClient, length: str) -> None:
    headers = [("Content-Type", b"application/json"), ("Content-Length", length.encode("latin-1"))]
    answer = await caller.post("jobs", content=b'{"task":"noop"}', headers=headers)
    assert answer.status_code in (202, 413)


async def test_a_caller_that_goes_away(service: Service, place: Place) -> None:
    """Nobody reads the answer; nothing may be stored or thrown."""
    scope = {
        "type": "http", "method": "POST", "path": "/v1/jobs", "raw_path": b"/v1/jobs", "query_string": b"",
        "root_path": "", "scheme": "http", "http_version": "1.1", "server": ("jobs.test", 80), "client": ("x", 1),
        "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    messages = [{"type": "http.request", "body": b'{"task":', "more_body": True}, {"type": "http.disconnect"}]
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return messages.pop(0)

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await service.app(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 400
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0
