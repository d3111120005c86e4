"""One schema is one app's world: a whole life in one of another name where there is no `jobtrail`, so that a statement
that forgot to say which fails; and two apps in one database that never see each other.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from jobtrail import JobContext, Jobs, Jobtrail, task
from jobtrail.db import migrate
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.url import normalize
from jobtrail.jobs.host_session import JobRow
from jobtrail.ops.audit import questions
from support.bouncer import PROGRAM, pgbouncer, through
from support.command import Command
from support.host import TASKS, Host, settings_at
from support.psql import run_file
from support.served import CHECKOUT, started
from support.service import client_of
from support.tasks import hold, noop, tell
from support.until import until

OTHER = "order"
"""A word of SQL, so that a name which is not quoted fails too."""

READ = f'SELECT id, status, error, result, node_id FROM "{OTHER}".jobs WHERE id = $1'


@task
async def put_down(context: JobContext, name: str) -> str:
    """It writes a row of its own together with its end, and reads a table that is called as one of ours."""
    session = await context.session()
    await session.execute(text("INSERT INTO effects VALUES (:name)"), {"name": name})
    return str((await session.execute(text("SELECT mark FROM host.jobs"))).scalar_one())


@pytest.fixture
async def psql(empty_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A database with the tables of a host, and one schema of ours, that is not called jobtrail."""
    connection = await asyncpg.connect(empty_url)
    await connection.execute("CREATE TABLE effects (name text PRIMARY KEY); CREATE SCHEMA host")
    await connection.execute("CREATE TABLE host.jobs AS SELECT 'of the host' AS mark")
    await migrate.migrate(normalize(empty_url).sqlalchemy, schema=OTHER)
    yield connection
    assert await connection.fetchval("SELECT to_regnamespace('jobtrail') IS NULL")
    await connection.close()


@pytest.fixture(params=["own", "lent", "pgbouncer"])
def url(request: pytest.FixtureRequest, postgres: EmbeddedPostgres, empty_url: str) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param != "pgbouncer":
            yield empty_url
        elif PROGRAM is None:
            pytest.skip("PgBouncer is not installed")
        else:
            yield through(stack.enter_context(pgbouncer(postgres)), empty_url)


@asynccontextmanager
async def hosted(url: str, engine: AsyncEngine | None, **said: Any) -> AsyncIterator[Host]:
    """An app with all of our routes, and an endpoint that stores one job by itself and one in the host's session."""
    settings = settings_at(url, schema=OTHER, lease=1, poll_every=0.05, purge_every=0.1, processes=1, **said)
    app, theirs = (
        FastAPI(),
        engine or create_async_engine(url.partition("?pgbouncer")[0].replace("://", "+asyncpg://", 1)),
    )
    trail = Jobtrail(settings, engine=engine, tasks=[*TASKS, put_down])
    app.include_router(trail.router(read="open", submit="open", operate="open"))

    @app.post("/buy")
    async def buy(jobs: Jobs) -> list[str]:
        async with AsyncSession(theirs) as session:
            inside = jobs.options(session=session).add_task(noop, 1)
            await session.commit()
        return [str(inside.id), str(jobs.add_task(noop, 2).id)]

    host = Host(trail, app)
    async with trail.lifespan(), client_of(app) as host.client:
        yield host
    await theirs.dispose()


async def test_a_whole_life_where_there_is_no_schema_jobtrail(
    psql: asyncpg.Connection, url: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lent = "[lent]" in request.node.name
    engine = create_async_engine(normalize(url).sqlalchemy, pool_size=2) if lent else None
    async with hosted(url, engine) as host:
        await _lives(host, psql)
        await _is_moved(host)
        await _is_looked_at(host)
        await _is_rescued_and_purged(psql)
    if engine is not None:
        await engine.dispose()
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("jobtrail.")]
    assert not [each for each in ours if "refuses" in each or "does not exist" in each]


async def _end(psql: asyncpg.Connection, job_id: str) -> asyncpg.Record:
    async def end() -> asyncpg.Record | None:
        found = await psql.fetchrow(READ, job_id)
        return found if found and found["status"] in ("succeeded", "failed", "cancelled") else None

    return await until(end)


async def _lives(host: Host, psql: asyncpg.Connection) -> None:
    """Submitted in every way, run in every place, with a log, a job session, and further attempts."""
    wanted = [{"task": "put_down", "args": {"name": "a"}}, {"task": "flaky", "args": {"succeed_at": 3}}]
    wanted += [{"task": "in_thread", "args": {"n": 1}}, {"task": "tell"}, {"task": "parent", "args": {"n": 1}}]
    batch = await host.post("/jobs/batch", 202, json={"jobs": wanted})
    [keyed, again] = [
        await host.post("/jobs", 202, json={"task": "noop"}, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert keyed["id"] == again["id"]
    ids = [each["id"] for each in batch["items"]] + [keyed["id"], *await host.post("/buy", 200)]
    ends = [await _end(psql, each) for each in ids]
    assert [(each["status"], each["error"]) for each in ends] == [("succeeded", None)] * 8
    assert ends[0]["result"] == '"of the host"'
    assert await psql.fetchval("SELECT name FROM effects") == "a"
    log = (await host.client.get(f"/jobs/{ids[3]}/log")).json()["items"]
    assert "half of it" in [each["message"] for each in log]


async def _is_moved(host: Host) -> None:
    """Paused, changed, cancelled and retried: one by one, and many."""
    await host.client.put("/pauses/task/noop", json={})
    waiting = [await host.post("/jobs", 202, json={"task": "noop", "queue": "later", "tags": ["x"]}) for _ in range(3)]
    first = waiting[0]["id"]
    changed = await host.client.patch(f"/jobs/{first}", json={"priority": 9})
    assert (changed.status_code, changed.json()["priority"]) == (200, 9)
    assert (await host.post(f"/jobs/{first}/cancel", 200, json={}))["status"] == "cancelled"
    said = {"action": "cancel", "filter": {"queue": ["later"]}}
    assert (await host.post("/jobs/bulk", 200, json=said))["changed"] == 2
    assert (await host.post(f"/jobs/{first}/retry", 202))["status"] == "pending"
    assert (await host.client.delete("/pauses/task/noop")).status_code == 204
    running = await host.trail.submit(hold)
    await until(lambda: host.trail.list(status="running", task=hold))
    await host.trail.cancel(running.id)
    await until(lambda: host.trail.list(status="cancelled", task=hold))


async def _is_looked_at(host: Host) -> None:
    """Lists with every filter, the history, nodes, and all that an auditor asks."""
    assert len(await host.trail.list(task="noop", queue="later", tags="x", status="cancelled")) == 2
    assert await host.trail.list(trace_id="ab" * 16) == []
    [job] = await host.trail.list(task=tell)
    assert len((await host.client.get(f"/jobs/{job.id}/transitions")).json()["items"]) == 3
    assert len((await host.client.get("/nodes")).json()["items"]) == 1
    given = {"history_of_job": {"id": str(job.id)}, "by_trace": {"trace_id": job.trace_id}}
    for name in questions():
        answer = await host.client.get(f"/audit/{name}", params=given.get(name, {}))
        assert answer.status_code == 200, answer.text


async def _is_rescued_and_purged(psql: asyncpg.Connection) -> None:
    """A job of a node that is gone is taken back, and what has expired goes; its history stays."""
    left, born = uuid4(), f'INSERT INTO "{OTHER}".jobs (id, task, max_attempts, ttl) VALUES ($1, $2, 2, $3)'
    async with psql.transaction():
        await psql.execute(born, left, "noop", timedelta(0))
        await psql.execute(
            f"""UPDATE "{OTHER}".jobs SET status = 'running', attempt = 1, node_id = gen_random_uuid(),
                started_at = now(), lease_until = now() WHERE id = $1""",
            left,
        )
    moves = f'SELECT to_status FROM "{OTHER}".transitions WHERE job_id = $1 ORDER BY seq'

    async def is_purged() -> list[str] | None:
        found = [each["to_status"] for each in await psql.fetch(moves, left)]
        return found if found[-1] == "purged" else None

    assert await until(is_purged) == ["pending", "running", "pending", "running", "succeeded", "purged"]


async def test_two_apps_in_one_database_run_their_own_jobs_only(empty_url: str, tmp_path: Path) -> None:
    """One in this process and one in another, with tasks of the same names."""
    worlds = {name: f'"{name}".jobs' for name in ("jobtrail", OTHER)}
    for name in worlds:
        await migrate.migrate(normalize(empty_url).sqlalchemy, schema=name)
    psql = await asyncpg.connect(empty_url)
    ids: dict[str, set[Any]] = {name: set() for name in worlds}
    variables = {"JOBTRAIL_DATABASE_URL": empty_url, "JOBTRAIL_TASKS": "support.tasks"}
    other = {"JOBTRAIL_SCHEMA": OTHER, "JOBTRAIL_POLL_EVERY": "0.05"}
    async with (
        Jobtrail(settings_at(empty_url, poll_every=0.05), tasks=TASKS).lifespan(),
        started(tmp_path, empty_url, "work", **{**CHECKOUT, **variables, **other}) as (_, worker),
    ):
        here, there = (Command(tmp_path, {**variables, **more}) for more in ({}, other))
        born = "INSERT INTO {} (id, task) VALUES (gen_random_uuid(), 'noop') RETURNING id::text"
        for name, jobs in worlds.items():
            ids[name] = {await psql.fetchval(born.format(jobs)) for _ in range(4)}
        query = "SELECT '{}', node_id::text FROM {} WHERE status = 'succeeded'"
        ends = " UNION ALL ".join(query.format(*world) for world in worlds.items())

        async def all_ended() -> list[asyncpg.Record] | None:
            found = await psql.fetch(ends)
            return found if len(found) == 8 else None

        by = {(name, node_id == worker["node"]) for name, node_id in await until(all_ended)}
        assert by == {("jobtrail", False), (OTHER, True)}
        for command, name in ((here, "jobtrail"), (there, OTHER)):
            assert {each["id"] for each in (await command("ls", "--json")).json["items"]} == ids[name]
        assert (await there("keys", "create", "ann", "--scope", "read")).code == 0
        assert (await here("keys", "list", "--json")).json["items"] == []
        findings = (await there("doctor", "--json")).json["checks"]
        assert {each["level"] for each in findings} <= {"ok"}, findings
        assert (await here("purge")).code == (await there("purge")).code == 0
    await psql.close()


async def test_rows_of_two_schemas_in_one_session_of_a_host(psql: asyncpg.Connection, empty_url: str) -> None:
    url = normalize(empty_url).sqlalchemy
    await migrate.migrate(url, schema="second")
    engine, worlds = create_async_engine(url), (OTHER, "second")
    async with AsyncSession(binds={JobRow: engine}) as session:
        for name in worlds:
            trail = Jobtrail(settings_at(empty_url, schema=name), tasks=TASKS)
            async with trail:
                await trail.options(session=session).submit(noop)
        await session.commit()
    await engine.dispose()
    assert [await psql.fetchval(f'SELECT count(*) FROM "{name}".jobs') for name in worlds] == [1, 1]


@pytest.mark.usefixtures("psql")
async def test_a_question_for_psql_names_the_schema(empty_url: str, tmp_path: Path) -> None:
    command = Command(tmp_path, {"JOBTRAIL_SCHEMA": OTHER})
    for name in questions():
        (tmp_path / "question.sql").write_text((await command("audit", name, "--sql")).out)
        columns, _ = run_file(empty_url, tmp_path / "question.sql", {"id": str(uuid4()), "trace_id": "ab" * 16})
        assert len(columns) > 1
    assert (await command("audit", "--sql")).code == 2
