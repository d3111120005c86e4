"""Refusals before anything is stored or changed, as tables; and some of each kind among a host's routes."""

import json
from typing import Any, Final

import httpx
import pytest

from jobtrail.api.routes import routes
from support.service import MAX_BODY, OPEN, Service
from support.world import Place, services_at

JSON: Final = {"Content-Type": "application/json"}
NO_ID = "00000000-0000-0000-0000-000000000000"
REASONS = [1, True, "\0", "x" * 1001]
TIMES = [
    True, 1900000000, "1900000000", "tomorrow", "2030-01-31", "2030-01-31T12:00:00", "2030-02-30T12:00:00Z",
    "9999-12-31T00:00:00Z", "0001-01-01T09:20:05Z", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00",
]  # fmt: skip

# of each call a body that is taken, and for each of its fields values that are not
FIELDS: dict[str, tuple[dict[str, Any], dict[str, list[Any]]]] = {
    "POST jobs": ({"task": "noop"}, {
        "task": [None, "", "x" * 201, "\0", 5],
        "args": [None, []],
        "priority": [True, "5", 1.5, 10, -1, int("9" * 300)],
        "max_attempts": [True, "5", 0, 1001],
        "ttl": [True, "5", -1, 1e300],
        "timeout": [True, "5", 0, 1e9],
        "run_at": TIMES,
        "queue": ["", "a b", "a\n", "x" * 101],
        "tags": [None, "a", ["x"] * 21],
        "after": [None, "a", {}, [str(NO_ID)] * 1001],
        "speed": [1],
    }),
    "POST jobs/batch": ({}, {"jobs": [None, [], [{"task": "noop"}] * 1001]}),
    "POST batches": ({"jobs": [{"task": "noop"}]}, {
        "jobs": [None, [], {}],
        "on_done": ["noop", []],
        "after": [[]],
    }),
    f"POST batches/{NO_ID}/cancel": ({}, {"reason": REASONS, "raeson": ["x"]}),
    f"POST batches/{NO_ID}/retry": ({}, {"reason": ["x"]}),
    "POST jobs/bulk": ({"action": "cancel", "filter": {"task": ["noop"]}}, {
        "action": [None, "delete", ["cancel"]],
        "filter": [None, [], {}, {"created_after": None}],
        "dry_run": ["true", 1, None],
        "limit": [0, 10_001, "5", True, 5.5],
        "reason": REASONS,
        "force": [True],
    }),
    f"PATCH jobs/{NO_ID}": ({}, {"priority": [None, 10], "tags": [None], "ttl": [True], "status": ["failed"]}),
    f"POST jobs/{NO_ID}/cancel": ({}, {"reason": REASONS, "raeson": ["x"]}),
    f"POST jobs/{NO_ID}/retry": ({}, {"reason": ["x"]}),
    "PUT pauses/queue/default": ({}, {"reason": REASONS, "why": ["x"]}),
    "PUT schedules/often": ({"task": "noop", "every": 60}, {
        "task": [None, "", 5],
        "args": [None, [], "n=5"],
        "cron": [5, True, "x" * 201],
        "every": [0, 0.9, True, "60", -1, 1e12],
        "zone": [None, 5, "x" * 101],
        "missed": [None, "never", 1],
        "overlap": [None, "both"],
        "jitter": [None, -1, "5", 86_401],
        "starts_at": TIMES,
        "ends_at": TIMES,
        "queue": ["", "a b"],
        "priority": [-1, 10, 5.5, "5", True],
        "tags": [None, "a", ["x"] * 21],
        "pause_after": [0, 1001, "5", True, 2.5],
        "run_at": ["2030-01-31T12:00:00Z"],
    }),
    "POST schedules/often/pause": ({}, {"reason": REASONS, "why": ["x"]}),
    "PUT limits/a": ({"number": 3}, {"number": [None, "5", True, -1, 1e16], "per": [1]}),
    "POST keys": ({"name": "shop", "scopes": ["read"]}, {
        "name": [None, "", 5, "a b", "a\n", "x" * 101, "\0"],
        "scopes": [None, [], "read", {"read": True}, ["read"] * 4],
        "expires_in": [0, -1, 0.999, True, "90d", 315_360_001],
        "expires_at": [*TIMES[:6], "2020-01-31T12:00:00Z", *TIMES[7:9]],
        "hash": ["00"],
    }),
}  # fmt: skip

ANY = "an empty list would mean any: name one at least, or leave the field out"


def bulk(action: str = "cancel", /, **wanted: Any) -> dict[str, Any]:
    return {"action": action, "filter": wanted}


# a call, its body, the type of the problem, the pointer, and how the detail ends
FLAWS: list[tuple[str, Any, str, str, str]] = [
    *((call, body, "invalid-input", "", "") for call in ("jobs", "jobs/batch", "jobs/bulk") for body in ([], None, 7)),
    ("jobs", {}, "invalid-input", "/task", "Field required"),
    ("jobs", {"task": "noop", "tags": ["a", 1]}, "invalid-input", "/tags/1", ""),
    ("jobs", {"task": "noop", "tags": ["x" * 65]}, "invalid-input", "/tags/0", ""),
    ("jobs", {"task": "noop", "a/b~c": 1}, "invalid-input", "/a~1b~0c", ""),
    ("jobs", {"task": "in_thred"}, "unknown-task", "/task", "hold_in_thread?"),
    ("jobs", {"task": "noop", "args": {"n": "x"}}, "invalid-arguments", "/args/n", ""),
    ("jobs", {"task": "noop", "args": {"m": 1}}, "invalid-arguments", "/args/m", ""),
    ("jobs", {"task": "fail"}, "invalid-arguments", "/args/how", ""),
    ("jobs/batch", {"jobs": [{"task": "noop"}, {"task": "nope"}]}, "invalid-input", "/jobs/1/task", ""),
    ("jobs/batch", {"jobs": [{"task": "noop"}, {"task": "noop", "speed": 1}]}, "invalid-input", "/jobs/1/speed", ""),
    ("jobs/batch", {"jobs": [{"task": "noop"}, 7]}, "invalid-input", "/jobs/1", ""),
    ("jobs/batch", {"jobs": [{"task": "noop"}, {"task": "noop", "args": {"n": "x"}}]}, "invalid-arguments",
     "/jobs/1/args/n", ""),
    ("jobs/bulk", {"filter": {}}, "invalid-input", "/action", "Field required"),
    ("jobs/bulk", bulk(), "invalid-input", "/filter", "name something: an empty filter would mean every job"),
    ("jobs/bulk", bulk(queue=["a"], tag=[]), "invalid-input", "/filter/tag", ANY),
    ("jobs/bulk", bulk(stauts=["failed"]), "invalid-input", "/filter/stauts", "Extra inputs are not permitted"),
    ("jobs/bulk", bulk(task=["a"], limit=5), "invalid-input", "/filter/limit", ""),
    ("jobs/bulk", bulk(status="pending"), "invalid-input", "/filter/status", "Input should be a valid list"),
    ("jobs/bulk", bulk(status=["done"]), "invalid-input", "/filter/status/0", ""),
    ("jobs/bulk", bulk(task=[5]), "invalid-input", "/filter/task/0", "Input should be a valid string"),
    ("jobs/bulk", bulk(task=["x" * 201]), "invalid-input", "/filter/task/0", ""),
    ("jobs/bulk", bulk(task=["x"] * 51), "invalid-input", "/filter/task", ""),
    ("jobs/bulk", bulk(trace_id=["xyz"]), "invalid-input", "/filter/trace_id/0", ""),
    ("jobs/bulk", bulk(created_before=1900000000), "invalid-input", "/filter/created_before", ""),
    ("jobs/bulk", bulk("retry", task=["a"]) | {"reason": "x"}, "invalid-input", "/reason",
     "only a cancel has a reason"),
    ("jobs/bulk", bulk("retry", status=["failed", "pending"]), "invalid-input", "/filter/status/1",
     "only one that is failed or cancelled"),
    ("jobs/bulk", bulk(status=["failed"]), "invalid-input", "/filter/status/0", "only one that is pending or running"),
    ("keys", {"name": "shop"}, "invalid-input", "/scopes", "Field required"),
    ("keys", {"name": "shop", "scopes": ["read", "admin"]}, "invalid-input", "/scopes/1", ""),
    ("keys", {"name": "shop", "scopes": ["read"], "expires_in": 60, "expires_at": "2029-01-31T12:00:00Z"},
     "invalid-input", "/expires_at", ""),
]  # fmt: skip

# of POST /jobs: what is no JSON, and what PostgreSQL cannot hold; `task/storable` has the rest
RAW: list[tuple[str | bytes, int, str, str | None]] = [
    ("{", 400, "not-json", None),
    ("", 400, "not-json", None),
    ('{"task":"noop"} {}', 400, "not-json", None),
    (b'{"task":"\xff"}', 400, "not-json", None),
    ('{"task":"noop","args":{"n":NaN}}', 422, "invalid-input", "/args/n"),
    ('{"task":"noop","args":{"n":-Infinity}}', 422, "invalid-input", "/args/n"),
    (r'{"task":"noop","args":{"a\u0000":1}}', 422, "invalid-input", r"/args/a\u0000"),
    (r'{"task":"noop","tags":["\ud800"]}', 422, "invalid-input", "/tags/0"),
    ('{"task":"noop","args":{"n":1e400}}', 422, "invalid-input", "/args/n"),
    (f'{{"task":"noop","args":{{"n":{"1" * 401}}}}}', 422, "invalid-input", "/args/n"),
    (f'{{"task":"noop","args":{{"n":{"[" * 70 + "]" * 70}}}}}', 422, "invalid-input", "/args/n" + "/0" * 62),
    ('{"task":"noop","task":"nothing"}', 422, "invalid-input", "/task"),
    (json.dumps({"task": "noop", "args": {"n": "x" * MAX_BODY}}), 413, "body-too-large", None),
]

# by path and pointer
QUERIES: dict[str, dict[str, list[str]]] = {
    "GET jobs": {
        "?colour": ["colour=red"],
        "?status": ["status=done", "status=", "status=failed&status=FAILED"],
        "?limit": ["limit=0", "limit=201", f"limit={'9' * 5000}", "limit=all", "limit=1&limit=2"],
        "?cursor": [
            "cursor=xyz", "cursor=%00", "cursor=", f"cursor={'A' * 34}", "cursor=AX__________AAAAAAAAAAAAAAAAAAAAAA",
            "cursor=a&cursor=a",
        ],
        "?created_after": [
            "created_after=garbage", "created_after=1700000000", "created_after=2026-01-01T00:00:00",
            "created_after=2026-01-01T00:00:00+01:00", "created_after=0000-01-01T00:00:00Z",
            "created_after=0001-01-01T00:00:00%2B23:59",
        ],
        "?created_before": [
            "created_before=9999-12-31T23:59:59-23:59", "&".join(["created_before=2026-01-01T00:00:00Z"] * 2),
        ],
        "?task": ["task=%00", f"task={'x' * 201}", "&".join(["task=a"] * 51)],
        "?tag": ["tag=", "tag=%00"],
        "?trace_id": ["trace_id=xyz", f"trace_id={'A' * 32}", f"trace_id={'a' * 32}%0a"],
        "?include": ["include=args,secrets", "include="],
        r"?a\u0000b": ["a%00b=1"],
        "?": ["task=%ff", "%ff=1"],
    },
    f"GET jobs/{NO_ID}/log": {
        "?limit": ["limit=0", "limit=1001", "limit=x", "limit=1&limit=2"],
        "?attempt": ["attempt=0", "attempt="],
        "?level": ["level=INFO"],
    },
    f"GET jobs/{NO_ID}/transitions": {"?cursor": ["cursor=x", "cursor=0", "cursor=-1", f"cursor={'1' * 10}"]},
    f"DELETE jobs/{NO_ID}": {
        "?reason": ["reason=%00", f"reason={'x' * 1001}", "reason=a&reason=b"], "?raeson": ["raeson=x"]
    },
    "GET audit/slowest_jobs": {
        "?x": ["x=1"], "?limit": ["limit=x", "limit=1&limit=2"], "?task": ["task=%00"], "?since": ["since=x"]
    },
}  # fmt: skip

QUEUES = "a queue is known once a task, a node or a job names it; is its task's module in JOBTRAIL_TASKS?"

# what a path names, and is not there
PATHS: list[tuple[str, str, int, str, str]] = [
    *((method, f"jobs/{NO_ID}{rest}", 404, "job-not-found", "") for method, rest in (
        ("GET", ""), ("GET", "/transitions"), ("GET", "/log"), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry"),
    )),
    *(("GET", f"jobs/{each}", 422, "invalid-input", "") for each in ("abc", "9" * 3000, "%00", "%ff")),
    *((method, f"batches/{NO_ID}{rest}", 404, "batch-not-found", "") for method, rest in (
        ("GET", ""), ("POST", "/cancel"), ("POST", "/retry"),
    )),
    *(("GET", f"batches/{each}", 422, "invalid-input", "") for each in ("abc", "%00")),
    ("GET", "tasks/nope", 404, "task-not-found", "no task is named 'nope'; did you mean noop?"),
    ("GET", "audit/nope", 404, "question-not-found", ""),
    ("GET", "limits/nope", 404, "limit-not-found", "no unfinished job has the limit 'nope', and it has no override"),
    ("GET", "limits/%00", 404, "limit-not-found", ""),
    ("GET", "problems/nope", 404, "problem-not-found", ""),
    ("DELETE", f"keys/{NO_ID}", 404, "key-not-found", ""),
    ("DELETE", "keys/abcdefgh2345", 422, "invalid-input", ""),
    ("DELETE", "keys/%00", 422, "invalid-input", ""),
    *((method, *rest) for method in ("PUT", "DELETE") for rest in (
        ("pauses/queue/defualt", 404, "queue-not-found", "no queue is named 'defualt'; did you mean default?"),
        ("pauses/queue/%00", 404, "queue-not-found", rf"no queue is named '\x00': {QUEUES}"),
        ("pauses/task/nop", 404, "task-not-found", "no task is named 'nop'; did you mean noop?"),
        ("pauses/task/%00", 404, "task-not-found", r"no task is named '\x00'"),
        ("pauses/job/noop", 422, "invalid-input", "{kind}: Input should be 'queue' or 'task'"),
    )),
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("untouched")


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Trace-Id"] == answer.json()["trace_id"]
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


@pytest.mark.parametrize(("call", "field"), [(call, field) for call, (_, fields) in FIELDS.items() for field in fields])
async def test_a_field(caller: httpx.AsyncClient, call: str, field: str) -> None:
    taken, fields = FIELDS[call]
    for value in fields[field]:
        answer = await caller.request(*call.split(), json={**taken, field: value})
        told = *problem(answer), answer.json()["errors"][0]["pointer"]
        assert told == (422, "invalid-input", f"/{field}"), (value, answer.text)


@pytest.mark.parametrize(("path", "body", "kind", "pointer", "detail"), FLAWS)
async def test_a_flaw(caller: httpx.AsyncClient, path: str, body: Any, kind: str, pointer: str, detail: str) -> None:
    answer = await caller.post(path, content=json.dumps(body), headers=JSON)
    assert problem(answer) == (422, kind), answer.text
    (flaw,) = answer.json()["errors"]
    assert (flaw["pointer"], flaw["detail"][-len(detail) :] if detail else "") == (pointer, detail)


@pytest.mark.parametrize(("body", "status", "kind", "pointer"), RAW, ids=range(len(RAW)))
async def test_a_text(
    caller: httpx.AsyncClient, body: str | bytes, status: int, kind: str, pointer: str | None
) -> None:
    answer = await caller.post("jobs", content=body, headers=JSON)
    assert problem(answer) == (status, kind), answer.text
    assert [each["pointer"] for each in answer.json().get("errors", [])] == ([] if pointer is None else [pointer])


@pytest.mark.parametrize(("call", "pointer"), [(call, pointer) for call, found in QUERIES.items() for pointer in found])
async def test_a_query(caller: httpx.AsyncClient, call: str, pointer: str) -> None:
    method, path = call.split()
    for query in QUERIES[call][pointer]:
        answer = await caller.request(method, f"{path}?{query}")
        assert problem(answer) == (422, "invalid-input"), query
        assert {each["pointer"] for each in answer.json()["errors"]} == {pointer}, query


@pytest.mark.parametrize(("method", "path", "status", "kind", "detail"), PATHS)
async def test_a_path(caller: httpx.AsyncClient, method: str, path: str, status: int, kind: str, detail: str) -> None:
    answer = await caller.request(method, path)
    assert problem(answer) == (status, kind)
    assert detail in ("", answer.json()["detail"])


@pytest.mark.parametrize(
    "key",
    [
        "", '""', '"', '"a', 'a"', '"a"b', '"a\\', '"\\n"', '"ä"', "ä", "a b", '"a\tb"', "x" * 256, f'"{"x" * 256}"',
        '"a";b=1', "\x00",
    ],
)  # fmt: skip
async def test_an_idempotency_key(caller: httpx.AsyncClient, key: str) -> None:
    for headers in ([("Idempotency-Key", key.encode("latin-1"))], [("Idempotency-Key", b"a")] * 2):
        answer = await caller.post("jobs", json={"task": "noop"}, headers=headers)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key:")


async def test_a_batch_takes_no_key(caller: httpx.AsyncClient) -> None:
    body = {"jobs": [{"task": "noop"}]}
    answer = await caller.post("jobs/batch", json=body, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key:")


async def test_every_flaw_is_told_at_once_and_no_more_than_a_hundred(caller: httpx.AsyncClient) -> None:
    body = {"task": "noop", "priority": 10, "ttl": -1, "tags": [""], "speed": 1}
    answer = (await caller.post("jobs", json=body)).json()
    assert [each["pointer"] for each in answer["errors"]] == ["/priority", "/tags/0", "/ttl", "/speed"]
    assert answer["detail"].endswith("(and 3 more)")
    many = await caller.post("jobs", json={"task": "noop", **{f"{'x' * 50}{n}": n for n in range(1000)}})
    assert len(many.json()["errors"]) == 100


@pytest.mark.parametrize("path", ["jobs", "jobs/batch"])
async def test_a_body_that_is_not_announced_as_json(caller: httpx.AsyncClient, path: str) -> None:
    for said in (None, "text/plain", "application/jsonp", "text/json", "json", ";", "\xff"):
        headers = [] if said is None else [("Content-Type", said.encode("latin-1"))]
        assert problem(await caller.post(path, content=b'{"task":"noop"}', headers=headers)) == (
            415,
            "not-json-content",
        )
    assert (await caller.patch(f"jobs/{NO_ID}")).status_code == 415


async def test_a_host_refuses_alike(kept_place: Place) -> None:
    service = Service(services_at(kept_place))
    service.app.include_router(routes(service.context, OPEN), prefix="/inner")
    for method, path, content, status, kind in (
        ("POST", "jobs", "{", 400, "not-json"),
        ("POST", "jobs", '{"task":"noop","task":"noop"}', 422, "invalid-input"),
        ("POST", "jobs", '{"task":"noop","args":{"n":"x"}}', 422, "invalid-arguments"),
        ("POST", "jobs", '{"task":"nop"}', 422, "unknown-task"),
        ("POST", "jobs", "x" * (MAX_BODY + 1), 413, "body-too-large"),
        ("GET", "jobs?limit=0", "", 422, "invalid-input"),
        ("GET", f"jobs/{NO_ID}", "", 404, "job-not-found"),
        ("GET", "tasks/nope", "", 404, "task-not-found"),
    ):
        answer = await service.client.request(method, f"/inner/{path}", content=content, headers=JSON)
        assert problem(answer) == (status, kind), answer.text
        assert answer.json()["type"] == f"/inner/problems/{kind}"
        assert (await service.client.get(answer.json()["type"])).json()["status"] == status
    assert problem(await service.client.post("/inner/jobs", content="{}")) == (415, "not-json-content")
