"""Alembic's environment: the database of JOBTRAIL_DATABASE_URL, or the one that the caller hands over.

The version table lies in our own schema, so that a host's migrations and ours never meet in one database. The texts of
the migrations say `jobtrail`; for another schema they are rewritten here, as they are sent or printed.
"""

import asyncio
import sys
from typing import Any, TextIO

from alembic import context
from sqlalchemy import Connection, MetaData
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import AsyncEngine

import jobtrail.ops  # noqa: F401 - its nouns have tables too
from jobtrail.db.engine import connect_once
from jobtrail.db.tables import SCHEMA, Snapshot, Xid8, keep_to, metadata, of_schema

# SQLAlchemy has no types of these names, and autogenerate would warn of them
ischema_names |= {"xid8": Xid8, "pg_snapshot": Snapshot}


def _has_schema(schema: str) -> str:
    return f"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{schema}')"  # noqa: S608 - an identifier


class Printed:
    """What `--sql` prints, for another schema."""

    def __init__(self, out: TextIO, schema: str) -> None:
        self.out = out
        self.schema = schema

    def write(self, sql: str) -> int:
        return self.out.write(of_schema(sql, self.schema))

    def flush(self) -> None:
        self.out.flush()


def modelled(schema: str) -> MetaData:
    """The tables as they are to be in this schema."""
    if schema == SCHEMA:
        return metadata
    found = MetaData(schema=schema, naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        table.to_metadata(found, schema=schema)
    return found


def run_migrations(connection: Connection | None, schema: str) -> None:
    printed: Any = (
        {} if schema == SCHEMA else {"output_buffer": Printed(context.config.output_buffer or sys.stdout, schema)}
    )
    context.configure(
        connection=connection,
        dialect_name="postgresql",
        # offline, the default would double every % of the trigger functions
        dialect_opts={"paramstyle": "named"},
        target_metadata=modelled(schema),
        version_table_schema=schema,
        include_schemas=True,
        include_name=lambda name, kind, _parents: kind != "schema" or name == schema,
        transactional_ddl=True,
        **printed,
    )
    with context.begin_transaction():
        # two operators, or two nodes with an embedded database, may migrate at the same moment
        context.execute("SELECT pg_advisory_xact_lock(hashtext('jobtrail migrations'))")
        # IF NOT EXISTS asks for the right to make one before it looks
        if connection is None or not connection.exec_driver_sql(_has_schema(schema)).scalar():
            context.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        context.run_migrations()


async def connect_and_run(engine: AsyncEngine, schema: str) -> None:
    keep_to(engine, schema)
    async with engine.connect() as connection:
        await connection.run_sync(run_migrations, schema)
        await connection.commit()
    await engine.dispose()


def main() -> None:
    handed_over, schema = (context.config.attributes.get(name) for name in ("connection", "schema"))
    if isinstance(handed_over, AsyncEngine) and not context.is_offline_mode():
        asyncio.run(connect_and_run(handed_over, schema or SCHEMA))
        return
    # only alembic's own command comes without a database; the service hands its own over
    from jobtrail.settings import load  # noqa: PLC0415
    from jobtrail.wiring import reach  # noqa: PLC0415

    settings = load()
    if context.is_offline_mode():
        run_migrations(None, schema or settings.schema)
        return
    with reach(settings) as found:
        asyncio.run(connect_and_run(connect_once(found.sqlalchemy), schema or settings.schema))


main()
