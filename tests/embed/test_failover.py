"""Two servers in the URL, of which one is the primary: a process follows it to the other without a restart."""

from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

from jobtrail import Jobtrail
from jobtrail.db import migrate
from jobtrail.db.url import normalize
from jobtrail.errors import UnavailableError
from support import world
from support.host import TASKS, settings_at
from support.tasks import noop
from support.until import until


async def test_a_primary_that_became_read_only_is_left_for_the_other() -> None:
    with world.server("embedded") as first, world.server("embedded") as second:
        for each in (first, second):
            await migrate.migrate(normalize(each.url).sqlalchemy)
        hosts, ports = zip(*(_socket(each.url) for each in (first, second)), strict=True)
        both = f"postgresql://postgres@/jobtrail?host={','.join(hosts)}&port={','.join(ports)}"
        trail = Jobtrail(settings_at(f"{both}&target_session_attrs=read-write"), tasks=TASKS)
        async with trail.lifespan():
            before = await trail.submit(noop)
            await before.wait(timeout=60)
            await _make_read_only(first.url)
            await until(lambda: _leads_to(second.url, trail))
            for _ in range(8):
                job = await trail.submit(noop)
                assert (await job.wait(timeout=60)) == {"ok": 0}
        assert await _count(first.url) >= 1


async def _leads_to(url: str, trail: Jobtrail) -> bool:
    """Connections that are open may hear of it later still, so the first jobs may be stored on the old one."""
    with suppress(UnavailableError):
        await trail.submit(noop)
    return await _count(url) > 0


async def _make_read_only(url: str) -> None:
    """As the old primary after a standby was promoted: its connections live, and refuse to write."""
    await _ask(url, "ALTER SYSTEM SET default_transaction_read_only = on")
    await _ask(url, "SELECT pg_reload_conf()")
    # new connections get it a moment later
    await until(lambda: _ask(url, "SELECT current_setting('default_transaction_read_only') = 'on'"))


async def _count(url: str) -> int:
    return int(await _ask(url, "SELECT count(*) FROM jobtrail.jobs"))


async def _ask(url: str, query: str) -> Any:
    psql = await asyncpg.connect(url)
    try:
        return await psql.fetchval(query)
    finally:
        await psql.close()


def _socket(url: str) -> tuple[str, str]:
    query = parse_qs(urlsplit(url).query)
    return query["host"][0], query["port"][0]
