"""POST /jobs and /jobs/batch."""

import asyncio
from uuid import UUID

import pytest

from support.service import Service
from support.world import Place

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")


async def test_a_job_is_committed_before_the_answer(service: Service, place: Place) -> None:
    answer = await service.client.post("/v1/jobs", json={"task": "noop", "args": {"n": 1}})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"http://jobs.test/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["X-Trace-Id"] == job["trace_id"] == job["id"].replace("-", "")
    assert answer.headers["Content-Type"] == "application/json"
    assert await place.value("SELECT status FROM jobtrail.jobs WHERE id = $1", UUID(job["id"])) == "pending"
    said = {"status": "pending", "args": {"n": 1}, "created_by": "anonymous", "attempt": 0}
    defaults = {"ttl": 604800, "timeout": None, "queue": "default", "priority": 5, "tags": []}
    assert job | said | defaults == job
    assert (await service.client.get(answer.headers["Location"])).json() == job


async def test_everything_that_can_be_said(service: Service) -> None:
    said = {
        "queue": "mail", "priority": 9, "tags": ["customer:42", "ünï"], "run_at": "2030-01-31T12:00:00+02:00",
        "ttl": 86400.5, "timeout": 0.5, "max_attempts": 7,
    }  # fmt: skip
    job = await service.submitted("noop", args={"n": 2}, **said)
    assert job | {**said, "run_at": "2030-01-31T10:00:00Z"} == job
    assert await service.job(job["id"]) == job
    for ttl in (None, 0, 0.25):
        assert (await service.submitted(ttl=ttl))["ttl"] == ttl
    whole = await service.submitted("noop", priority=8.0, max_attempts=2.0)
    assert (repr(whole["priority"]), repr(whole["max_attempts"])) == ("8", "2")


@pytest.mark.parametrize(
    "said", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.jobs+json", "application/json;"]
)
async def test_a_body_that_is_announced_as_json(service: Service, said: str) -> None:
    for length in ("", "abc", "-1", "²"):
        headers = [("Content-Type", said.encode()), ("Content-Length", length.encode("latin-1"))]
        answer = await service.client.post("/v1/jobs", content=b'{"task":"noop"}', headers=headers)
        assert answer.status_code == 202


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ([PARENT], True),
        ([(PARENT[0], f" {PARENT[1]}\t")], True),
        ([("traceparent", f"00-{'0' * 32}-00f067aa0ba902b7-01")], False),
        ([("traceparent", f"ff-{TRACE}-00f067aa0ba902b7-01")], False),
        ([("traceparent", "nonsense")], False),
        ([PARENT] * 2, False),
    ],
    ids=["valid", "blanks", "zero", "version", "nonsense", "two"],
)
async def test_the_trace_of_the_caller_is_the_jobs(
    service: Service, headers: list[tuple[str, str]], is_taken: bool
) -> None:
    answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)
    assert answer.status_code == 202
    trace = TRACE if is_taken else answer.json()["id"].replace("-", "")
    assert answer.headers["X-Trace-Id"] == answer.json()["trace_id"] == trace


@pytest.mark.parametrize(
    ("sent", "again", "stored"),
    [
        ('"k"', "k", "k"),
        ('"a \\"b\\" \\\\c"', '"a \\"b\\" \\\\c"', 'a "b" \\c'),
        ("a\\b", '"a\\\\b"', "a\\b"),
        ("x" * 255, f'"{"x" * 255}"', "x" * 255),
    ],
)
async def test_one_key_makes_one_job(service: Service, place: Place, sent: str, again: str, stored: str) -> None:
    first = await service.client.post("/v1/jobs", json={"task": "noop"}, headers={"Idempotency-Key": sent})
    second = await service.client.post("/v1/jobs", json={"task": "noop"}, headers={"Idempotency-Key": again})
    assert (first.status_code, second.status_code) == (202, 202)
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert second.json() == first.json()
    assert await place.rows("SELECT idempotency_key FROM jobtrail.jobs") == [{"idempotency_key": stored}]
    assert service.launched == [UUID(first.json()["id"])]


async def test_another_body_with_the_same_key_is_refused(service: Service, place: Place) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    one = await service.client.post("/v1/jobs", content='{"task":"noop","args":{"n":1}}', headers=headers)
    same = await service.client.post("/v1/jobs", content='{ "args": {"n": 1}, "task": "noop" }', headers=headers)
    other = await service.client.post("/v1/jobs", content='{"task":"noop","args":{"n":2}}', headers=headers)
    assert same.json()["id"] == one.json()["id"]
    assert (other.status_code, other.json()["type"]) == (422, "/v1/problems/idempotency-key-reused")
    assert other.json()["errors"][0]["pointer"] == "Idempotency-Key:"
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1


async def test_fifty_callers_with_one_key_get_one_job(service: Service, place: Place) -> None:
    async def submit() -> str:
        answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 202
        return str(answer.json()["id"])

    assert len(set(await asyncio.gather(*(submit() for _ in range(50))))) == 1
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1


async def test_a_key_is_remembered_for_a_day(service: Service) -> None:
    answer = await service.client.post("/v1/jobs", json={"task": "noop", "ttl": 1}, headers={"Idempotency-Key": "k"})
    assert answer.json()["ttl"] == 86400
    path = f"/v1/jobs/{answer.json()['id']}"
    assert (await service.client.patch(path, json={"ttl": 1})).json()["ttl"] == 86400
    assert (await service.client.patch(path, json={"ttl": None})).json()["ttl"] is None


async def test_a_replay_shows_the_job_as_it_is_now(running: Service) -> None:
    headers = {"Idempotency-Key": "k"}
    first = (await running.client.post("/v1/jobs", json={"task": "noop", "args": {"n": 4}}, headers=headers)).json()
    job = await running.ended(first["id"])
    assert (job["status"], job["result"], job["attempt"]) == ("succeeded", {"ok": 4}, 1)
    assert job["expires_at"] > job["finished_at"] >= job["started_at"]
    again = await running.client.post("/v1/jobs", json={"task": "noop", "args": {"n": 4}}, headers=headers)
    assert (again.status_code, again.json(), "Retry-After" in again.headers) == (202, job, False)


async def test_a_batch_keeps_its_order_and_runs(running: Service) -> None:
    wanted = [{"task": "noop", "args": {"n": n}, "priority": n} for n in range(3)]
    answer = await running.client.post(
        "/v1/jobs/batch", json={"jobs": [*wanted, {"task": "in_thread", "args": {"n": 1}}]}
    )
    jobs = answer.json()["items"]
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert [job["priority"] for job in jobs] == [0, 1, 2, 5]
    assert [(await running.ended(job["id"]))["result"] for job in jobs[:3]] == [{"ok": n} for n in range(3)]
    assert (await running.ended(jobs[3]["id"]))["status"] == "succeeded"


async def test_a_batch_of_a_thousand(service: Service, place: Place) -> None:
    answer = await service.client.post("/v1/jobs/batch", json={"jobs": [{"task": "noop"}] * 1000})
    ids = [UUID(job["id"]) for job in answer.json()["items"]]
    assert len(set(ids)) == await place.value("SELECT count(*) FROM jobtrail.jobs") == 1000
    assert service.launched == ids
