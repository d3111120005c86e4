import json
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest

from jobtrail.api import schemas
from jobtrail.status import Status
from support import rows
from support.service import Service
from support.world import Place


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
