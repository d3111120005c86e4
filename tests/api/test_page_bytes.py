"""A page has at most about 8 MiB, however large its items are, and what it leaves out comes with the next one."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from jobtrail import Jobtrail
from jobtrail.settings import Settings
from support.service import Service
from support.world import Place

MIB = 2**20

# Of a text that compresses well, and of one that does not.
LARGE = """
INSERT INTO jobtrail.jobs (id, task, args)
SELECT gen_random_uuid(), 'noop', jsonb_build_object('text', CASE n % 2 WHEN 0 THEN repeat('x', $2) ELSE (
       SELECT string_agg(md5(random()::text || i), '') FROM generate_series(1, $2 / 32) AS i) END)
  FROM generate_series(1, $1) AS n RETURNING id
"""

TOLD = """
INSERT INTO jobtrail.transitions (job_id, seq, attempt, from_status, to_status, actor, error, trace_id, task)
SELECT $1, n, n, 'running', 'pending', 'node', jsonb_build_object('type', 'E', 'traceback', repeat('x', $3)),
       repeat('0', 32), 'noop'
  FROM generate_series(2, $2) AS n
"""


async def pages(caller: httpx.AsyncClient, path: str, **query: str) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = []
    while True:
        answer = await caller.get(path, params=query)
        assert answer.status_code == 200, answer.text
        assert len(answer.content) < 9.5 * MIB or len(answer.json()["items"]) == 1
        found.append(answer.json()["items"])
        if (following := answer.json()["next_cursor"]) is None:
            return found
        query["cursor"] = following


async def test_a_page_of_large_jobs_is_shorter(service: Service, place: Place) -> None:
    stored = {str(row["id"]) for row in await place.rows(LARGE, 12, MIB)}
    found = await pages(service.client, "/v1/jobs", include="args,result", limit="200")
    assert [len(page) for page in found] == [8, 4]
    assert {job["id"] for page in found for job in page} == stored
    assert [len(page) for page in await pages(service.client, "/v1/jobs", limit="10")] == [10, 2]
    assert [len(page) for page in await pages(service.client, "/v1/jobs", include="args", limit="3")] == [3] * 4


async def test_what_is_larger_than_a_page_has_one_of_its_own(service: Service, place: Place) -> None:
    await place.rows(LARGE, 2, 9 * MIB)
    assert [len(page) for page in await pages(service.client, "/v1/jobs", include="args")] == [1, 1]


async def test_a_long_history_comes_in_pages(service: Service, place: Place) -> None:
    (job,) = [row["id"] for row in await place.rows(LARGE, 1, 10)]
    await by_force(place, job, 200, 100_000)
    found = await pages(service.client, f"/v1/jobs/{job}/transitions")
    assert len(found) == 3
    assert [move["seq"] for page in found for move in page] == list(range(1, 201))
    beyond = await service.client.get(f"/v1/jobs/{job}/transitions?cursor=500")
    assert beyond.json() == {"items": [], "next_cursor": None}
    for wrong in ("x", "0", "-1", "1" * 10):
        assert (await service.client.get(f"/v1/jobs/{job}/transitions?cursor={wrong}")).status_code == 422


async def by_force(place: Place, job: UUID, moves: int, size: int) -> None:
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute(TOLD, job, moves, size)


@pytest.mark.usefixtures("unset")
async def test_a_host_reads_large_jobs_page_by_page(place: Place) -> None:
    stored = {row["id"] for row in await place.rows(LARGE, 10, MIB)}
    async with Jobtrail(Settings(database_url=place.setting), tasks=[]) as trail:
        first = await trail.list(limit=1000)
        second = await trail.list(limit=1000, after=first[-1])
        assert [len(first), len(second), len(await trail.list(after=second[-1]))] == [8, 2, 0]
    assert {job.id for job in (*first, *second)} == stored
