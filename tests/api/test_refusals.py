"""Refusals before anything is stored: in the stand-alone service, and some of each kind among a host's routes."""

import httpx
import pytest

from jobtrail.api.routes import routes
from support.service import MAX_BODY, OPEN, Service
from support.world import Place, services_at


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
    "retry with nothing said": ("POST", f"jobs/{NO_ID}/retry", {}, 404, "job-not-found"),
    "retry with a reason": ("POST", f"jobs/{NO_ID}/retry", {"reason": "x"}, 422, "invalid-input"),
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
    "a kind of problem": ("GET", "problems/nope", None, 404, "problem-not-found"),
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


async def test_a_host_refuses_alike(place: Place) -> None:
    service = Service(services_at(place))
    service.app.include_router(routes(service.context, OPEN), prefix="/inner")
    json = {"Content-Type": "application/json"}
    for method, path, content, status, kind in (
        ("POST", "jobs", "{", 400, "not-json"),
        ("POST", "jobs", '{"task":"noop","task":"noop"}', 422, "invalid-input"),
        ("POST", "jobs", '{"task":"noop","priority":true}', 422, "invalid-input"),
        ("POST", "jobs", '{"task":"noop","args":{"n":"x"}}', 422, "invalid-arguments"),
        ("POST", "jobs", '{"task":"nop"}', 422, "unknown-task"),
        ("POST", "jobs", "x" * (MAX_BODY + 1), 413, "body-too-large"),
        ("GET", "jobs?limit=0", "", 422, "invalid-input"),
        ("GET", f"jobs/{NO_ID}", "", 404, "job-not-found"),
        ("POST", f"jobs/{NO_ID}/cancel", '{"raeson":"x"}', 422, "invalid-input"),
        ("GET", "tasks/nope", "", 404, "task-not-found"),
        ("GET", "audit/nope", "", 404, "question-not-found"),
    ):
        answer = await service.client.request(method, f"/inner/{path}", content=content, headers=json)
        problem = answer.json()
        assert (answer.status_code, problem["type"]) == (status, f"/inner/problems/{kind}"), answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert (await service.client.get(problem["type"])).json()["status"] == status
    unannounced = await service.client.post("/inner/jobs", content="{}")
    assert (unannounced.status_code, unannounced.json()["type"]) == (415, "/inner/problems/not-json-content")
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0
