import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest

from jobtrail.api import schemas
from jobtrail.job.status import Status
from support import rows
from support.database import Place
from support.service import Service


async def test_a_finished_job(running: Service) -> None:
    job_id = (await running.submitted("noop", args={"n": 1}))["id"]
    await running.ended(job_id)
    answer = await running.client.get(f"/v1/jobs/{job_id}")
    job = answer.json()
    assert answer.status_code == 200
    assert "Retry-After" not in answer.headers
    assert answer.headers["ETag"].startswith('"')
    assert (job["result"], job["error"], job["node_id"] is not None) == ({"ok": 1}, None, True)
    assert list(job) == list(schemas.Job.model_fields)


async def test_a_failed_job_has_its_traceback(running: Service) -> None:
    job = await running.ended((await running.submitted("fail", args={"how": "error"}))["id"])
    error = job["error"]
    assert (job["status"], error["type"], error["message"], error["attempt"]) == ("failed", "ValueError", "as asked", 1)
    assert "raise ValueError" in error["traceback"]


async def test_the_same_job_need_not_be_sent_twice(service: Service) -> None:
    job_id = (await service.submitted())["id"]
    path = f"/v1/jobs/{job_id}"
    first = await service.client.get(path)
    assert first.headers["Retry-After"] == "1"
    tag = first.headers["ETag"]
    for said in (tag, f"W/{tag}", "*", f'"other", {tag}', f'W/"a,b" ,, {tag}'):
        again = await service.client.get(path, headers={"If-None-Match": said})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert "X-Trace-Id" in again.headers
        assert again.headers["Retry-After"] == "1"
    for said in ('"other"', tag.strip('"'), f"{tag}x", "", "W/*", f'"{tag}"'):
        assert (await service.client.get(path, headers={"If-None-Match": said})).status_code == 200
    await service.client.patch(path, json={"priority": 1})
    changed = await service.client.get(path, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.headers["ETag"] == tag) == (200, False)


async def listed(client: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_a_list_leaves_out_what_may_be_large(running: Service) -> None:
    good = await running.submitted("noop", args={"n": 1})
    bad = await running.submitted("fail", args={"how": "error"})
    for job in (good, bad):
        await running.ended(job["id"])
    plain = await listed(running.client)
    assert [set(good) - set(each) for each in plain] == [{"args", "result"}] * 2
    assert set(plain[0]["error"]) == {"type", "message", "attempt"}
    whole = await listed(running.client, "include=args,result,traceback")
    assert whole == [await running.job(bad["id"]), await running.job(good["id"])]
    assert await listed(running.client, "include=args&include=result&include=traceback") == whole
    some = await listed(running.client, "include=args")
    assert [(each["args"], "result" in each) for each in some] == [({"how": "error"}, False), ({"n": 1}, False)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "edcba"),
        ("status=failed", "c"),
        ("status=failed&status=cancelled", "dc"),
        ("task=noop&task=other", "edcba"),
        ("task=other", "e"),
        ("queue=mail", "b"),
        ("queue=mail&queue=default", "edcba"),
        ("tag=red", "ba"),
        ("tag=red&tag=blue", "b"),
        ("status=pending&tag=red&queue=default", "a"),
        ("tag=%C3%BCn%C3%AF%20%22%5C", "a"),
        ("trace_id=4bf92f3577b34da6a3ce929d0e0e4736", "e"),
        ("created_after=2000-01-01T00:00:00Z", "edcba"),
        ("created_after=9999-12-31T23:59:59Z", ""),
        ("created_before=2000-01-01T00:00:00%2B01:00", ""),
        ("created_before=0001-01-01T00:00:00Z", ""),
        ("task=no%F0%9F%98%80", ""),
        ("limit=2", "ed"),
    ],
)
async def test_filters(service: Service, place: Place, query: str, found: str) -> None:
    made = {
        "a": await rows.born(place, tags=["red", 'ünï "\\']),
        "b": await rows.born(place, queue="mail", tags=["red", "blue"]),
        "c": await rows.in_status(place, Status.FAILED),
        "d": await rows.in_status(place, Status.CANCELLED),
        "e": await rows.born(place, "other", trace_id="4bf92f3577b34da6a3ce929d0e0e4736"),
    }
    names = {str(job_id): name for name, job_id in made.items()}
    assert "".join(names[each["id"]] for each in await listed(service.client, query)) == found


async def test_own_trace_and_time_filters(service: Service) -> None:
    first, second = await service.submitted(), await service.submitted()
    assert [each["id"] for each in await listed(service.client, f"trace_id={first['trace_id']}")] == [first["id"]]
    after = await listed(service.client, f"created_after={first['created_at']}")
    before = await listed(service.client, f"created_before={second['created_at']}")
    assert ([each["id"] for each in after], [each["id"] for each in before]) == ([second["id"]], [first["id"]])


async def test_pages_cover_a_list_that_grows(service: Service) -> None:
    """Jobs of one group were born at the same moment: only the id tells them apart."""
    batch = {"jobs": [{"task": "noop", "tags": ["a b"]}] * 7}
    born = [job["id"] for job in (await service.client.post("/v1/jobs/batch", json=batch)).json()["items"]]
    seen: list[str] = []
    address: str | None = "/v1/jobs?limit=3&tag=a%20b&status=pending&status=failed"
    while address:
        answer = await service.client.get(address)
        await service.submitted(tags=["a b"])
        page = answer.json()
        seen += [each["id"] for each in page["items"]]
        address = answer.links["next"]["url"] if "next" in answer.links else None
        if address:
            query = parse_qs(urlsplit(address).query)
            assert query == {
                "limit": ["3"], "tag": ["a b"], "status": ["pending", "failed"], "cursor": [page["next_cursor"]]
            }  # fmt: skip
        else:
            assert page["next_cursor"] is None
    assert sorted(seen) == sorted(born)
    assert len(seen) == 7


async def test_a_full_last_page_has_no_next(service: Service) -> None:
    await service.client.post("/v1/jobs/batch", json={"jobs": [{"task": "noop"}] * 2})
    answer = await service.client.get("/v1/jobs?limit=2")
    assert (len(answer.json()["items"]), answer.json()["next_cursor"], "Link" in answer.headers) == (2, None, False)


async def test_fifty_unless_asked(service: Service) -> None:
    await service.client.post("/v1/jobs/batch", json={"jobs": [{"task": "noop"}] * 201})
    assert len(await listed(service.client)) == 50
    assert len(await listed(service.client, "limit=200")) == 200


async def test_the_history_of_a_job(running: Service) -> None:
    job = await running.submitted("fail", args={"how": "error"})
    await running.ended(job["id"])
    answer = await running.client.get(f"/v1/jobs/{job['id']}/transitions")
    moves = answer.json()["items"]
    assert [(each["seq"], each["from_status"], each["to_status"]) for each in moves] == [
        (1, None, "pending"),
        (2, "pending", "running"),
        (3, "running", "failed"),
    ]
    assert moves[0] | {"actor": "anonymous", "reason": "submitted", "attempt": 0, "node_id": None} == moves[0]
    assert (moves[2]["error"]["type"], moves[2]["node_id"] is not None) == ("ValueError", True)
    assert {(each["trace_id"], each["task"]) for each in moves} == {(job["trace_id"], "fail")}


async def test_the_history_outlives_the_job(service: Service, place: Place) -> None:
    job_id = (await service.submitted(ttl=0))["id"]
    await service.client.post(f"/v1/jobs/{job_id}/cancel")
    await place.psql.execute("DELETE FROM jobtrail.jobs")
    assert (await service.client.get(f"/v1/jobs/{job_id}")).status_code == 404
    moves = (await service.client.get(f"/v1/jobs/{job_id}/transitions")).json()["items"]
    assert [each["to_status"] for each in moves] == ["pending", "cancelled", "purged"]


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


async def test_answers_look_as_the_schema_says(running: Service) -> None:
    good = await running.submitted("noop", tags=["a"], timeout=5, ttl=None)
    bad = await running.submitted("fail", args={"how": "error"})
    for job in (good, bad):
        schemas.Job.model_validate_json(json.dumps(await running.ended(job["id"])), strict=True)
        moves = await running.client.get(f"/v1/jobs/{job['id']}/transitions")
        schemas.TransitionList.model_validate_json(moves.content, strict=True)
    for query in ("", "include=args,result,traceback", "limit=1"):
        page = await running.client.get(f"/v1/jobs?{query}")
        schemas.JobList.model_validate_json(page.content, strict=True)
    batch = await running.client.post("/v1/jobs/batch", json={"jobs": [{"task": "noop"}]})
    schemas.SubmittedJobs.model_validate_json(batch.content, strict=True)
    assert UUID(batch.json()["items"][0]["id"])
