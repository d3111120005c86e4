"""Engines as hosts make them, for a database that is theirs."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import asyncpg
from sqlalchemy import NullPool, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jobtrail.db.engine import Database
from jobtrail.db.host_engine import lend_database
from support.world import Place

OWN: Final = {"search_path": "information_schema", "lock_timeout": "7s", "application_name": "host"}
"""What the hosts below set on their connections, each in its way."""


def _by_events(url: str) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=2, max_overflow=0)

    @event.listens_for(engine.sync_engine, "do_connect")
    def name(_dialect: Any, _entry: Any, _given: Any, named: dict[str, Any]) -> None:
        named["server_settings"] = {"application_name": "host"}

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _entry: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SET search_path = information_schema")
        cursor.execute("SET lock_timeout = '7s'")
        cursor.close()
        connection.commit()

    return engine


async def _created(dsn: str, **_: Any) -> asyncpg.Connection:
    return await asyncpg.connect(dsn, server_settings=OWN)


def _simple(url: str, **options: Any) -> AsyncEngine:
    options.setdefault("connect_args", {})
    options["connect_args"] = {"server_settings": OWN, **options["connect_args"]}
    return create_async_engine(url, **options)


ENGINES: Final[dict[str, Callable[[str], AsyncEngine]]] = {
    "two connections": partial(_simple, pool_size=2, max_overflow=0),
    "one connection, pinged": partial(_simple, pool_size=1, max_overflow=0, pool_pre_ping=True),
    "no pool": partial(_simple, poolclass=NullPool),
    "never reset": partial(_simple, pool_size=2, max_overflow=0, pool_reset_on_return=None),
    "serializable": partial(_simple, pool_size=2, isolation_level="SERIALIZABLE"),
    "autocommit": partial(_simple, pool_size=2, isolation_level="AUTOCOMMIT"),
    "options": lambda url: _simple(url, pool_size=2).execution_options(
        isolation_level="REPEATABLE READ", schema_translate_map={None: "nowhere"}
    ),
    "without caches": partial(_simple, connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0}),
    "other JSON": partial(
        _simple, json_serializer=lambda value: json.dumps(repr(value)), json_deserializer=lambda text: text[:3]
    ),
    "events": _by_events,
    "creator": lambda url: create_async_engine(url, async_creator=partial(_created, url.replace("+asyncpg", "", 1))),
}


@asynccontextmanager
async def lent(
    place: Place, kind: str = "two connections", **options: Any
) -> AsyncIterator[tuple[AsyncEngine, Database]]:
    """An engine that has been in use, and the database that works on it."""
    engine = ENGINES[kind](place.url.sqlalchemy)
    database = lend_database(engine, **options)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        yield engine, database
    finally:
        await database.dispose()
        await engine.dispose()
