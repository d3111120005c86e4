"""Cancel, retry, change and pause over HTTP."""

from typing import Any

import httpx
import pytest

from jobtrail.api import ops, schemas
from jobtrail.status import Status
from support import rows
from support.service import Service
from support.world import Place

LATER = "2030-01-31T12:00:00Z"


async def cancelled(service: Service, way: str, job_id: object, reason: str | None = None) -> httpx.Response:
    if way == "DELETE":
        return await service.client.delete(f"/v1/jobs/{job_id}", params={} if reason is None else {"reason": reason})
    body = {} if reason is None else {"json": {"reason": reason}}
    return await service.client.post(f"/v1/jobs/{job_id}/cancel", **body)  # type: ignore[arg-type]


async def moves(place: Place) -> list[dict[str, Any]]:
    query = "SELECT to_status, actor, reason FROM jobtrail.transitions WHERE seq > 1 AND reason <> 'sql'"
    return await place.rows(query)


both_ways = pytest.mark.parametrize("way", ["POST", "DELETE"])


@both_ways
@pytest.mark.parametrize("reason", ["no longer needed: ünï", None, ""])
async def test_a_pending_job_is_cancelled_at_once(service: Service, place: Place, way: str, reason: str | None) -> None:
    job_id = (await service.submitted())["id"]
    answer = await cancelled(service, way, job_id, reason)
    job = answer.json()
    assert (answer.status_code, job["status"], job["cancel_reason"]) == (200, "cancelled", reason or None)
    assert "Retry-After" not in answer.headers
    assert job == await service.job(job_id)
    assert await moves(place) == [{"to_status": "cancelled", "actor": "anonymous", "reason": reason or "cancelled"}]
    again = await cancelled(service, way, job_id, "again")
    assert (again.status_code, again.json()) == (200, job)


@both_ways
async def test_a_running_job_is_asked_to_stop(running: Service, way: str) -> None:
    job_id = (await running.submitted("sleep_long"))["id"]
    await running.until_status(job_id, "running")
    answer = await cancelled(running, way, job_id, "enough")
    job = answer.json()
    if job["status"] == "running":  # its node may have been quicker than the answer
        assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    else:
        assert (answer.status_code, job["status"]) == (200, "cancelled")
    assert (job["cancel_reason"], job["cancel_requested_at"] is None) == ("enough", False)
    assert (await running.ended(job_id))["status"] == "cancelled"


@both_ways
@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
async def test_what_has_ended_cannot_be_cancelled(service: Service, place: Place, way: str, status: Status) -> None:
    answer = await cancelled(service, way, await rows.in_status(place, status))
    assert (answer.status_code, answer.json()["type"]) == (409, "/v1/problems/job-finished")


@pytest.mark.parametrize("status", Status)
async def test_a_retry_by_hand(service: Service, place: Place, status: Status) -> None:
    job_id = await rows.in_status(place, status)
    answer = await service.client.post(f"/v1/jobs/{job_id}/retry")
    job = answer.json()
    if status in (Status.FAILED, Status.CANCELLED):
        assert (answer.status_code, answer.headers["Retry-After"], job["status"]) == (202, "1", "pending")
        assert (job["error"], job["finished_at"], job["max_attempts"]) == (None, None, job["attempt"] + 1)
        assert service.launched == [job_id]
    else:
        assert (answer.status_code, job["type"], service.launched) == (409, "/v1/problems/job-conflict", [])


async def test_a_retry_runs_the_job_again(running: Service) -> None:
    jobs = [(await running.submitted("fail", args={"how": "error"}))["id"] for _ in range(3)]
    for job_id in jobs:
        await running.ended(job_id)
    assert (await running.client.post(f"/v1/jobs/{jobs[0]}/retry")).status_code == 202
    await running.ended(jobs[0])
    assert (await asked(running, "retry", {"task": ["fail"]}))["changed"] == 3
    assert [(await running.ended(job_id))["attempt"] for job_id in jobs] == [3, 2, 2]


@pytest.mark.parametrize(
    "said",
    [{}, {"ttl": None}, {"ttl": 0}, {"tags": []}, {"ttl": 60, "priority": 9, "run_at": LATER, "tags": ["a", "b"]}],
)
async def test_only_what_is_sent_is_changed(service: Service, said: dict[str, object]) -> None:
    before = await service.submitted(tags=["x"], run_at="2031-01-31T12:00:00Z")
    answer = await service.client.patch(f"/v1/jobs/{before['id']}", json=said)
    assert (answer.status_code, answer.json()) == (200, before | said)
    read = await service.client.get(f"/v1/jobs/{before['id']}")
    assert (read.json(), read.headers["ETag"]) == (answer.json(), answer.headers["ETag"])


async def test_run_at_null_is_now(service: Service, place: Place) -> None:
    job_id = (await service.submitted(run_at=LATER))["id"]
    assert (await service.client.patch(f"/v1/jobs/{job_id}", json={"run_at": None})).status_code == 200
    assert await place.value("SELECT run_at <= clock_timestamp() FROM jobtrail.jobs")


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.PENDING])
async def test_priority_and_run_at_are_of_pending_jobs_ttl_and_tags_of_all(
    service: Service, place: Place, status: Status
) -> None:
    job_id = str(await rows.in_status(place, status))
    before = await service.job(job_id)
    for said in ({"priority": 1}, {"run_at": LATER}, {"ttl": 1, "priority": 1}):
        answer = await service.client.patch(f"/v1/jobs/{job_id}", json=said)
        assert (answer.status_code, answer.json()["type"]) == (409, "/v1/problems/job-conflict")
    assert await service.job(job_id) == before
    answer = await service.client.patch(f"/v1/jobs/{job_id}", json={"ttl": 3600.5, "tags": ["kept"]})
    assert (answer.status_code, answer.json()["ttl"], answer.json()["tags"]) == (200, 3600.5, ["kept"])
    kept = await service.client.patch(f"/v1/jobs/{job_id}", json={"ttl": None})
    assert (kept.json()["ttl"], kept.json()["expires_at"]) == (None, None)


async def test_a_change_may_depend_on_what_was_seen(service: Service) -> None:
    path = f"/v1/jobs/{(await service.submitted())['id']}"
    tag = (await service.client.get(path)).headers["ETag"]
    for said in ('"other"', f"W/{tag}", tag.strip('"'), f'"other", W/{tag}', ""):
        answer = await service.client.patch(path, json={"priority": 1}, headers={"If-Match": said})
        assert (answer.status_code, answer.json()["type"]) == (412, "/v1/problems/precondition-failed")
    for priority, said in enumerate((tag, f'"other" , {tag}', "*")):
        await service.client.patch(path, json={"priority": 5})
        answer = await service.client.patch(path, json={"priority": priority}, headers={"If-Match": said})
        assert (answer.status_code, answer.json()["priority"]) == (200, priority)
    stale = await service.client.patch(path, json={"priority": 3}, headers={"If-Match": tag})
    assert (stale.status_code, (await service.client.get(path)).json()["priority"]) == (412, 2)


async def asked(service: Service, action: str, wanted: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await service.client.post("/v1/jobs/bulk", json={"action": action, "filter": wanted, **more})
    assert answer.status_code == 200, answer.text
    schemas.Bulk.model_validate_json(answer.content, strict=True)
    return dict(answer.json())


async def test_a_bulk_retry(service: Service, place: Place) -> None:
    for _ in range(3):
        await rows.in_status(place, Status.FAILED)
    wanted = {"status": ["failed"], "task": ["noop"], "created_before": "2999-01-31T00:00:00Z"}
    counts = {"action": "retry", "dry_run": True, "matched": 3, "changed": 0, "remaining": 3}
    assert await asked(service, "retry", wanted, dry_run=True) == counts
    assert await moves(place) == []
    assert await asked(service, "retry", wanted, limit=2) == counts | {"dry_run": False, "changed": 2, "remaining": 1}
    assert await moves(place) == [{"to_status": "pending", "actor": "anonymous", "reason": "retried by hand"}] * 2


@pytest.mark.parametrize("reason", ["wrong file: ünï", "", None])
async def test_a_bulk_cancel(service: Service, place: Place, reason: str | None) -> None:
    waiting = [(await service.submitted(queue="mail"))["id"] for _ in range(2)]
    running = str(await rows.in_status(place, Status.RUNNING, queue="mail"))
    elsewhere = (await service.submitted())["id"]
    done = await asked(service, "cancel", {"queue": ["mail"]}, reason=reason)
    assert done == {"action": "cancel", "dry_run": False, "matched": 3, "changed": 3, "remaining": 0}
    found = [await service.job(job_id) for job_id in (*waiting, running, elsewhere)]
    assert [job["status"] for job in found] == ["cancelled", "cancelled", "running", "pending"]
    assert [job["cancel_reason"] for job in found] == [reason or None] * 3 + [None]
    assert await moves(place) == [{"to_status": "cancelled", "actor": "anonymous", "reason": reason or "cancelled"}] * 2


async def test_all_filters_of_a_bulk_at_once(service: Service, place: Place) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    fitting = {"task": "noop", "queue": "mail", "tags": ["b", "a", "c"], "trace_id": trace}
    chosen = str(await rows.born(place, **fitting))
    for other in ({"task": "third"}, {"queue": "post"}, {"tags": ["a"]}, {"trace_id": "ab" * 16}):
        await rows.born(place, **{**fitting, **other})
    wanted = {
        "status": ["pending", "running"], "task": ["noop", "other"], "queue": ["mail"], "tag": ["a", "b"],
        "trace_id": [trace], "created_after": "2020-01-31T00:00:00+01:00", "created_before": "2999-01-31T00:00:00Z",
    }  # fmt: skip
    assert (await asked(service, "cancel", wanted))["changed"] == 1
    assert (await service.job(chosen))["status"] == "cancelled"


async def test_a_process_that_shuts_down_cancels_but_takes_nothing(service: Service, place: Place) -> None:
    job_id = (await service.submitted())["id"]
    service.accepting = False
    for path, body in (
        ("", {"task": "noop"}),
        ("/batch", {"jobs": [{"task": "noop"}]}),
        (f"/{job_id}/retry", {}),
        ("/bulk", {"action": "retry", "filter": {"status": ["failed"]}}),
    ):
        answer = await service.client.post(f"/v1/jobs{path}", json=body)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), path
        assert answer.json()["type"] == "/v1/problems/unavailable"
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1
    assert (await service.client.get(f"/v1/jobs/{job_id}")).status_code == 200
    assert (await asked(service, "cancel", {"status": ["pending"]}))["changed"] == 1


@pytest.mark.parametrize("path", ["queue/default", "task/noop"])
async def test_pausing_twice_and_resuming_twice(service: Service, path: str) -> None:
    async def listed() -> list[dict[str, Any]]:
        answer = await service.client.get("/v1/pauses")
        assert ops.PauseList.model_validate_json(answer.content, strict=True)
        return list(answer.json()["items"])

    kind, name = path.split("/")
    first = await service.client.put(f"/v1/pauses/{path}", json={"reason": "the provider is down"})
    again = await service.client.put(f"/v1/pauses/{path}")
    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())
    assert first.json() == {
        "kind": kind, "name": name, "paused_at": first.json()["paused_at"], "paused_by": "anonymous",
        "reason": "the provider is down",
    }  # fmt: skip
    assert await listed() == [first.json()]
    for _ in range(2):
        answer = await service.client.delete(f"/v1/pauses/{path}")
        assert (answer.status_code, answer.content) == (204, b"")
    assert await listed() == []


@pytest.mark.parametrize("body", ["", "null", "{}", '{"reason": null}', '{"reason": ""}'])
async def test_a_body_with_a_reason_may_be_left_out(service: Service, body: str) -> None:
    headers = {"Content-Type": "application/json"} if body else {}
    answer = await service.client.put("/v1/pauses/queue/default", content=body, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (200, None)
    job_id = (await service.submitted())["id"]
    answer = await service.client.post(f"/v1/jobs/{job_id}/cancel", content=body, headers=headers)
    assert (answer.status_code, answer.json()["cancel_reason"]) == (200, None)


async def test_a_paused_job_waits_until_it_is_resumed(running: Service) -> None:
    await running.client.put("/v1/pauses/task/noop")
    waiting, other = (await running.submitted())["id"], (await running.submitted("nothing"))["id"]
    assert (await running.ended(other))["status"] == "succeeded"
    assert (await running.job(waiting))["status"] == "pending"
    await running.client.delete("/v1/pauses/task/noop")
    assert (await running.ended(waiting))["status"] == "succeeded"
