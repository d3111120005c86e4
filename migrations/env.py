"""Alembic's environment: the database of JOBTRAIL_DATABASE_URL, or the one that the caller hands over.

The version table lies in our own schema, so that a host's migrations and ours never meet in one database.
"""

import asyncio

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.store.connecting import connect_once
from jobtrail.store.tables import SCHEMA, Xid8, metadata

# SQLAlchemy has no type of this name, and autogenerate would warn of it
ischema_names["xid8"] = Xid8

_HAS_SCHEMA = f"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{SCHEMA}')"  # noqa: S608 - a constant of ours


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "schema" or name == SCHEMA


def run_migrations(connection: Connection | None) -> None:
    context.configure(
        connection=connection,
        dialect_name="postgresql",
        # offline, the default would double every % of the trigger functions
        dialect_opts={"paramstyle": "named"},
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=include_name,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        # two operators, or two nodes with an embedded database, may migrate at the same moment
        context.execute("SELECT pg_advisory_xact_lock(hashtext('jobtrail migrations'))")
        # IF NOT EXISTS asks for the right to make one before it looks
        if connection is None or not connection.exec_driver_sql(_HAS_SCHEMA).scalar():
            context.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        context.run_migrations()


async def connect_and_run(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.run_sync(run_migrations)
        await connection.commit()
    await engine.dispose()


def main() -> None:
    handed_over = context.config.attributes.get("connection")
    if context.is_offline_mode():
        run_migrations(None)
    elif isinstance(handed_over, AsyncEngine):
        asyncio.run(connect_and_run(handed_over))
    else:
        # only alembic's own command comes without a database; the service hands its own over
        from jobtrail.settings import load  # noqa: PLC0415
        from jobtrail.wiring import reach  # noqa: PLC0415

        with reach(load()) as found:
            asyncio.run(connect_and_run(connect_once(found.sqlalchemy)))


main()
