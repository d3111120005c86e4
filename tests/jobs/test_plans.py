"""The statements that carry the load keep their plans on an analyzed table with many ended and some running rows."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Select, text
from sqlalchemy.dialects.postgresql import asyncpg

from jobtrail.db.direct import Statement
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.tables import SCHEMA
from jobtrail.jobs import after, bulk, claim, finish, renew
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.query import Filter, Page, list_statement
from jobtrail.ops import batches
from jobtrail.status import Status
from support.until import until
from support.world import Place, migrated

LEASE = timedelta(seconds=30)
SOON = datetime(2100, 1, 1, tzinfo=UTC)

FILL = """
WITH born AS (
  INSERT INTO jobtrail.jobs (id, task, queue, priority, run_at, trace_id, tags)
  SELECT gen_random_uuid(), 'noop', 'q' || n % 3, n % 10,
         now() + CASE WHEN n % 7 = 0 THEN interval '1 day' ELSE interval '-1 s' END,
         replace(gen_random_uuid()::text, '-', ''), CASE WHEN n % 500 = 0 THEN '{rare}'::text[] ELSE '{}' END
    FROM generate_series(1, 60000) n RETURNING id)
SELECT count(*) FROM born
"""

END = """
UPDATE jobtrail.jobs SET status = 'succeeded', attempt = 1, started_at = now(), finished_at = now(),
       expires_at = now() + interval '1 day'
 WHERE id IN (SELECT id FROM jobtrail.jobs ORDER BY id LIMIT 40000)
"""

FAIL = """
UPDATE jobtrail.jobs SET status = 'failed', error = '{}' WHERE id IN (
       SELECT id FROM jobtrail.jobs WHERE status = 'succeeded' LIMIT 40)
"""

RUN = """
UPDATE jobtrail.jobs SET status = 'running', attempt = 1, node_id = $1, lease_until = now() + interval '1 min',
       started_at = now()
 WHERE id IN (SELECT id FROM jobtrail.jobs WHERE status = 'pending' LIMIT 300) RETURNING id
"""


@dataclass(frozen=True)
class Filled:
    place: Place
    node: UUID
    running: list[UUID]


@pytest.fixture(scope="module")
async def filled(postgres: EmbeddedPostgres) -> AsyncIterator[Filled]:
    """Many ended, some running, many pending of which a seventh is due tomorrow. The plans leave it as it is."""
    async with migrated(postgres) as place:
        yield Filled(place, *await fill(place))


async def fill(place: Place) -> tuple[UUID, list[UUID]]:
    node = uuid4()
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        # between them, since what is known of the table may be from when it was empty: then END takes minutes
        for statement in (FILL, "ANALYZE jobtrail.jobs", END, FAIL):
            await place.psql.execute(statement)
    running = [row["id"] for row in await place.rows(RUN, node)]
    await place.psql.execute("VACUUM ANALYZE jobtrail.jobs")
    return node, running


async def plan_of(place: Place, statement: Any, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of the plan that PostgreSQL really chose, executed and rolled back."""
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)"
    async with place.database.engine.connect() as connection:
        if isinstance(statement, Statement):
            sql, arguments = statement.of(SCHEMA), statement.arguments(parameters)
            found = (await connection.exec_driver_sql(f"{explain} {sql}", arguments)).scalar_one()
        elif isinstance(statement, Select):
            compiled = statement.compile(dialect=asyncpg.dialect(), compile_kwargs={"literal_binds": True})
            found = (await connection.exec_driver_sql(f"{explain} {compiled}")).scalar_one()
        else:
            found = (await connection.execute(text(f"{explain} {statement.text}"), parameters)).scalar_one()
        await connection.rollback()
    plan = json.loads(found) if isinstance(found, str) else found
    return list(_nodes(plan[0]["Plan"]))


def _nodes(node: dict[str, Any]) -> Any:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def indexes(plan: list[dict[str, Any]]) -> set[str]:
    """The indexes of the jobs. The pauses are few: how they are read does not matter."""
    assert not [node for node in plan if node["Node Type"] == "Seq Scan" and node["Relation Name"] != "pauses"], plan
    return {node["Index Name"] for node in plan if "Index Name" in node} - {"pk_pauses"}


def pages(plan: list[dict[str, Any]], what: str) -> int:
    found: int = plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"]
    print(f"{what}: {found} pages, {plan[0]['Actual Total Time']:.2f} ms")
    return found


def touched(plan: list[dict[str, Any]]) -> int:
    """Rows of the index by which jobs are claimed."""
    nodes = [node for node in plan if node.get("Index Name") == "ix_jobs_claim"]
    return sum(node["Actual Rows"] * node["Actual Loops"] for node in nodes)


async def test_fenced_updates_go_by_primary_key(filled: Filled) -> None:
    count = len(filled.running)
    keys = {"node": filled.node, "id": filled.running, "attempt": [1] * count}
    ends = {
        **keys,
        "status": ["succeeded"] * count, "reason": ["succeeded"] * count, "result": [None] * count,
        "error": [None] * count, "delay": [None] * count, "more": [0] * count,
        "progress": [None] * count,
    }  # fmt: skip
    for update, parameters in ((finish._FINISH, ends), (renew._RENEW, {**keys, "lease": LEASE})):
        for shape in (update.plain, update.stepping):
            plan = await plan_of(filled.place, shape, parameters)
            assert indexes(plan) == {"pk_jobs"}
            assert plan[0]["Actual Rows"] == count


@pytest.mark.parametrize("queues", [[], ["q1", "q2"]])
async def test_the_claim_reads_no_more_than_it_takes(filled: Filled, queues: list[str]) -> None:
    plan = await plan_of(filled.place, claim._NEXT, _poll(queues=queues))
    assert indexes(plan) == {"ix_jobs_claim", "pk_jobs"}
    assert plan[0]["Actual Rows"] == 20
    assert touched(plan) < 20 + 2 * 40


async def test_an_idle_poll_is_cheap_whatever_waits_for_tomorrow(place: Place) -> None:
    await fill(place)
    await place.psql.execute("UPDATE jobtrail.jobs SET run_at = now() + interval '1 day' WHERE status = 'pending'")
    await place.psql.execute("VACUUM ANALYZE jobtrail.jobs")
    for statement in (claim._NEXT, claim._DUE):
        plan = await plan_of(place, statement, _poll())
        assert indexes(plan) <= {"ix_jobs_claim", "pk_jobs"}
        assert pages(plan, "an idle poll over 20,000 future jobs") < 500


PAUSE = """
INSERT INTO jobtrail.pauses (kind, name)
SELECT kind, name || n FROM (VALUES ('queue', 'q'), ('task', 't')) AS k(kind, name), generate_series(1, 50) AS n
"""


async def test_pauses_are_read_once_and_a_paused_queue_not_at_all(place: Place) -> None:
    """q1 and q2 are, with 13,000 jobs, and q0 is not."""
    await fill(place)
    await place.psql.execute(PAUSE)
    plan = await plan_of(place, claim._NEXT, _poll(tasks=["noop", "t1"]))
    assert indexes(plan) == {"ix_jobs_claim", "pk_jobs"}
    assert plan[0]["Actual Rows"] == 20
    assert _loops_over_pauses(plan) <= {0, 1}
    assert touched(plan) < 20 + 2 * 40

    await place.psql.execute("INSERT INTO jobtrail.pauses (kind, name) VALUES ('queue', 'q0')")
    idle = await plan_of(place, claim._NEXT, _poll())
    assert pages(idle, "a poll over 20,000 jobs of paused queues") < 500

    ids = [row["id"] for row in await place.rows("SELECT id FROM jobtrail.jobs WHERE status = 'pending' LIMIT 50")]
    by_id = await plan_of(place, claim._THESE, {"node": uuid4(), "lease": LEASE, "ids": ids})
    assert indexes(by_id) == {"pk_jobs"}
    assert by_id[0]["Actual Rows"] == 0
    assert _loops_over_pauses(by_id) <= {0, 1}

    # rows of a paused task are passed over one by one, so each poll pays for them; but none is locked or sorted
    await place.psql.execute("DELETE FROM jobtrail.pauses")
    await place.psql.execute("INSERT INTO jobtrail.pauses (kind, name) VALUES ('task', 'noop')")
    plan = await plan_of(place, claim._NEXT, _poll(tasks=["noop", "t1"]))
    passed = sum(
        node["Rows Removed by Filter"] * node["Actual Loops"] for node in plan if "Rows Removed by Filter" in node
    )
    assert pages(plan, f"a poll over {passed} due jobs of a paused task")
    assert indexes(plan) == {"ix_jobs_claim", "pk_jobs"}
    assert plan[0]["Actual Rows"] == 0
    assert passed > 15_000


def _poll(*, tasks: Sequence[str] = ("noop",), queues: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "node": uuid4(), "lease": LEASE, "tasks": list(tasks), "queues": list(queues),
        "all_queues": not queues, "free": 20, "salt": "x",
    }  # fmt: skip


def _loops_over_pauses(plan: list[dict[str, Any]]) -> set[int]:
    return {node["Actual Loops"] for node in plan if node.get("Relation Name") == "pauses"}


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(), "ix_jobs_created"),
        (Filter(status=(Status.FAILED,)), "ix_jobs_ended_badly"),
        (Filter(tags=("rare",)), "ix_jobs_tags"),
        (Filter(trace_id=("ab" * 16,)), "ix_jobs_trace"),
        (Filter(task=("other",)), "ix_jobs_task"),
        (Filter(queue=("other",)), "ix_jobs_queue"),
        (Filter(created_by="other"), "ix_jobs_created_by"),
        (Filter(task=("other", "another"), queue=("q1",)), "ix_jobs_task"),
        (Filter(task=("other",), status=(Status.FAILED, Status.PENDING)), "ix_jobs_pending"),
        (Filter(status=(Status.PENDING,)), "ix_jobs_pending or ix_jobs_created"),
    ],
)
async def test_lists_have_an_index(filled: Filled, wanted: Filter, index: str) -> None:
    plan = await plan_of(filled.place, list_statement(Page(limit=50, filter=wanted)), {})
    assert indexes(plan) & set(index.split(" or "))


@pytest.mark.parametrize("field", ["task", "queue", "created_by"])
@pytest.mark.parametrize("status", [(), (Status.FAILED,), (Status.PENDING,), (Status.SUCCEEDED, Status.RUNNING)])
async def test_a_list_of_what_is_not_there_reads_none_but_those_that_run(
    filled: Filled, field: str, status: tuple[Status, ...]
) -> None:
    wanted = Filter(status=status, **{field: "other" if field == "created_by" else ("other",)})
    plan = await plan_of(filled.place, list_statement(Page(limit=50, filter=wanted)), {})
    assert plan[0]["Actual Rows"] == 0
    read = [node for node in plan if node.get("Rows Removed by Filter")]
    assert indexes(read) <= {"ix_jobs_running"}


async def test_a_list_of_the_cancelled_reads_none_that_failed(filled: Filled) -> None:
    wanted = Filter(status=(Status.CANCELLED,))
    plan = await plan_of(filled.place, list_statement(Page(limit=50, filter=wanted)), {})
    assert indexes(plan) == {"ix_jobs_ended_badly"}
    assert not any(node.get("Rows Removed by Filter") for node in plan)


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        (bulk.scope_of(bulk.Action.RETRY, Filter(task=("noop",)), SOON), {"ix_jobs_ended_badly"}),
        (bulk.scope_of(bulk.Action.CANCEL, Filter(queue=("q1",)), SOON), {"ix_jobs_claim", "ix_jobs_running"}),
    ],
)
async def test_the_jobs_of_a_bulk_move_are_counted_and_picked_by_an_index(
    filled: Filled, scope: Any, found: set[str]
) -> None:
    assert indexes(await plan_of(filled.place, bulk.count_statement(scope), {})) == found
    assert indexes(await plan_of(filled.place, bulk.pick_statement(scope, None, 500), {}))


async def test_a_renewal_touches_no_index(place: Place) -> None:
    node, running = await fill(place)
    before = await _updates(place)
    async with place.database.autocommit() as connection:
        held = [AttemptRef(each, 1) for each in running]
        for _ in range(3):
            await renew.renew(connection, held, node=node, lease=LEASE)

    async def told() -> tuple[int, int] | None:
        after = await _updates(place)
        return (after[0] - before[0], after[1] - before[1]) if after[0] - before[0] >= 900 else None

    updates, hot = await until(told)
    print(f"{hot} of {updates} renewals were heap-only")
    assert updates == 900
    assert hot > updates / 2  # with an index in the way it would be none; without, it is for pages without room


async def _updates(place: Place) -> tuple[int, int]:
    """The counts of all backends: each tells its own at the latest when it ends, this one when it is told to."""
    await place.database.grouped.dispose()
    await place.psql.execute("SELECT pg_stat_force_next_flush()")
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'jobtrail.jobs'::regclass"
    (row,) = await place.rows(query)
    return row["n_tup_upd"], row["n_tup_hot_upd"]


EDGES = """
INSERT INTO jobtrail.edges (child, parent)
SELECT id, (SELECT id FROM jobtrail.jobs WHERE status = 'running' LIMIT 1) FROM jobtrail.jobs WHERE status = 'pending'
"""


async def test_what_waits_is_looked_for_by_the_parents(place: Place) -> None:
    """20,000 children of one parent: a sweep asks for the parent, a hint for its own children alone."""
    _, running = await fill(place)
    await place.psql.execute(EDGES)
    await place.psql.execute("VACUUM (FULL, ANALYZE) jobtrail.edges")  # what other tests left there is gone
    await place.psql.execute("VACUUM jobtrail.edges")
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)"
    asked = {"parents": running[:50], "after": UUID(int=0), "most": 500}
    children = [row["child"] for row in await place.rows("SELECT child FROM jobtrail.edges LIMIT 500")]
    cases = (
        (after._ENDED, {}, {"ix_edges_parent", "pk_jobs"}, 50),
        (after._CHILDREN, asked, {"ix_edges_parent", "pk_edges"}, 2000),  # of one parent they are alike
        (after._LOCK, {"children": children}, {"pk_jobs"}, 4000),
    )
    async with place.database.sessions() as session:
        await session.execute(after._BY_INDEX)
        for statement, values, by, most in cases:
            found = (await session.execute(text(f"{explain} {statement.text}"), values)).scalar_one()
            plan = list(_nodes((json.loads(found) if isinstance(found, str) else found)[0]["Plan"]))
            assert indexes(plan)
            assert indexes(plan) <= by
            assert pages(plan, "20,000 children of one parent") < most


BATCHES = """
WITH made AS (
    INSERT INTO jobtrail.batches (id, total, created_by)
    SELECT gen_random_uuid(), 400, 'ann' FROM generate_series(1, 100) RETURNING id)
UPDATE jobtrail.jobs j SET batch_id = m.id
  FROM (SELECT id, row_number() OVER () AS n FROM made) m
 WHERE j.status <> 'running' AND 1 + abs(hashtext(j.id::text)) % 100 = m.n
"""


async def test_open_batches_are_looked_at_by_their_own_index(place: Place) -> None:
    _, running = await fill(place)
    await place.psql.execute(BATCHES)
    await place.psql.execute("VACUUM ANALYZE jobtrail.jobs, jobtrail.batches")
    for statement in (batches._ANY, batches._OF_JOBS):
        plan = await plan_of(place, statement, {"most": 100, "jobs": running[:50]})
        read = [each for each in plan if each.get("Relation Name") == "jobs"]
        assert {each.get("Index Name") for each in read} <= {"ix_jobs_batch", "pk_jobs"}, read
        assert pages(plan, "100 open batches of 600 jobs each") < 1500
    one = {"id": await place.value("SELECT id FROM jobtrail.batches LIMIT 1"), "only_of": None}
    plan = await plan_of(place, batches._READ, one)
    assert "ix_jobs_batch" in indexes([each for each in plan if each.get("Relation Name") == "jobs"] or plan)
