import asyncio
from typing import Any
from uuid import UUID

import pytest

from support.service import Service
from support.world import Place

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def test_a_job_is_committed_before_the_answer(service: Service, place: Place) -> None:
    answer = await service.client.post("/v1/jobs", json={"task": "noop", "args": {"n": 1}})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"http://jobs.test/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["X-Trace-Id"] == job["trace_id"] == job["id"].replace("-", "")
    assert answer.headers["Content-Type"] == "application/json"
    assert await place.value("SELECT status FROM jobtrail.jobs WHERE id = $1", UUID(job["id"])) == "pending"
    assert job | {"status": "pending", "args": {"n": 1}, "created_by": "anonymous", "attempt": 0} == job
    assert (await service.client.get(answer.headers["Location"])).json() == job


async def test_everything_that_can_be_said(service: Service) -> None:
    said = {
        "queue": "mail", "priority": 9, "tags": ["customer:42", "ünï"], "run_at": "2030-01-31T12:00:00+02:00",
        "ttl": 86400.5, "timeout": 0.5, "max_attempts": 7,
    }  # fmt: skip
    job = await service.submitted("noop", args={"n": 2}, **said)
    assert job | {**said, "run_at": "2030-01-31T10:00:00Z"} == job
    assert await service.job(job["id"]) == job


async def test_a_whole_number_may_have_a_point(service: Service) -> None:
    job = await service.submitted("noop", priority=8.0, max_attempts=2.0)
    assert (repr(job["priority"]), repr(job["max_attempts"])) == ("8", "2")


@pytest.mark.parametrize("said", [None, 0, 0.25, 3600])
async def test_ttl_is_in_seconds_and_null_keeps(service: Service, said: float | None) -> None:
    assert (await service.submitted(ttl=said))["ttl"] == said


async def test_what_is_left_out_comes_from_the_service(service: Service) -> None:
    job = await service.submitted()
    assert (job["ttl"], job["timeout"], job["queue"], job["priority"], job["tags"]) == (604800, None, "default", 5, [])


async def test_the_trace_of_the_caller_is_the_jobs(service: Service) -> None:
    answer = await service.client.post(
        "/v1/jobs", json={"task": "noop"}, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    )
    assert answer.headers["X-Trace-Id"] == answer.json()["trace_id"] == TRACE


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", f"00-{'0' * 32}-00f067aa0ba902b7-01")],
        [("traceparent", f"ff-{TRACE}-00f067aa0ba902b7-01")],
        [("traceparent", "nonsense")],
        [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")] * 2,
    ],
    ids=["zero", "version", "nonsense", "two"],
)
async def test_an_invalid_traceparent_is_ignored(service: Service, headers: list[tuple[str, str]]) -> None:
    answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)
    assert answer.status_code == 202
    assert answer.json()["trace_id"] == answer.json()["id"].replace("-", "")


async def test_the_node_hears_of_a_job_once(service: Service) -> None:
    key = {"Idempotency-Key": "one"}
    first = (await service.client.post("/v1/jobs", json={"task": "noop"}, headers=key)).json()
    await service.client.post("/v1/jobs", json={"task": "noop"}, headers=key)
    batch = (await service.client.post("/v1/jobs/batch", json={"jobs": [{"task": "noop"}] * 2})).json()
    assert service.launched == [UUID(first["id"]), *(UUID(job["id"]) for job in batch["items"])]


@pytest.mark.parametrize(
    ("sent", "again"),
    [
        ('"k"', "k"),
        ("k", '"k"'),
        ('"a \\"b\\" \\\\c"', '"a \\"b\\" \\\\c"'),
        ("x" * 255, f'"{"x" * 255}"'),
        ("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
    ],
)
async def test_one_key_makes_one_job(service: Service, place: Place, sent: str, again: str) -> None:
    first = await service.client.post("/v1/jobs", json={"task": "noop"}, headers={"Idempotency-Key": sent})
    second = await service.client.post("/v1/jobs", json={"task": "noop"}, headers={"Idempotency-Key": again})
    assert (first.status_code, second.status_code) == (202, 202)
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert second.json() == first.json()
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1


async def test_an_escaped_key_is_stored_as_it_was_meant(service: Service, place: Place) -> None:
    headers = {"Idempotency-Key": '"a \\"b\\" \\\\c"'}
    assert (await service.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)).status_code == 202
    assert await place.value("SELECT idempotency_key FROM jobtrail.jobs") == 'a "b" \\c'


async def test_the_order_of_names_does_not_matter_to_a_key(service: Service) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    one = await service.client.post("/v1/jobs", content='{"task":"noop","args":{"n":1}}', headers=headers)
    other = await service.client.post("/v1/jobs", content='{ "args": {"n": 1}, "task": "noop" }', headers=headers)
    assert other.json()["id"] == one.json()["id"]


async def test_another_body_with_the_same_key_is_refused(service: Service, place: Place) -> None:
    headers = {"Idempotency-Key": "k"}
    await service.client.post("/v1/jobs", json={"task": "noop", "args": {"n": 1}}, headers=headers)
    answer = await service.client.post("/v1/jobs", json={"task": "noop", "args": {"n": 2}}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/v1/problems/idempotency-key-reused"
    assert answer.json()["errors"][0]["pointer"] == "Idempotency-Key:"
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
    first = (await running.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)).json()
    await running.ended(first["id"])
    again = await running.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)
    assert (again.status_code, again.json()["status"]) == (202, "succeeded")
    assert "Retry-After" not in again.headers


async def test_a_batch_keeps_its_order(service: Service) -> None:
    wanted = [{"task": "noop", "args": {"n": n}, "priority": n} for n in range(3)]
    answer = await service.client.post("/v1/jobs/batch", json={"jobs": wanted})
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert [job["priority"] for job in answer.json()["items"]] == [0, 1, 2]
    assert [await service.job(job["id"]) for job in answer.json()["items"]] == answer.json()["items"]


async def test_a_batch_of_a_thousand(service: Service, place: Place) -> None:
    answer = await service.client.post("/v1/jobs/batch", json={"jobs": [{"task": "noop"}] * 1000})
    assert len({job["id"] for job in answer.json()["items"]}) == 1000
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1000


@pytest.mark.parametrize(
    ("bad", "pointer"),
    [
        ({"task": "nope"}, "/jobs/1/task"),
        ({"task": "noop", "args": {"n": "x"}}, "/jobs/1/args/n"),
        ({"task": "noop", "priority": 10}, "/jobs/1/priority"),
        ({"task": "noop", "speed": 10}, "/jobs/1/speed"),
        (7, "/jobs/1"),
    ],
)
async def test_a_batch_is_stored_whole_or_not_at_all(service: Service, place: Place, bad: object, pointer: str) -> None:
    answer = await service.client.post("/v1/jobs/batch", json={"jobs": [{"task": "noop"}, bad, {"task": "noop"}]})
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_1_to_1000_jobs(service: Service, count: int) -> None:
    answer = await service.client.post("/v1/jobs/batch", json={"jobs": [{"task": "noop"}] * count})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/jobs")


async def test_a_batch_takes_no_key(service: Service, place: Place) -> None:
    answer = await service.client.post(
        "/v1/jobs/batch", json={"jobs": [{"task": "noop"}]}, headers={"Idempotency-Key": "k"}
    )
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "Idempotency-Key:")
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


async def test_a_job_of_the_service_runs(running: Service) -> None:
    job = await running.ended((await running.submitted("noop", args={"n": 4}))["id"])
    assert (job["status"], job["result"], job["attempt"]) == ("succeeded", {"ok": 4}, 1)
    assert job["expires_at"] > job["finished_at"] >= job["started_at"]


async def test_jobs_of_a_batch_run(running: Service) -> None:
    answer = await running.client.post(
        "/v1/jobs/batch", json={"jobs": [{"task": "noop"}, {"task": "in_thread", "args": {"n": 1}}]}
    )
    assert [(await running.ended(job["id"]))["status"] for job in answer.json()["items"]] == ["succeeded"] * 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/jobs", {"task": "noop"}),
        ("/v1/jobs/batch", {"jobs": [{"task": "noop"}]}),
        ("/v1/jobs/{id}/retry", {}),
    ],
)
async def test_a_process_that_shuts_down_takes_nothing(service: Service, place: Place, path: str, body: Any) -> None:
    job_id = (await service.submitted())["id"]
    service.accepting = False
    answer = await service.client.post(path.format(id=job_id), json=body)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["type"] == "/v1/problems/unavailable"
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1
    assert (await service.client.get(f"/v1/jobs/{job_id}")).status_code == 200
