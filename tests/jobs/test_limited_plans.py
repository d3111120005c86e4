"""What a claim of limited jobs reads, whatever waits."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from jobtrail.jobs.claim import _LIMITED
from support.world import Place

FILL = """
INSERT INTO jobtrail.jobs (id, task, due_at, run_at, limit_keys, limit_terms, priority)
SELECT gen_random_uuid(), 'noop', now() + $3::interval, NULL, $2::text[], '[{"number": 2}]', n % 10
  FROM generate_series(1, $1::int) n
"""

MANY_LANES = """
INSERT INTO jobtrail.jobs (id, task, due_at, run_at, limit_keys, limit_terms)
SELECT gen_random_uuid(), 'noop', now() - interval '1 min', NULL, ARRAY['all', 'lane ' || n],
       '[{"number": 3}, {"number": 1}]'
  FROM generate_series(1, 5000) n
"""


async def claim(place: Place, start: list[str]) -> tuple[int, int, list[str]]:
    """Pages that were read, jobs that were claimed, and where to go on."""
    values = {
        "node": uuid4(), "lease": timedelta(seconds=30), "tasks": ["noop"], "queues": [], "free": 10,
        "declared": "{}", "start": start, "hints": [],
    }  # fmt: skip
    sql, arguments = _LIMITED.of("jobtrail"), _LIMITED.arguments(values)
    await place.psql.fetch(sql, *arguments)  # plans are made, and what runs is running
    async with place.psql.transaction():
        found = await place.psql.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", *arguments)
    plan: dict[str, Any] = json.loads(found)[0]["Plan"]
    *jobs, last = await place.psql.fetch(sql, *arguments)
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], len(jobs), json.loads(last["args"])


@pytest.fixture
async def filled(place: Place) -> Place:
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute(FILL, 30_000, ["full"], timedelta(minutes=-1))
        await place.psql.execute(FILL, 30_000, ["tomorrow"], timedelta(days=1))
    await place.psql.execute("VACUUM ANALYZE jobtrail.jobs")
    return place


async def test_an_idle_poll_walks_neither_past_a_full_lane_nor_past_what_is_due_tomorrow(filled: Place) -> None:
    pages, jobs, _ = await claim(filled, [])
    print(f"an idle poll over 30,000 jobs of a full key and 30,000 of tomorrow: {pages} pages")
    assert jobs == 0
    assert pages < 300


async def test_a_poll_looks_at_a_bounded_number_of_lanes_and_goes_on_from_there(place: Place) -> None:
    await place.psql.execute(MANY_LANES)
    await place.psql.execute("VACUUM ANALYZE jobtrail.jobs")
    pages, jobs, after = await claim(place, [])
    print(f"an idle poll over 5,000 lanes behind a full key: {pages} pages")
    lanes = "SELECT limit_keys FROM jobtrail.jobs WHERE status = 'pending' ORDER BY limit_keys OFFSET 299 LIMIT 1"
    assert (jobs, after) == (0, await place.value(lanes))
    assert pages < 3000
    assert (await claim(place, after))[2] != after
