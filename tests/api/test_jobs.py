"""Reading jobs: one, lists, history, log."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import pytest

from jobtrail import Jobtrail
from jobtrail.api import schemas
from jobtrail.settings import Settings
from jobtrail.status import Status
from support import rows
from support.service import Service
from support.world import Place

MIB = 2**20


async def listed(client: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_jobs_as_the_schema_says(running: Service) -> None:
    good = await running.submitted("noop", args={"n": 1}, tags=["a"], timeout=5, ttl=None)
    bad = await running.submitted("fail", args={"how": "error"})
    good, bad = [await running.ended(job["id"]) for job in (good, bad)]
    for job in (good, bad):
        schemas.Job.model_validate_json(json.dumps(job), strict=True)
        assert list(job) == list(schemas.Job.model_fields)
    assert (good["result"], good["error"], good["node_id"] is not None) == ({"ok": 1}, None, True)
    error = bad["error"]
    assert (bad["status"], error["type"], error["message"], error["attempt"]) == ("failed", "ValueError", "as asked", 1)
    assert "raise ValueError" in error["traceback"]
    for query in ("", "include=args,result,traceback", "limit=1"):
        page = await running.client.get(f"/v1/jobs?{query}")
        schemas.JobList.model_validate_json(page.content, strict=True)
    plain = await listed(running.client)
    assert [set(good) - set(each) for each in plain] == [{"args", "result"}] * 2
    assert set(plain[0]["error"]) == {"type", "message", "attempt"}
    assert await listed(running.client, "include=args,result,traceback") == [bad, good]
    assert await listed(running.client, "include=args&include=result&include=traceback") == [bad, good]
    some = await listed(running.client, "include=args")
    assert [(each["args"], "result" in each) for each in some] == [({"how": "error"}, False), ({"n": 1}, False)]


async def test_the_same_job_need_not_be_sent_twice(service: Service) -> None:
    path = f"/v1/jobs/{(await service.submitted())['id']}"
    first = await service.client.get(path)
    assert first.headers["Retry-After"] == "1"
    tag = first.headers["ETag"]
    for said in (tag, f"W/{tag}", "*", f'"other", {tag}', f'W/"a,b" ,, {tag}'):
        again = await service.client.get(path, headers={"If-None-Match": said})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert ("X-Trace-Id" in again.headers, again.headers["Retry-After"]) == (True, "1")
    for said in ('"other"', tag.strip('"'), f"{tag}x", "", "W/*", f'"{tag}"'):
        assert (await service.client.get(path, headers={"If-None-Match": said})).status_code == 200
    await service.client.post(f"{path}/cancel")
    ended = await service.client.get(path, headers={"If-None-Match": tag})
    assert (ended.status_code, ended.headers["ETag"] == tag, "Retry-After" in ended.headers) == (200, False, False)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "edcba"),
        ("status=failed", "c"),
        ("status=failed&status=cancelled", "dc"),
        ("task=noop&task=other", "edcba"),
        ("task=other", "e"),
        ("queue=mail", "b"),
        ("tag=red", "ba"),
        ("tag=red&tag=blue", "b"),
        ("status=pending&tag=red&queue=default", "a"),
        ("tag=%C3%BCn%C3%AF%20%22%5C", "a"),
        ("trace_id=4bf92f3577b34da6a3ce929d0e0e4736", "e"),
        ("created_after=2000-01-01T00:00:00Z", "edcba"),
        ("created_after=9999-12-31T23:59:59Z", ""),
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
    for query, job in (
        (f"trace_id={first['trace_id']}", first),
        (f"created_after={first['created_at']}", second),
        (f"created_before={second['created_at']}", first),
    ):
        assert [each["id"] for each in await listed(service.client, query)] == [job["id"]]


async def test_pages_cover_a_list_that_grows(service: Service) -> None:
    """Jobs of one group were born at the same moment: only the id tells them apart."""
    batch = {"jobs": [{"task": "noop", "tags": ["a b"]}] * 6}
    born = [job["id"] for job in (await service.client.post("/v1/jobs/batch", json=batch)).json()["items"]]
    seen: list[str] = []
    address: str | None = "/v1/jobs?limit=3&tag=a%20b&status=pending&status=failed"
    while address:
        answer = await service.client.get(address)
        await service.submitted(tags=["a b"])
        page = answer.json()
        seen += [each["id"] for each in page["items"]]
        address = answer.links["next"]["url"] if "next" in answer.links else None
        assert (address is None) is (page["next_cursor"] is None)
        if address:
            assert parse_qs(urlsplit(address).query) == {
                "limit": ["3"], "tag": ["a b"], "status": ["pending", "failed"], "cursor": [page["next_cursor"]]
            }  # fmt: skip
    assert sorted(seen) == sorted(born), "a full last page has no next"


async def test_fifty_unless_asked(service: Service) -> None:
    await service.client.post("/v1/jobs/batch", json={"jobs": [{"task": "noop"}] * 201})
    assert len(await listed(service.client)) == 50
    assert len(await listed(service.client, "limit=200")) == 200


async def test_the_history_of_a_job(running: Service) -> None:
    job = await running.submitted("fail", args={"how": "error"})
    await running.ended(job["id"])
    answer = await running.client.get(f"/v1/jobs/{job['id']}/transitions")
    schemas.TransitionList.model_validate_json(answer.content, strict=True)
    moves = answer.json()["items"]
    assert [(each["seq"], each["from_status"], each["to_status"]) for each in moves] == [
        (1, None, "pending"), (2, "pending", "running"), (3, "running", "failed"),
    ]  # fmt: skip
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


# of a text that compresses well, and of one that does not
LARGE = """
INSERT INTO jobtrail.jobs (id, task, args)
SELECT gen_random_uuid(), 'noop', jsonb_build_object('text', CASE n % 2 WHEN 0 THEN repeat('x', $2) ELSE (
       SELECT string_agg(md5(random()::text || i), '') FROM generate_series(1, $2 / 32) AS i) END)
  FROM generate_series(1, $1) AS n RETURNING id
"""
MOVES = """
INSERT INTO jobtrail.transitions (job_id, seq, attempt, from_status, to_status, actor, error, trace_id, task)
SELECT $1, n, n, 'running', 'pending', 'node', jsonb_build_object('type', 'E', 'traceback', repeat('x', $3)),
       repeat('0', 32), 'noop'
  FROM generate_series(2, $2) AS n
"""


async def pages(caller: httpx.AsyncClient, path: str, **query: str) -> list[list[dict[str, Any]]]:
    """A page has at most about 8 MiB, and what it leaves out comes with the next one."""
    found: list[list[dict[str, Any]]] = []
    while True:
        answer = await caller.get(path, params=query)
        assert answer.status_code == 200, answer.text
        assert len(answer.content) < 9.5 * MIB or len(answer.json()["items"]) == 1
        found.append(answer.json()["items"])
        if (following := answer.json()["next_cursor"]) is None:
            return found
        query["cursor"] = following


@pytest.mark.usefixtures("unset")
async def test_a_page_of_large_jobs_is_shorter(service: Service, place: Place) -> None:
    stored = {row["id"] for row in await place.rows(LARGE, 12, MIB)}
    found = await pages(service.client, "/v1/jobs", include="args,result", limit="200")
    assert [len(page) for page in found] == [8, 4]
    assert {UUID(job["id"]) for page in found for job in page} == stored
    assert [len(page) for page in await pages(service.client, "/v1/jobs", limit="10")] == [10, 2]
    async with Jobtrail(Settings(database_url=place.setting), tasks=[]) as trail:
        first = await trail.list(limit=1000)
        second = await trail.list(limit=1000, after=first[-1])
        assert [len(first), len(second), len(await trail.list(after=second[-1]))] == [8, 4, 0]
    assert {job.id for job in (*first, *second)} == stored


async def test_what_is_larger_than_a_page_has_one_of_its_own(service: Service, place: Place) -> None:
    await place.rows(LARGE, 2, 9 * MIB)
    assert [len(page) for page in await pages(service.client, "/v1/jobs", include="args")] == [1, 1]


async def test_a_long_history_comes_in_pages(service: Service, place: Place) -> None:
    (job,) = [row["id"] for row in await place.rows(LARGE, 1, 10)]
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute(MOVES, job, 200, 100_000)
    found = await pages(service.client, f"/v1/jobs/{job}/transitions")
    assert len(found) == 3
    assert [move["seq"] for page in found for move in page] == list(range(1, 201))
    beyond = await service.client.get(f"/v1/jobs/{job}/transitions?cursor=500")
    assert beyond.json() == {"items": [], "next_cursor": None}


async def with_lines(place: Place, *counts: int, size: int = 1) -> UUID:
    """A job whose attempts have said so many lines each."""
    job_id = await rows.in_status(place, Status.RUNNING)
    for attempt, count in enumerate(counts, 1):
        await place.psql.execute(
            """INSERT INTO jobtrail.log_lines (job_id, attempt, number, at, level, logger, message)
               SELECT $1, $2::int, n, now(), 'INFO', 'shop', repeat('x', $4::int)
                 FROM generate_series(1, $3::int) n""",
            job_id, attempt, count, size,
        )  # fmt: skip
    return job_id


async def log(service: Service, job_id: object, query: str = "") -> list[dict[str, Any]]:
    answer = await service.client.get(f"/v1/jobs/{job_id}/log?{query}")
    schemas.JobLog.model_validate_json(answer.content, strict=True)
    return list(answer.json()["items"])


async def test_what_a_job_said_while_it_ran(running: Service) -> None:
    job = await running.ended((await running.submitted("tell"))["id"])
    assert job["progress"] == {"done": 2, "total": 2, "note": "all"}
    schemas.Job.model_validate_json(json.dumps(job), strict=True)
    items = await log(running, job["id"])
    assert [(item["attempt"], item["number"], item["level"], item["logger"]) for item in items] == [
        (1, 1, "INFO", "jobtrail.task.tell"), (1, 2, "ERROR", "a.host.of.its.own"),
    ]  # fmt: skip
    assert items[0]["message"] == "half of it"
    assert items[1]["message"].startswith("failed\nTraceback")
    assert job["started_at"] <= items[0]["at"] <= job["finished_at"]


async def test_a_part_of_a_log(service: Service, place: Place) -> None:
    job_id = await with_lines(place, 3, 2)
    await with_lines(place, 7)
    for query, expected in {
        "": [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)],
        "limit=3": [(1, 3), (2, 1), (2, 2)],
        "attempt=1": [(1, 1), (1, 2), (1, 3)],
        "attempt=1&limit=1": [(1, 3)],
        "attempt=3": [],
        f"attempt={10**30}": [],
    }.items():
        assert [(item["attempt"], item["number"]) for item in await log(service, job_id, query)] == expected, query


@pytest.mark.parametrize(
    ("counts", "size", "first", "count"),
    [((1500,), 1, (1, 501), 1000), ((1500, 300), 1, (1, 801), 1000), ((20, 20), 8192, (1, 9), 32)],
)
async def test_no_more_of_a_log_than_is_kept(
    service: Service, place: Place, counts: tuple[int, ...], size: int, first: tuple[int, int], count: int
) -> None:
    """Rows that are still there, because they are not trimmed yet, are not shown."""
    items = await log(service, await with_lines(place, *counts, size=size))
    assert ((items[0]["attempt"], items[0]["number"]), len(items)) == (first, count)
    assert (items[-1]["attempt"], items[-1]["number"]) == (len(counts), counts[-1])


async def test_whatever_progress_was_written_by_hand_can_be_read(service: Service, place: Place) -> None:
    job_id = await rows.in_status(place, Status.RUNNING)
    none = ('{"done": "much"}', '{"done": true}', '{"done": -1}', '{"done": 1e400}', '{"done": 1, "note": 5}', "{}",
            "null", '"half"', "[1, 2]", "50")  # fmt: skip
    for written, shown in {
        '{"done": 1}': {"done": 1, "total": None, "note": None},
        '{"done": 0.5, "total": 1, "note": "n", "more": 5}': {"done": 0.5, "total": 1, "note": "n"},
        **dict.fromkeys(none),
    }.items():
        await place.psql.execute("UPDATE jobtrail.jobs SET progress = $2 WHERE id = $1", job_id, written)
        assert (await service.job(str(job_id)))["progress"] == shown, written
        assert [each["progress"] for each in await listed(service.client)] == [shown], written
