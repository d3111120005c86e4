"""What an operator does with alembic: from the checkout, offline, beside a host, twice at once."""

import asyncio
import subprocess
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from jobtrail.db import migrate
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.engine import open_database
from jobtrail.db.tables import metadata
from jobtrail.db.url import normalize
from support import forks, psql, servers, world

TOP = Path(__file__).parents[2]

OTHER = "order"
"""A schema by a word of SQL, so that a name which is not quoted is seen."""

FUNCTIONS = """
SELECT array_agg(pg_get_functiondef(oid) ORDER BY proname) FROM pg_proc WHERE pronamespace = to_regnamespace($1)
"""

DEFINITIONS = """
SELECT 'constraint ' || c.conrelid::regclass || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid) AS definition
  FROM pg_constraint c WHERE c.connamespace = 'jobtrail'::regnamespace AND c.contype <> 'n'
UNION ALL
SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'jobtrail'
UNION ALL
SELECT 'column ' || a.attrelid::regclass || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
       || ' ' || a.attnotnull || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
 WHERE a.attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'jobtrail'::regnamespace AND relkind = 'r')
   AND a.attnum > 0
 ORDER BY 1
"""


async def definitions(url: str, name: str = "jobtrail") -> set[str]:
    """In the words of the schema `jobtrail`."""
    connection = await asyncpg.connect(url)
    try:
        asked = DEFINITIONS.replace("'jobtrail'", f"'\"{name}\"'", 2).replace("= 'jobtrail'", f"= '{name}'", 1)
        found = {row["definition"] for row in await connection.fetch(asked)}
    finally:
        await connection.close()
    return {each for each in found if "alembic_version" not in each}


def alembic(*arguments: str, url: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*forks.quick(), "-m", "alembic", *arguments],
        cwd=TOP,
        env=servers.environment(JOBTRAIL_DATABASE_URL=url, **settings),
        capture_output=True,
        text=True,
        check=False,
    )


async def test_models_and_migrations_agree_but_for_checks_which_the_migrations_alone_have(
    postgres: EmbeddedPostgres, empty_url: str
) -> None:
    await migrate.migrate(normalize(empty_url).sqlalchemy)
    other = await world.create(postgres)
    engine = create_async_engine(normalize(other).sqlalchemy, poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE SCHEMA jobtrail")
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    migrated, modelled = await definitions(empty_url), await definitions(other)
    assert len(modelled) > 50
    assert {each for each in migrated if " CHECK (" not in each} == modelled


def test_alembic_from_the_checkout(empty_url: str) -> None:
    for arguments in (["upgrade", "head"], ["check"], ["downgrade", "base"], ["upgrade", "head"], ["current"]):
        done = alembic(*arguments, url=empty_url)
        assert done.returncode == 0, done.stderr
    assert migrate.head() in done.stdout


async def test_offline_sql_makes_the_same_schema(postgres: EmbeddedPostgres, empty_url: str, tmp_path: Path) -> None:
    script = tmp_path / "upgrade.sql"
    done = alembic("upgrade", "head", "--sql", url=empty_url)
    assert done.returncode == 0, done.stderr
    script.write_text(done.stdout)
    psql.run(psql.PSQLS[0], empty_url, "-f", str(script))
    online = await world.create(postgres)
    await migrate.migrate(normalize(online).sqlalchemy)
    assert await definitions(empty_url) == await definitions(online)


async def test_two_that_migrate_at_once_both_succeed(empty_url: str) -> None:
    processes = [asyncio.to_thread(alembic, "upgrade", "head", url=empty_url) for _ in range(3)]
    inside = [migrate.migrate(normalize(empty_url).sqlalchemy) for _ in range(3)]
    done, *_ = await asyncio.gather(asyncio.gather(*processes), *inside)
    assert [each.returncode for each in done] == [0, 0, 0], done
    assert await definitions(empty_url)


@pytest.mark.parametrize("first", ["jobtrail", OTHER])
async def test_two_schemas_in_one_database_come_and_go_alone(empty_url: str, first: str) -> None:
    url, second = normalize(empty_url).sqlalchemy, OTHER if first == "jobtrail" else "jobtrail"
    await migrate.migrate(url, schema=first)
    alone = await definitions(empty_url, first)
    for arguments in (["upgrade", "head"], ["check"]):
        done = alembic(*arguments, url=empty_url, JOBTRAIL_SCHEMA=second)
        assert done.returncode == 0, done.stderr
    connection = await asyncpg.connect(empty_url)
    ours, theirs = ["\n".join(await connection.fetchval(FUNCTIONS, name)) for name in ("jobtrail", OTHER)]
    assert "jobtrail." not in theirs.replace("'jobtrail.actor'", "")
    actor = ours.count("'jobtrail.actor'")
    assert ours.count("jobtrail.") - actor == theirs.count(f'"{OTHER}".') + theirs.count(f" {OTHER}.")
    assert len(alone) == len(await definitions(empty_url, second))
    done = alembic("downgrade", "base", url=empty_url, JOBTRAIL_SCHEMA=second)
    assert done.returncode == 0, done.stderr
    assert await definitions(empty_url, second) == set()
    assert await definitions(empty_url, first) == alone
    await connection.close()


async def test_offline_sql_for_another_schema(empty_url: str, tmp_path: Path) -> None:
    done = alembic("upgrade", "head", "--sql", url=empty_url, JOBTRAIL_SCHEMA=OTHER)
    (tmp_path / "upgrade.sql").write_text(done.stdout)
    psql.run(psql.PSQLS[0], empty_url, "-f", str(tmp_path / "upgrade.sql"))
    assert alembic("check", url=empty_url, JOBTRAIL_SCHEMA=OTHER).returncode == 0
    assert "jobtrail" not in psql.run(psql.PSQLS[0], empty_url, "-Atc", "SELECT nspname FROM pg_namespace")


@pytest.mark.parametrize(
    ("written", "state"),
    [
        (None, migrate.Schema.MISSING),
        ("head", migrate.Schema.CURRENT),
        ("299901010000", migrate.Schema.LATER),
        ("base", migrate.Schema.MISSING),
    ],
)
async def test_the_state_of_a_schema(empty_url: str, written: str | None, state: migrate.Schema) -> None:
    url = normalize(empty_url).sqlalchemy
    if written is not None:
        await migrate.migrate(url)
        connection = await asyncpg.connect(empty_url)
        if written == "base":
            await connection.execute("DELETE FROM jobtrail.alembic_version")
        elif written != "head":
            await connection.execute("UPDATE jobtrail.alembic_version SET version_num = $1", written)
        await connection.close()
    opened = open_database(url)
    async with opened.sessions() as session:
        assert await migrate.state(session) is state
    await opened.dispose()


HOST_ENV = """
from alembic import context
from sqlalchemy import Column, Integer, MetaData, Table, create_engine
import asyncio
from sqlalchemy.ext.asyncio import create_async_engine

metadata = MetaData()
Table("invoices", metadata, Column("id", Integer, primary_key=True))

def migrate(connection):
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(context.config.get_main_option("url"))
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()

asyncio.run(main())
"""


def host_alembic(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*forks.quick(), "-m", "alembic", *arguments],
        cwd=folder,
        env=servers.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_clean_beside_the_alembic_of_a_host(empty_url: str, tmp_path: Path) -> None:
    """Neither sees the other's tables, whatever the order."""
    await migrate.migrate(normalize(empty_url).sqlalchemy)
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text(HOST_ENV)
    template = (TOP / "migrations" / "script.py.mako").read_text()
    (tmp_path / "migrations" / "script.py.mako").write_text(template)
    url = normalize(empty_url).sqlalchemy.replace("%", "%%")
    (tmp_path / "alembic.ini").write_text(
        f"[alembic]\nscript_location = migrations\npath_separator = os\nurl = {url}\n"
    )
    host_alembic(tmp_path, "revision", "--autogenerate", "-m", "invoices")
    (revision,) = (tmp_path / "migrations" / "versions").glob("*.py")
    written = revision.read_text()
    assert "invoices" in written
    assert "jobtrail" not in written
    host_alembic(tmp_path, "upgrade", "head")
    host_alembic(tmp_path, "check")
    ours = alembic("check", url=empty_url)
    assert ours.returncode == 0, ours.stdout + ours.stderr
