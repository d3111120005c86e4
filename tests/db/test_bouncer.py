"""Behind PgBouncer in transaction mode, when it is installed; `pytest --postgres=pgbouncer` runs far more there."""

from functools import partial

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail.db.engine import connect_once, is_pooled
from jobtrail.db.host_engine import lend_database, lend_single
from jobtrail.db.url import normalize
from jobtrail.errors import SettingsError
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.wiring import answering
from support import tasks, world
from support.world import Place

URL = "postgresql://ann@db:6432/app"


def test_the_url_says_so() -> None:
    pooled, plain, off = (normalize(f"{URL}{query}") for query in ("?pgbouncer=true", "", "?pgbouncer=false"))
    assert [is_pooled(each.sqlalchemy) for each in (pooled, plain, off)] == [True, False, False]
    assert pooled.libpq == plain.libpq == off.libpq == URL
    assert "pgbouncer" not in str(connect_once(pooled.sqlalchemy).url)
    with pytest.raises(SettingsError, match="pgbouncer is true, for PgBouncer in transaction mode, or false"):
        normalize(f"{URL}?pgbouncer=yes")


def test_who_forgot_to_say_so_is_told() -> None:
    with (
        pytest.raises(SettingsError, match=r"PgBouncer answers at .*: write \?pgbouncer=true"),
        answering(normalize(URL)),
    ):
        raise ConnectionError("unsupported startup parameter: lock_timeout")


async def test_a_host_s_engine_with_the_settings_that_the_docs_name(place: Place) -> None:
    engine = create_async_engine(
        connect_once(place.url.sqlalchemy).url,
        connect_args={
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": str,
        },
    )
    database = lend_database(engine)
    services = Services(database, Catalog.from_modules([tasks]))
    try:
        job = await world.submitted(services, "about")
        async with world.node_at(services, place, connect=partial(lend_single, engine)):
            assert (await world.ended(services, job.id)).status is Status.SUCCEEDED
    finally:
        await database.dispose()
        await engine.dispose()
