"""Two servers in the URL, of which one is the primary: a process follows it to the other without a restart."""

from urllib.parse import parse_qs, urlsplit

import asyncpg

from jobtrail import Jobtrail
from jobtrail.job.database_url import normalize
from jobtrail.job.errors import UnavailableError
from jobtrail.store import schema
from support import servers
from support.host import TASKS, settings_at
from support.tasks import noop
from support.until import until


async def test_a_primary_that_became_read_only_is_left_for_the_other() -> None:
    with servers.server("embedded") as first, servers.server("embedded") as second:
        for each in (first, second):
            await schema.migrate(normalize(each.url).sqlalchemy)
        hosts, ports = zip(*(_socket(each.url) for each in (first, second)), strict=True)
        both = f"postgresql://postgres@/jobtrail?host={','.join(hosts)}&port={','.join(ports)}"
        trail = Jobtrail(settings_at(f"{both}&target_session_attrs=read-write"), tasks=TASKS)
        async with trail.lifespan():
            before = await trail.submit(noop)
            await before.wait(timeout=10)
            await _make_read_only(first.url)
            for _ in range(8):
                await until(lambda: _submitted(trail), within=20)
            await (await trail.submit(noop)).wait(timeout=20)
            await until(lambda: _ended(second.url, 9), within=20)
        assert await _ended(first.url, 1)


async def _submitted(trail: Jobtrail) -> object:
    try:
        return await trail.submit(noop)
    except UnavailableError:
        return None


async def _make_read_only(url: str) -> None:
    """As the old primary after a standby was promoted: its connections live, and say so to who writes."""
    psql = await asyncpg.connect(url)
    await psql.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await psql.execute("SELECT pg_reload_conf()")
    await psql.close()


async def _ended(url: str, count: int) -> bool:
    """Whether there are so many jobs, and all have succeeded."""
    psql = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await psql.fetch(_COUNTS)] == [("succeeded", count)]
    finally:
        await psql.close()


_COUNTS = "SELECT status, count(*) FROM jobtrail.jobs GROUP BY status"


def _socket(url: str) -> tuple[str, str]:
    query = parse_qs(urlsplit(url).query)
    return query["host"][0], query["port"][0]
