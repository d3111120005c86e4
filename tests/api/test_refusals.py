"""What is refused before anything is stored, in the stand-alone service and in a host's app alike."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from jobtrail.api.routes import install, routes
from support.database import Place
from support.house import desk_at
from support.service import MAX_BODY, OPEN, Service, client_of


@pytest.fixture(scope="module", params=["/v1", "/inner"])
async def caller(kept_place: Place, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """Of the service, or of a host's app that has our routes under a prefix. One database for all."""
    service = Service(desk_at(kept_place))
    if request.param == "/v1":
        install(service.app, service.door)
    else:
        service.app.include_router(routes(service.door, OPEN), prefix="/inner")
    async with client_of(service.app) as client:
        client.base_url = httpx.URL(f"http://jobs.test{request.param}/")
        yield client


@pytest.fixture
async def untouched(kept_place: Place) -> AsyncIterator[None]:
    """Nothing is stored or moved meanwhile."""
    count = "SELECT (SELECT count(*) FROM jobtrail.jobs) AS jobs, (SELECT count(*) FROM jobtrail.transitions) AS moves"
    before = await kept_place.rows(count)
    yield
    assert await kept_place.rows(count) == before


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
    "priority 5.0": ('{"task":"noop","priority":5.0}', 422, "invalid-input", "/priority"),
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
    assert (await caller.get(f"http://jobs.test{problem['type']}")).json()["status"] == status


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
@pytest.mark.parametrize(
    "key",
    [
        "",
        '""',
        '"',
        '"a',
        'a"',
        '"a"b',
        '"a\\',
        '"\\n"',
        '"ä"',
        "ä",
        "a b",
        '"a\tb"',
        "x" * 256,
        f'"{"x" * 256}"',
        '"a";b=1',
        "\x00",
    ],
)
async def test_a_key_that_is_none(caller: httpx.AsyncClient, key: str) -> None:
    answer = await caller.post("jobs", json={"task": "noop"}, headers=[("Idempotency-Key", key.encode("latin-1"))])
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key:")


@pytest.mark.usefixtures("untouched")
async def test_two_keys(caller: httpx.AsyncClient) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await caller.post("jobs", json={"task": "noop"}, headers=headers)).status_code == 422


TWICE = "created_before=2026-01-01T00:00:00Z"
QUERIES = {
    "unknown": ("colour=red", "?colour"),
    "a typo": ("stauts=failed", "?stauts"),
    "status": ("status=done", "?status"),
    "status empty": ("status=", "?status"),
    "one good, one bad": ("status=failed&status=FAILED", "?status"),
    "limit 0": ("limit=0", "?limit"),
    "limit 201": ("limit=201", "?limit"),
    "limit huge": ("limit=9999999999999", "?limit"),
    "limit enormous": (f"limit={'9' * 5000}", "?limit"),
    "limit a word": ("limit=all", "?limit"),
    "limit twice": ("limit=1&limit=2", "?limit"),
    "cursor": ("cursor=xyz", "?cursor"),
    "cursor NUL": ("cursor=%00", "?cursor"),
    "cursor empty": ("cursor=", "?cursor"),
    "cursor of another version": (f"cursor={'A' * 34}", "?cursor"),
    "cursor beyond all years": ("cursor=AX__________AAAAAAAAAAAAAAAAAAAAAA", "?cursor"),
    "cursor twice": ("cursor=a&cursor=a", "?cursor"),
    "created_after": ("created_after=garbage", "?created_after"),
    "created_after a number": ("created_after=1700000000", "?created_after"),
    "created_after without a zone": ("created_after=2026-01-01T00:00:00", "?created_after"),
    "created_after with a lost plus": ("created_after=2026-01-01T00:00:00+01:00", "?created_after"),
    "created_after year 0": ("created_after=0000-01-01T00:00:00Z", "?created_after"),
    "created_after before all years": ("created_after=0001-01-01T00:00:00%2B23:59", "?created_after"),
    "created_before after all years": ("created_before=9999-12-31T23:59:59-23:59", "?created_before"),
    "created_before twice": (f"{TWICE}&{TWICE}", "?created_before"),
    "task NUL": ("task=%00", "?task"),
    "queue NUL": ("queue=a%00b", "?queue"),
    "tag NUL": ("tag=%00", "?tag"),
    "tag empty": ("tag=", "?tag"),
    "task too long": (f"task={'x' * 201}", "?task"),
    "trace_id": ("trace_id=xyz", "?trace_id"),
    "trace_id in capitals": (f"trace_id={'A' * 32}", "?trace_id"),
    "trace_id with a line break": (f"trace_id={'a' * 32}%0a", "?trace_id"),
    "include": ("include=args,secrets", "?include"),
    "include empty": ("include=", "?include"),
    "too many values": ("&".join(["task=a"] * 51), "?task"),
    "NUL in a name": ("a%00b=1", r"?a\u0000b"),
    "not UTF-8": ("task=%ff", "?"),
    "not UTF-8 in a name": ("%ff=1", "?"),
}  # fmt: skip


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("query", "pointer"), QUERIES.values(), ids=QUERIES)
async def test_a_query_of_the_list(caller: httpx.AsyncClient, query: str, pointer: str) -> None:
    answer = await caller.get(f"jobs?{query}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json"), answer.text
    assert {each["pointer"] for each in answer.json()["errors"]} == {pointer}


NO_ID = "00000000-0000-0000-0000-000000000000"
CALLS = {
    "read": ("GET", f"jobs/{NO_ID}", None, 404, "job-not-found"),
    "read what is no id": ("GET", "jobs/abc", None, 422, "invalid-input"),
    "read a huge id": ("GET", f"jobs/{'9' * 3000}", None, 422, "invalid-input"),
    "read an id with NUL": ("GET", "jobs/%00", None, 422, "invalid-input"),
    "read an id that is not UTF-8": ("GET", "jobs/%ff", None, 422, "invalid-input"),
    "read, if changed": ("GET", f"jobs/{NO_ID}", None, 404, "job-not-found"),
    "history": ("GET", f"jobs/{NO_ID}/transitions", None, 404, "job-not-found"),
    "cancel": ("POST", f"jobs/{NO_ID}/cancel", None, 404, "job-not-found"),
    "cancel with a reason too long": ("POST", f"jobs/{NO_ID}/cancel", {"reason": "x" * 1001}, 422, "invalid-input"),
    "cancel with a number": ("POST", f"jobs/{NO_ID}/cancel", {"reason": 1}, 422, "invalid-input"),
    "cancel with NUL": ("POST", f"jobs/{NO_ID}/cancel", {"reason": "\0"}, 422, "invalid-input"),
    "cancel with a typo": ("POST", f"jobs/{NO_ID}/cancel", {"raeson": "x"}, 422, "invalid-input"),
    "cancel with a list": ("POST", f"jobs/{NO_ID}/cancel", [], 422, "invalid-input"),
    "delete": ("DELETE", f"jobs/{NO_ID}", None, 404, "job-not-found"),
    "delete with NUL": ("DELETE", f"jobs/{NO_ID}?reason=%00", None, 422, "invalid-input"),
    "delete with a reason too long": ("DELETE", f"jobs/{NO_ID}?reason={'x' * 1001}", None, 422, "invalid-input"),
    "delete with a typo": ("DELETE", f"jobs/{NO_ID}?raeson=x", None, 422, "invalid-input"),
    "delete with two reasons": ("DELETE", f"jobs/{NO_ID}?reason=a&reason=b", None, 422, "invalid-input"),
    "retry": ("POST", f"jobs/{NO_ID}/retry", None, 404, "job-not-found"),
    "amend": ("PATCH", f"jobs/{NO_ID}", {}, 404, "job-not-found"),
    "amend to nothing": ("PATCH", f"jobs/{NO_ID}", None, 415, "not-json-content"),
    "amend the status": ("PATCH", f"jobs/{NO_ID}", {"status": "failed"}, 422, "invalid-input"),
    "amend the priority to null": ("PATCH", f"jobs/{NO_ID}", {"priority": None}, 422, "invalid-input"),
    "amend the tags to null": ("PATCH", f"jobs/{NO_ID}", {"tags": None}, 422, "invalid-input"),
    "amend the ttl to true": ("PATCH", f"jobs/{NO_ID}", {"ttl": True}, 422, "invalid-input"),
    "a task": ("GET", "tasks/nope", None, 404, "task-not-found"),
    "a question": ("GET", "audit/nope", None, 404, "question-not-found"),
    "an unknown parameter of a question": ("GET", "audit/slowest_jobs?x=1", None, 422, "invalid-input"),
    "a limit of a question": ("GET", "audit/slowest_jobs?limit=x", None, 422, "invalid-input"),
    "a parameter twice": ("GET", "audit/slowest_jobs?limit=1&limit=2", None, 422, "invalid-input"),
    "a parameter with NUL": ("GET", "audit/slowest_jobs?task=%00", None, 422, "invalid-input"),
    "a kind of problem": ("GET", "problems/nope", None, 404, "not-found"),
}  # fmt: skip


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("method", "path", "body", "status", "kind"), CALLS.values(), ids=CALLS)
async def test_a_call(caller: httpx.AsyncClient, method: str, path: str, body: object, status: int, kind: str) -> None:
    answer = await caller.request(method, path, **({} if body is None else {"json": body}))  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, kind), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Trace-Id"] == answer.json()["trace_id"]
    assert all(each["pointer"] and each["detail"] for each in answer.json().get("errors", [])) or isinstance(body, list)


@pytest.mark.usefixtures("untouched")
async def test_the_nearest_name_is_told(caller: httpx.AsyncClient) -> None:
    problem = (await caller.post("jobs", json={"task": "in_thred"})).json()
    assert "in_thread" in problem["detail"]


@pytest.mark.usefixtures("untouched")
async def test_every_flaw_is_told_at_once(caller: httpx.AsyncClient) -> None:
    body = {"task": "noop", "priority": 10, "ttl": -1, "tags": [""], "speed": 1}
    problem = (await caller.post("jobs", json=body)).json()
    assert [each["pointer"] for each in problem["errors"]] == ["/priority", "/tags/0", "/ttl", "/speed"]
    assert problem["detail"].endswith("(and 3 more)")


@pytest.mark.usefixtures("untouched")
async def test_a_thousand_flaws_are_told_in_a_short_answer(caller: httpx.AsyncClient) -> None:
    body = {"task": "noop", **{f"{'x' * 50}{n}": n for n in range(1000)}}
    answer = await caller.post("jobs", json=body)
    assert (answer.status_code, len(answer.json()["errors"])) == (422, 100)


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
