from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import pytest

from jobtrail.db.embedded import EmbeddedPostgres
from support import world
from support.history import History, begin

TRACE: Final = "ab" * 16
BRIEFLY: Final = timedelta(seconds=10)


@pytest.fixture(scope="package")
async def past(postgres: EmbeddedPostgres) -> AsyncIterator[History]:
    """A day of a small service, known move by move. Nobody writes to it."""
    async with world.migrated(postgres) as place:
        past = await begin(place)
        await tell_of_nodes(past)
        for tell in (
            tell_of_losses,
            tell_of_purges,
            tell_of_mails,
            tell_of_cancels,
            tell_of_a_trace,
            tell_of_expiry,
            tell_of_schedules,
        ):
            await tell(past)
        await tell_of_now(past)
        yield past


async def tell_of_nodes(past: History) -> None:
    await past.node("alpha", "send_mail resize report")
    await past.node("beta", "crawl", queues="web")
    await past.node("gone", "legacy resize crawl", silent=10)


async def tell_of_schedules(past: History) -> None:
    """`(name, task, what it says, minutes until it is due)`; one is paused, one is over."""
    for name, task, said, minutes in (
        ("soon", "report", "cron = '0 7 * * *', zone = 'Europe/Paris'", 30),
        ("later", "crawl", "every = '90 seconds', overlap = 'allow', missed = 'all'", 600),
        ("overdue", "legacy", "every = '1 hour', missed = 'skip'", -20),
        ("far", "report", "every = '30 days'", 30_000),
        ("paused", "report", "every = '1 hour', paused_at = now(), paused_by = 'ann'", 5),
        ("over", "report", "every = '1 hour'", None),
    ):
        table = "jobtrail.schedules"
        await past.place.psql.execute(f"INSERT INTO {table} (name, task, every) VALUES ($1, $2, '1 day')", name, task)
        more = ", every = NULL" if "cron" in said else ""
        await past.place.psql.execute(f"UPDATE {table} SET {said}{more} WHERE name = $1", name)
        due = None if minutes is None else past.now + timedelta(minutes=minutes)
        await past.place.psql.execute(
            f"UPDATE {table} SET next_at = coalesce($1::timestamptz, 'infinity') WHERE name = $2", due, name
        )
    for name, reason, count, minutes in (
        ("soon", "missed", 3, 60),
        ("later", "overlap", 12, 10),
        ("soon", "overlap", 1, 3000),
    ):
        at = past.now - timedelta(minutes=minutes)
        await past.place.psql.execute(
            "INSERT INTO jobtrail.schedule_skips VALUES ($1, $2, $3, $4, $4)",
            name, reason, count, at,
        )  # fmt: skip


async def tell_of_losses(past: History) -> None:
    for name, options in (("lost twice", {"max_attempts": 2}), ("lost", {}), ("lost, purged", {"ttl_failed": BRIEFLY})):
        await past.submit(name, 200, "resize", **options)
        await past.claim(name, 199, "gone")
        await past.rescue(name, 198, "alpha")
    await past.purge("lost, purged", 197, "node")
    await past.claim("lost twice", 197, "alpha")
    await past.succeed("lost twice", 196, "alpha")
    await past.submit("shut down", 190, "resize")
    await past.claim("shut down", 189, "gone")
    await past.fail("shut down", 188, "gone", "lost", "the node shut down during attempt 1")


async def tell_of_purges(past: History) -> None:
    """Cancelled before; the row that knew more of it is gone."""
    await past.submit("refused, purged", 180, "crawl", ttl_failed=BRIEFLY, created_by="ann")
    await past.cancel("refused, purged", 179, "eve", "lost")
    await past.purge("refused, purged", 178, "purge by hand")
    await past.submit("orphan, purged", 180, "crawl", ttl_failed=BRIEFLY)
    await past.claim("orphan, purged", 179, "gone")
    await past.cancel("orphan, purged", 178.5, "ann", "stop")
    await past.rescue("orphan, purged", 178, "alpha")
    await past.purge("orphan, purged", 177, "node")


async def tell_of_mails(past: History) -> None:
    await past.submit("sent", 120, "send_mail")
    await past.claim("sent", 119, "alpha")
    await past.succeed("sent", 110, "alpha")
    await past.submit("slow", 118, "send_mail", max_attempts=2)
    await past.claim("slow", 117, "alpha")
    await past.again("slow", 116, "alpha", "TimeoutError", "no answer")
    await past.claim("slow", 115.5, "alpha")
    await past.fail("slow", 115, "alpha", "TimeoutError", "still no answer")
    await past.submit("mended", 100, "send_mail")
    await past.claim("mended", 99, "alpha")
    await past.fail("mended", 98, "alpha", "ValueError", "no address")
    await past.retry("mended", 97, "ann")
    await past.claim("mended", 96, "alpha")
    await past.succeed("mended", 95, "alpha")
    await past.submit("yesterday", 1800, "send_mail")
    await past.claim("yesterday", 1799, "alpha")
    await past.fail("yesterday", 1798, "alpha", "ValueError", "no subject")


async def tell_of_cancels(past: History) -> None:
    await past.submit("withdrawn", 70, "crawl", queue="web")
    await past.cancel("withdrawn", 69, "ann", "not needed")
    await past.submit("silenced", 68, "crawl", queue="web")
    await past.cancel("silenced", 67, "cid", None)
    for name, ago in (("stopped", 66), ("too late", 62)):
        await past.submit(name, ago, "crawl", queue="web")
        await past.claim(name, ago - 1, "beta")
        await past.cancel(name, ago - 2, "bob", "too slow" if name == "stopped" else None)
    await past.obey("stopped", 63, "beta")
    await past.succeed("too late", 59, "beta")
    await past.submit("orphan", 58, "crawl")
    await past.claim("orphan", 57, "gone")
    await past.cancel("orphan", 56.5, "ann", "stop")
    await past.rescue("orphan", 56, "alpha")
    await past.submit("regretted", 55, "crawl")
    await past.cancel("regretted", 54, "ann", "oops")
    await past.retry("regretted", 53, "ann")
    await past.cancel("regretted", 52, "dan", None)
    await past.submit("dropped yesterday", 1801, "crawl")
    await past.cancel("dropped yesterday", 1800, "ann", "old")


async def tell_of_a_trace(past: History) -> None:
    for name, ago, options in (("root", 50, {}), ("child", 49, {"ttl": BRIEFLY}), ("elder", 14400, {"ttl": BRIEFLY})):
        await past.submit(name, ago, "report", trace_id=TRACE, **options)
        await past.claim(name, ago - 1, "alpha")
        await past.succeed(name, ago - 2, "alpha")
        if options:
            await past.purge(name, ago - 5, "node")


async def tell_of_expiry(past: History) -> None:
    for name, ago, ttl in (("soon", 45, timedelta(minutes=60)), ("now", 40, BRIEFLY)):
        await past.submit(name, ago, "report", ttl=ttl)
        await past.claim(name, ago - 1, "alpha")
        await past.succeed(name, ago - 2, "alpha")


async def tell_of_now(past: History) -> None:
    await past.submit("asked", 65, "crawl", queue="web")
    await past.claim("asked", 64, "beta")
    await past.cancel("asked", 3, "bob", "hangs")
    await past.renew("asked", "beta")
    await past.submit("fresh", 2, "report")
    await past.claim("fresh", 1.5, "alpha")
    await past.renew("fresh", "alpha")
    await past.submit("silent", 4, "resize")
    await past.claim("silent", 3.5, "alpha")
    await past.submit("unknown", 2, "legacy")
    await past.submit("unserved", 3, "crawl", queue="bulk")
    await past.submit("overdue", 90, "send_mail", due=20)
    await past.submit("waiting", 1, "send_mail")
    await past.pause("queue", "post", "ann", "the provider is down")
    await past.pause("task", "digest", "bob", None)
    await past.pause("queue", "digest", "cid", None)
    await past.submit("held", 6, "report", queue="post")
    await past.submit("frozen", 5, "digest")
    await past.submit("future", 30, "legacy", due=-60)
    await past.batch("bunch", 90, "ann", ["overdue", "asked"], total=4)
