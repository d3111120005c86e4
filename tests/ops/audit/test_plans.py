"""On a table of many rows: each question is answered in time, and by an index where it asks for little."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
from sqlalchemy import text

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.ops.audit import _statement, ask, question, questions
from support import world
from support.world import Place

# Ended, but for the last thousands: 1000 run and 4000 wait. Every tenth belongs to a trace of five from outside.
FILL: Final = """
INSERT INTO jobtrail.jobs (id, task, trace_id, status, attempt, node_id, created_at, run_at, started_at, finished_at,
                           expires_at, lease_until, result, error, seq)
SELECT id, 'task_' || n % 20, CASE n % 10 WHEN 0 THEN md5((n / 50)::text) ELSE replace(id::text, '-', '') END, status,
       began, CASE began WHEN 1 THEN id END, at, at, CASE began WHEN 1 THEN at END, CASE ended WHEN 1 THEN at END,
       CASE ended WHEN 1 THEN at + interval '7 days' END, CASE status WHEN 'running' THEN at + interval '1 day' END,
       CASE status WHEN 'succeeded' THEN '1'::jsonb END, CASE status WHEN 'failed' THEN '{"type": "E"}'::jsonb END,
       1 + began + ended
  FROM (SELECT n, ('0190' || lpad(to_hex(n), 8, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid AS id, status,
               clock_timestamp() - (120000 - n) * interval '5 s' AS at,
               (status <> 'pending')::int AS began, (status NOT IN ('pending', 'running'))::int AS ended
          FROM (SELECT n, CASE WHEN n > 116000 THEN 'pending' WHEN n > 115000 THEN 'running'
                               WHEN n % 50 = 1 THEN 'failed' ELSE 'succeeded' END AS status
                  FROM generate_series(1, 120000) AS n) AS numbered) AS dated
"""

TELL: Final = """
INSERT INTO jobtrail.transitions (job_id, seq, attempt, from_status, to_status, at, actor, error, trace_id, task)
SELECT j.id, q, (q > 1)::int, (ARRAY[NULL, 'pending', 'running'])[q], (ARRAY['pending', 'running', j.status])[q],
       j.created_at, 'node', CASE q WHEN 3 THEN j.error END, j.trace_id, j.task
  FROM jobtrail.jobs j CROSS JOIN generate_series(1, j.seq) AS q
"""

NODE: Final = """
INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots)
SELECT gen_random_uuid(), 'alpha', 1, 'test', '{}', array_agg('task_' || n), '{}' FROM generate_series(0, 18) AS n
"""


@pytest.fixture(scope="module")
async def crowd(postgres: EmbeddedPostgres) -> AsyncIterator[Place]:
    async with world.migrated(postgres) as place:
        async with place.psql.transaction():
            await place.psql.execute("SET LOCAL session_replication_role = replica")
            for statement in (FILL, TELL, NODE):
                await place.psql.execute(statement)
        await place.psql.execute("ANALYZE jobtrail.jobs, jobtrail.transitions, jobtrail.nodes")
        yield place


async def given_for(place: Place, name: str) -> dict[str, str]:
    """The ids of things in the middle."""
    middle = "SELECT {} FROM jobtrail.jobs WHERE trace_id <> replace(id::text, '-', '') ORDER BY id OFFSET 5000 LIMIT 1"
    match name:
        case "history_of_job":
            return {"id": await place.value(middle.format("id::text"))}
        case "by_trace":
            return {"trace_id": await place.value(middle.format("trace_id"))}
        case "expiring_soon":
            return {"within": "6 hours"}
        case _:
            return {}


@pytest.mark.parametrize("name", sorted(questions()))
async def test_a_question_is_answered_in_time(crowd: Place, name: str) -> None:
    given = await given_for(crowd, name)
    async with crowd.database.sessions() as session:
        answer = await ask(session, question(name), given)
    assert answer.rows or name in (
        "batches_open", "cancellations", "feed_lag", "limits_full", "lost_jobs", "purged", "schedules_missed",
        "schedules_next",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "indexes", "rows"),
    [
        ("history_of_job", {"pk_transitions"}, 3),
        ("by_trace", {"pk_jobs", "ix_jobs_trace", "pk_transitions"}, 5),
        ("cancellations", {"ix_jobs_cancel", "ix_transitions_cancelled"}, 0),
        ("lost_jobs", {"ix_transitions_lost"}, 0),
        ("expiring_soon", {"ix_jobs_expiry"}, 100),
        ("stuck_jobs", {"pk_jobs", "ix_jobs_running"}, 100),
        ("purged", {"ix_transitions_purged"}, 0),
    ],
)
async def test_what_asks_for_little_reads_little(crowd: Place, name: str, indexes: set[str], rows: int) -> None:
    """Also in psql: there the values are literals, here they are bound. Of two indexes that would do, releases of
    PostgreSQL take either: named are those without another.
    """
    given = await given_for(crowd, name)
    asked = question(name)
    values = {each.name: given.get(each.name, each.default) for each in asked.parameters}
    literal = asked.sql
    for key, value in values.items():
        literal = literal.replace(f":'{key}'", f"'{value}'")
    async with crowd.database.sessions() as session:
        for statement, bound in ((_statement(asked.sql), values), (text(literal.replace("::", "\\:\\:")), {})):
            explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}")
            plan = (await session.execute(explain, bound)).scalar_one()
            top = (json.loads(plan) if isinstance(plan, str) else plan)[0]
            nodes = list(walk(top["Plan"]))
            assert {node["Index Name"] for node in nodes if "Index Name" in node} >= indexes
            scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
            assert scanned <= {"nodes", "pauses"}
            assert top["Plan"]["Actual Rows"] == rows


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for each in node.get("Plans", ()):
        yield from walk(each)
