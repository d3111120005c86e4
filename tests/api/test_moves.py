"""Cancel, retry and change over HTTP."""

from collections.abc import Sequence
from typing import Any

import pytest

from jobtrail.status import Status
from support import rows
from support.service import Service
from support.world import Place


def cancels(job_id: str, reason: str | None) -> Sequence[tuple[str, str, dict[str, Any]]]:
    """The two ways to say it."""
    return (
        ("POST", f"/v1/jobs/{job_id}/cancel", {} if reason is None else {"json": {"reason": reason}}),
        ("DELETE", f"/v1/jobs/{job_id}", {} if reason is None else {"params": {"reason": reason}}),
    )


@pytest.mark.parametrize("way", [0, 1], ids=["post", "delete"])
@pytest.mark.parametrize("reason", ["no longer needed: ünï", None, ""])
async def test_a_pending_job_is_cancelled_at_once(service: Service, place: Place, way: int, reason: str | None) -> None:
    job_id = (await service.submitted())["id"]
    method, path, rest = cancels(job_id, reason)[way]
    answer = await service.client.request(method, path, **rest)
    job = answer.json()
    assert (answer.status_code, job["status"], job["cancel_reason"]) == (200, "cancelled", reason or None)
    assert "Retry-After" not in answer.headers
    assert job == await service.job(job_id)
    last = (await place.rows("SELECT actor, reason FROM jobtrail.transitions ORDER BY seq DESC LIMIT 1"))[0]
    assert last == {"actor": "anonymous", "reason": reason or "cancelled"}
    again = await service.client.request(*cancels(job_id, "again")[way][:2])
    assert (again.status_code, again.json()) == (200, job)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"reason":null}'])
async def test_a_cancel_needs_no_body(service: Service, body: bytes) -> None:
    job_id = (await service.submitted())["id"]
    headers = {"Content-Type": "application/json"} if body else {}
    answer = await service.client.post(f"/v1/jobs/{job_id}/cancel", content=body, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("way", [0, 1], ids=["post", "delete"])
async def test_a_running_job_is_asked_to_stop(running: Service, way: int) -> None:
    job_id = (await running.submitted("sleep_long"))["id"]
    await running.until_status(job_id, "running")
    method, path, rest = cancels(job_id, "enough")[way]
    answer = await running.client.request(method, path, **rest)
    job = answer.json()
    assert (answer.status_code, job["status"], job["cancel_reason"]) == (202, "running", "enough")
    assert answer.headers["Retry-After"] == "1"
    assert job["cancel_requested_at"] is not None
    assert (await running.ended(job_id))["status"] == "cancelled"


@pytest.mark.parametrize("way", [0, 1], ids=["post", "delete"])
@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
async def test_what_has_ended_cannot_be_cancelled(service: Service, place: Place, way: int, status: Status) -> None:
    job_id = str(await rows.in_status(place, status))
    method, path, rest = cancels(job_id, None)[way]
    answer = await service.client.request(method, path, **rest)
    assert (answer.status_code, answer.json()["type"]) == (409, "/v1/problems/job-finished")
    assert (await service.job(job_id))["status"] == status


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_a_retry_by_hand(service: Service, place: Place, status: Status) -> None:
    job_id = await rows.in_status(place, status)
    answer = await service.client.post(f"/v1/jobs/{job_id}/retry")
    job = answer.json()
    assert (answer.status_code, answer.headers["Retry-After"], job["status"]) == (202, "1", "pending")
    assert (job["error"], job["finished_at"], job["cancel_requested_at"]) == (None, None, None)
    assert job["max_attempts"] == job["attempt"] + 1
    assert service.launched == [job_id]


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING, Status.SUCCEEDED])
async def test_what_has_not_failed_is_not_retried(service: Service, place: Place, status: Status) -> None:
    job_id = await rows.in_status(place, status)
    answer = await service.client.post(f"/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json()["type"]) == (409, "/v1/problems/job-conflict")
    assert service.launched == []


async def test_a_retry_runs_the_job_again(running: Service) -> None:
    job_id = (await running.submitted("fail", args={"how": "error"}))["id"]
    await running.ended(job_id)
    assert (await running.client.post(f"/v1/jobs/{job_id}/retry")).status_code == 202
    job = await running.ended(job_id)
    assert (job["status"], job["attempt"], job["max_attempts"]) == ("failed", 2, 2)


async def test_a_pending_job_is_changed(service: Service) -> None:
    job_id = (await service.submitted())["id"]
    said = {"ttl": 60, "priority": 9, "run_at": "2030-01-31T12:00:00Z", "tags": ["a", "b"]}
    answer = await service.client.patch(f"/v1/jobs/{job_id}", json=said)
    assert (answer.status_code, answer.json() | said) == (200, answer.json())
    read = await service.client.get(f"/v1/jobs/{job_id}")
    assert (read.json(), read.headers["ETag"]) == (answer.json(), answer.headers["ETag"])


@pytest.mark.parametrize("said", [{}, {"ttl": None}, {"ttl": 0}, {"tags": []}, {"priority": 0}])
async def test_only_what_is_sent_is_changed(service: Service, said: dict[str, object]) -> None:
    before = await service.submitted(tags=["x"], run_at="2030-01-31T12:00:00Z")
    answer = await service.client.patch(f"/v1/jobs/{before['id']}", json=said)
    assert answer.json() == before | said


async def test_run_at_null_is_now(service: Service, place: Place) -> None:
    job_id = (await service.submitted(run_at="2030-01-31T12:00:00Z"))["id"]
    answer = await service.client.patch(f"/v1/jobs/{job_id}", json={"run_at": None})
    assert answer.status_code == 200
    assert await place.value("SELECT run_at <= clock_timestamp() FROM jobtrail.jobs")


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.PENDING])
@pytest.mark.parametrize("said", [{"priority": 1}, {"run_at": "2030-01-31T12:00:00Z"}, {"ttl": 1, "priority": 1}])
async def test_priority_and_run_at_are_of_pending_jobs(
    service: Service, place: Place, status: Status, said: dict[str, object]
) -> None:
    job_id = str(await rows.in_status(place, status))
    before = await service.job(job_id)
    answer = await service.client.patch(f"/v1/jobs/{job_id}", json=said)
    assert (answer.status_code, answer.json()["type"]) == (409, "/v1/problems/job-conflict")
    assert await service.job(job_id) == before


@pytest.mark.parametrize("status", list(Status))
async def test_ttl_and_tags_are_of_all_jobs(service: Service, place: Place, status: Status) -> None:
    job_id = await rows.in_status(place, status)
    answer = await service.client.patch(f"/v1/jobs/{job_id}", json={"ttl": 3600.5, "tags": ["kept"]})
    assert (answer.status_code, answer.json()["ttl"], answer.json()["tags"]) == (200, 3600.5, ["kept"])
    query = "SELECT expires_at - finished_at = interval '3600.5 s' FROM jobtrail.jobs"
    assert await place.value(query) is (True if status.is_terminal else None)
    kept = await service.client.patch(f"/v1/jobs/{job_id}", json={"ttl": None})
    assert (kept.json()["ttl"], kept.json()["expires_at"]) == (None, None)


async def test_a_change_may_depend_on_what_was_seen(service: Service) -> None:
    job_id = (await service.submitted())["id"]
    path = f"/v1/jobs/{job_id}"
    tag = (await service.client.get(path)).headers["ETag"]
    for said in ('"other"', f"W/{tag}", tag.strip('"'), f'"other", W/{tag}', ""):
        answer = await service.client.patch(path, json={"priority": 1}, headers={"If-Match": said})
        assert (answer.status_code, answer.json()["type"]) == (412, "/v1/problems/precondition-failed")
    for priority, said in enumerate((tag, f'"other" , {tag}', "*")):
        await service.client.patch(path, json={"priority": 5})
        answer = await service.client.patch(path, json={"priority": priority}, headers={"If-Match": said})
        assert (answer.status_code, answer.json()["priority"]) == (200, priority)
    stale = await service.client.patch(path, json={"priority": 3}, headers={"If-Match": tag})
    assert stale.status_code == 412
    assert (await service.job(job_id))["priority"] == 2
