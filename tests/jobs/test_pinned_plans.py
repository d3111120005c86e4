"""A plan is made once for a connection: it is the same, and right, whatever the tables and statistics are then."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import TextClause, TextualSelect, text
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.db.direct import Statement
from jobtrail.db.engine import BY_INDEX, FOR_GROUPS, connected, open_single
from jobtrail.db.host_engine import lend_single
from jobtrail.db.tables import SCHEMA
from jobtrail.jobs import cancel, claim, finish, insert, log, progress, renew, rescue, retry
from support.lent import lent
from support.world import LEASE, Place

NODE = uuid4()

BY_ID = {
    "claim of these": claim._THESE,
    "held": claim._HELD,
    "finish": finish._FINISH.plain,
    "finish, stepping": finish._FINISH.stepping,
    "renew": renew._RENEW.plain,
    "renew, stepping": renew._RENEW.stepping,
    "progress": progress._REPORT.plain,
    "lines": log._ADD,
    "cancel": cancel._CANCEL,
    "cancelled": cancel._STATUS,
    "births": insert._BIRTHS,
}
OTHERS = {
    "claim": (claim._NEXT, {"ix_jobs_claim", "pk_jobs"}),
    "due": (claim._DUE, {"ix_jobs_claim"}),
    "running": (renew._RUNNING, {"ix_jobs_running"}),
    "retry": (retry._RETRY, {"pk_jobs", "uq_jobs_replaceable", "uq_jobs_unique"}),
    "rescue": (rescue._RESCUE, {"ix_jobs_running", "pk_jobs"}),
}

INSERT = """
INSERT INTO jobtrail.jobs (id, task, run_at)
SELECT gen_random_uuid(), 'noop', now() - interval '1 s' FROM generate_series(1, $1)
"""

MOVE = {
    "pending": "SELECT",
    "running": """UPDATE jobtrail.jobs SET status = 'running', attempt = 1, node_id = gen_random_uuid(),
                         lease_until = now(), started_at = now()""",
    "failed": """UPDATE jobtrail.jobs SET status = 'failed', attempt = 1, error = '{}', started_at = now(),
                        finished_at = now(), expires_at = now()""",
}


@asynccontextmanager
async def grouped(place: Place) -> AsyncIterator[asyncpg.Connection]:
    """A connection as groups have it, whatever is between here and there."""
    connection = await asyncpg.connect(place.scratch.url, server_settings=FOR_GROUPS.settings)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("rows", [0, 1, 5, 100, 20_000])
@pytest.mark.parametrize("status", MOVE)
async def test_every_grouped_statement_has_one_plan(place: Place, rows: int, status: str) -> None:
    """Before the statistics are made, and after; then with the rows that they do not know of."""
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute(INSERT, rows)
        await place.psql.execute(MOVE[status])
    for _ in range(2):
        async with grouped(place) as connection:
            for name, statement in BY_ID.items():
                assert await indexes(connection, statement) == {"pk_jobs"}, name
            for name, (statement, found) in OTHERS.items():
                assert await indexes(connection, statement) == found, name
        await place.psql.execute("VACUUM ANALYZE jobtrail.jobs")


async def indexes(connection: asyncpg.Connection, statement: Statement | TextClause | TextualSelect) -> set[str]:
    """Those of the jobs, each by a condition; nothing but an index is read."""
    sql, names = bare(statement)
    await connection.execute(f"PREPARE planned AS {sql}")
    found = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE planned ({', '.join(['NULL'] * len(names))})")
    await connection.execute("DEALLOCATE planned")
    scans = [node for node in nodes(json.loads(found)[0]["Plan"]) if node.get("Relation Name") == "jobs"]
    for scan in scans:
        assert scan["Node Type"] in {"Index Scan", "Index Only Scan", "ModifyTable"}, scan
        assert "Index Cond" in scan or scan.get("Index Name") != "pk_jobs", scan
    return {scan["Index Name"] for scan in scans if "Index Name" in scan}


def bare(statement: Statement | TextClause | TextualSelect) -> tuple[str, list[str]]:
    """The text that the driver gets, and the names of its parameters."""
    if isinstance(statement, Statement):
        return statement.of(SCHEMA), list(statement.names)
    compiled = statement.compile(dialect=dialect.dialect())
    return str(compiled), list(compiled.positiontup or ())


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def test_a_claim_and_its_end_cost_their_own_rows_when_the_first_were_few(place: Place) -> None:
    """Statistics of one pending row, planned with these, and 20,000 more. The history, too, joins 500 rows with 500."""
    await place.psql.execute("ALTER TABLE jobtrail.jobs SET (autovacuum_enabled = off)")
    await place.psql.execute(INSERT, 1)
    await place.psql.execute("VACUUM ANALYZE jobtrail.jobs")
    async with grouped(place) as connection:
        assert len(await run(connection, 1)) > 0
        await place.psql.execute(INSERT, 20_000)
        plans = await run(connection, 500)
    moves = [plan for plan in plans if "transitions" in {node.get("Relation Name") for node in nodes(plan)}]
    assert len(moves) == 2
    for plan in plans:
        for node in nodes(plan):
            read = (node["Actual Rows"] + removed(node)) * node["Actual Loops"]
            assert read <= 3 * 500, node


def removed(node: dict[str, Any]) -> float:
    return sum(node.get(f"Rows Removed by {what}", 0) for what in ("Filter", "Join Filter", "Index Recheck"))


async def run(connection: asyncpg.Connection, free: int) -> list[dict[str, Any]]:
    """Claim and finish so many; the plans of both and of their triggers, as they were executed."""
    plans: list[dict[str, Any]] = []

    def hear(_: object, message: Any) -> None:
        plans.append(json.loads(message.message.partition("plan:\n")[2])["Plan"])

    await connection.execute("LOAD 'auto_explain'")
    for name, value in (
        ("log_min_duration", "0"), ("log_nested_statements", "on"), ("log_analyze", "on"), ("log_timing", "off"),
        ("log_format", "json"), ("log_level", "notice"),
    ):  # fmt: skip
        await connection.execute(f"SET auto_explain.{name} = '{value}'")
    connection.add_log_listener(hear)
    poll = {
        "node": NODE, "lease": LEASE * 30, "tasks": ["noop"], "queues": [], "all_queues": True, "free": free,
        "salt": "x",
    }  # fmt: skip
    sql, names = bare(claim._NEXT)
    claimed = [row["id"] for row in await connection.fetch(sql, *(poll[name] for name in names))]
    assert len(claimed) == free
    ends = {
        "node": NODE, "id": sorted(claimed), "attempt": [1] * free, "status": ["succeeded"] * free,
        "reason": ["succeeded"] * free, "result": ["1"] * free, "error": [None] * free, "delay": [None] * free,
        "more": [0] * free, "progress": [None] * free,
    }  # fmt: skip
    sql, names = bare(finish._FINISH.plain)
    assert len(await connection.fetch(sql, *(ends[name] for name in names))) == free
    connection.remove_log_listener(hear)
    return plans


async def test_the_settings_reach_each_connection_of_groups_and_leave_none(place: Place) -> None:
    async with lent(place) as (engine, database):
        singles = open_single(place.url.sqlalchemy), lend_single(engine)
        for pool in (place.database.grouped, database.grouped, *singles):
            assert await settings_of(pool) == BY_INDEX
        for pool in (place.database.engine, place.database.jobs, database.engine, database.jobs, engine):
            assert (await settings_of(pool))["enable_seqscan"] == "on"
        for single in singles:
            await single.dispose()


async def settings_of(engine: AsyncEngine) -> dict[str, str]:
    async with connected(engine, 10) as connection:
        return {name: (await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in BY_INDEX}
