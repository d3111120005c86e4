"""Whatever is sent, no 500: every answer is ours, and every refusal is a problem."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.service import Service

TEXTS = [
    "", " ", "\0", "a\0b", "\x01", "\x7f", "\x85", "\n", "\r\n", "ä", "\u2028", "\ufeff", "\ufffd", "\uffff", "😀",
    "\udc80", "\ud800", "%", "%%", "%00", "%zz", "../..", "..", "/", "//", "\\", "'", '"', "';--", "{}", "{0}",
    "$1", ":x", "%(a)s", "null", "true", "NaN", "-1", "0", "1e999", "9" * 400, "9" * 5000, "x" * 3000,
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "00000000-0000-0000-0000-000000000000",
    "{00000000-0000-0000-0000-000000000000}", "urn:uuid:" + "0" * 32, "٣", "a,b", "noop", "pending",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 5, 10**18, 10**300, -(10**300), 0.0, -0.0, 1.5, 1e-300, 1e308, 5e-324, "", "5",
    "x" * 5000, "\0", "\ud800", "😀", [], [[]], [None], ["\0"], {}, {"": 1}, {"a": {}}, {"\ud800": 1}, {"\0": "\0"},
    [1, "2", None, True, {}], {str(n): n for n in range(200)}, "2030-01-31T12:00:00Z", "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59", "-262143-01-01T00:00:00Z", "+99999-01-01T00:00:00Z", "2030-01-31T24:00:00Z",
    "2030-01-31T12:00:00+24:00", "P1D",
]  # fmt: skip
RAW = [
    b"", b" ", b"\0", b"\xff", b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b"{", b"}", b"[", b"[" * 99_999,
    b'{"a":' * 9_000, b'"', b'"\\', b'"\\ud800"', b"nul", b"NaN", b"-Infinity", b"1e99999", b"1" * 9_999, b"-",
    b"01", b"1.", b".5", b"{}{}", b"[1,]", b'{"a":1,}', b'{"task":"noop"}\0', b"\x1f\x8b\x08", b"task=noop",
    b"<a/>", b"%7B%7D", b'{"task":"noop","args":{"n":1e99999}}', b'{"task":"\\u0000"}',
    b'{"task":"noop","tags":["\\ud800"]}', b'{"jobs":[' + b'{"task":"noop"},' * 900 + b"]}",
]  # fmt: skip
FIELDS = [
    "task", "args", "queue", "priority", "tags", "run_at", "ttl", "timeout", "max_attempts", "reason", "jobs", "action",
    "filter", "dry_run", "cron", "every", "zone", "starts_at", "ends_at", "jitter", "url",
    "tasks", "statuses", "secret", "callback_url", "\0", "a/b~",
]  # fmt: skip
FILTERS = [
    "status", "task", "queue", "tag", "trace_id", "created_after", "created_before", "limit", "cursor", "include",
    "reason", "since",
]  # fmt: skip
HEADERS = [
    "idempotency-key", "traceparent", "if-match", "if-none-match", "content-type", "content-length", "host",
    "accept", "prefer", "last-event-id", "transfer-encoding", "x-forwarded-host",
]  # fmt: skip
PATHS = [
    ("POST", "/v1/jobs"), ("POST", "/v1/jobs/batch"), ("POST", "/v1/jobs/bulk"), ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{}"), ("PATCH", "/v1/jobs/{}"), ("DELETE", "/v1/jobs/{}"), ("GET", "/v1/jobs/{}/transitions"),
    ("GET", "/v1/jobs/{}/events"), ("GET", "/v1/events"),
    ("POST", "/v1/jobs/{}/cancel"), ("POST", "/v1/jobs/{}/retry"), ("GET", "/v1/tasks"), ("GET", "/v1/tasks/{}"),
    ("GET", "/v1/nodes"), ("GET", "/v1/pauses"), ("PUT", "/v1/pauses/queue/{}"), ("PUT", "/v1/pauses/{}/noop"),
    ("DELETE", "/v1/pauses/task/{}"), ("GET", "/v1/audit"), ("GET", "/v1/audit/{}"), ("GET", "/v1/problems"),
    ("GET", "/v1/schedules"), ("GET", "/v1/schedules/{}"), ("PUT", "/v1/schedules/{}"), ("PUT", "/v1/schedules/often"),
    ("DELETE", "/v1/schedules/{}"), ("POST", "/v1/schedules/{}/pause"), ("POST", "/v1/schedules/{}/resume"),
    ("POST", "/v1/schedules/{}/run"), ("POST", "/v1/schedules/{}/backfill"), ("POST", "/v1/schedules/often/backfill"),
    ("GET", "/v1/webhooks"), ("GET", "/v1/webhooks/{}"), ("PUT", "/v1/webhooks/{}"), ("PUT", "/v1/webhooks/ops"),
    ("POST", "/v1/webhooks/{}/rotate"), ("DELETE", "/v1/webhooks/{}"),
    ("GET", "/v1/limits/{}"), ("PUT", "/v1/limits/{}"), ("DELETE", "/v1/limits/{}"), ("GET", "/v1/limits"),
    ("GET", "/v1/problems/{}"), ("GET", "/health"), ("GET", "/health/live"), ("GET", "/health/ready"),
    ("GET", "/{}"), ("GET", "/v1/{}"),
]  # fmt: skip
BODIES_OF = {"POST", "PUT", "PATCH"}


class Caller:
    """Speaks ASGI itself: no client library puts right what is sent. Counts what was asked."""

    def __init__(self, service: Service) -> None:
        self.app = service.app
        self.statuses: dict[int, int] = {}

    async def send(
        self,
        method: str,
        path: str,
        query: bytes = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
        body: bytes = b"",
    ) -> None:
        headers = [(b"content-type", b"application/json")] if headers is None else headers
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(errors="replace"), "query_string": query, "root_path": "",
            "headers": headers, "server": ("jobs.test", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []
        requests: list[dict[str, object]] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, object]:
            if requests:
                return requests.pop()
            await asyncio.Event().wait()  # it stays
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)  # type: ignore[arg-type]
        self._look(sent, f"{method} {path!r:.200} ?{query!r:.200} {headers!r:.200} {body!r:.200}")

    def _look(self, sent: list[dict[str, Any]], asked: str) -> None:
        status = sent[0]["status"]
        headers = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
        self.statuses[status] = self.statuses.get(status, 0) + 1
        assert status in {200, 201, 202, 204, 304, 400, 404, 405, 409, 412, 413, 415, 422}, f"{status} for {asked}"
        assert len(headers["x-trace-id"]) == 32, asked
        content = b"".join(each.get("body", b"") for each in sent[1:])
        if status >= 400:
            problem = json.loads(content)
            assert headers["content-type"] == "application/problem+json", asked
            assert (problem["status"], problem["trace_id"]) == (status, headers["x-trace-id"]), asked
            assert ("errors" in problem) == (status == 422), asked
            assert len(content) < 200_000, asked


def percent(text: str) -> bytes:
    return "".join(f"%{each:02x}" for each in text.encode(errors="surrogatepass")).encode()


@pytest.fixture
async def caller(service: Service) -> Caller:
    return Caller(service)


def pairs(names: list[str], *, whole: bool) -> Iterator[tuple[str, str]]:
    """Each name with each text; else each text once."""
    yield from itertools.product(names, TEXTS) if whole else zip(itertools.cycle(names), TEXTS, strict=False)


def bodies(path: str) -> Iterator[bytes]:
    """One thing wrong at a time."""
    yield from RAW
    for field, value in itertools.product(
        FIELDS if path in ("/v1/jobs", "/v1/jobs/batch", "/v1/jobs/{}") else [], VALUES
    ):
        wanted = {"task": "noop", field: value} if path in ("/v1/jobs", "/v1/jobs/batch") else {field: value}
        yield json.dumps({"jobs": [wanted]} if path == "/v1/jobs/batch" else wanted).encode()
    if path == "/v1/jobs":
        for task, name, value in itertools.product(("noop", "give"), ("n", "what"), VALUES):
            yield json.dumps({"task": task, "args": {name: value}}).encode()
    if path == "/v1/jobs/bulk":
        for name, value in itertools.product(FILTERS, [*VALUES, *([text] for text in TEXTS)]):
            wanted = {"task": ["nothing"], name: value}
            yield json.dumps({"action": "cancel", "filter": wanted, "dry_run": True}).encode()


@pytest.mark.parametrize(("method", "path"), [each for each in PATHS if each[0] in BODIES_OF])
async def test_bodies(caller: Caller, service: Service, method: str, path: str) -> None:
    job_id = (await service.submitted())["id"]
    for body in bodies(path):
        await caller.send(method, path.format(job_id), body=body)
    assert {400, 422} & set(caller.statuses)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/audit/slowest_jobs", "/v1/jobs/{}", "/health"])
async def test_queries(caller: Caller, service: Service, path: str) -> None:
    path = path.format((await service.submitted())["id"])
    for name, text in pairs(FILTERS, whole=path == "/v1/jobs"):
        await caller.send("GET", path, query=name.encode() + b"=" + percent(text))
    for query in (b"\xff", b"=", b"&&&", b"%f", b"=%00", b"a=\xc3\xa4", b"?" * 100, b"&".join([b"tag=a"] * 2000)):
        await caller.send("GET", path, query=query)
    assert 200 in caller.statuses


async def test_paths(caller: Caller, service: Service) -> None:
    job_id = (await service.submitted())["id"]
    for (method, path), text in itertools.product(PATHS, [*TEXTS, job_id, job_id.upper(), job_id.replace("-", "")]):
        if "{" in path:
            await caller.send(method, path.format(text), body=b"{}")
    for method, (_, path) in itertools.product(("HEAD", "OPTIONS", "TRACE", "PUT", "BREW", "get", ""), PATHS):
        await caller.send(method, path.format(job_id))
    assert {200, 404, 405, 422} <= set(caller.statuses)


async def test_headers(caller: Caller, service: Service) -> None:
    job = f"/v1/jobs/{(await service.submitted())['id']}"
    calls = [("POST", "/v1/jobs", b'{"task":"noop"}'), ("GET", job, b""), ("PATCH", job, b"{}")]
    for method, path, body in calls:
        for name, text in pairs(HEADERS, whole=method == "POST"):
            header = (name.encode(), text.encode("latin-1", errors="replace"))
            rest = [] if name == "content-type" else [(b"content-type", b"application/json")]
            await caller.send(method, path, headers=[header, *rest], body=body)
            if method == "POST":
                await caller.send(method, path, headers=[header, *rest, header], body=body)
    assert {200, 202, 412, 415, 422} <= set(caller.statuses)
