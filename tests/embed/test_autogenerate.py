"""A host's own migrations, in the same database: they meet nothing of ours, and ours nothing of them."""

import asyncio
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, ForeignKey, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobtrail.db.migrate import config, head, migrate
from jobtrail.db.url import normalize


class Base(DeclarativeBase):
    """The host's metadata. It has a table `jobs` of its own."""


class Job(Base):
    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)


class User(Base):
    __tablename__ = "users"
    email: Mapped[str] = mapped_column(primary_key=True)
    job: Mapped[int] = mapped_column(ForeignKey("jobs.id"))


ALL_SCHEMAS: dict[str, Any] = {"include_schemas": True}
BUT_OURS = {**ALL_SCHEMAS, "include_name": lambda name, kind, _: kind != "schema" or name != "jobtrail"}


@pytest.mark.parametrize("options", [{}, BUT_OURS], ids=["default", "but ours"])
async def test_autogenerate_proposes_only_what_is_the_hosts(empty_url: str, options: dict[str, Any]) -> None:
    """And with every schema in view ours would be dropped, which is why the documentation says to leave it out."""
    url = normalize(empty_url).sqlalchemy
    await migrate(url)

    def proposed(connection: Connection, options: dict[str, Any]) -> list[tuple[str, str]]:
        context = MigrationContext.configure(connection, opts=options)
        found = compare_metadata(context, Base.metadata)
        return [(each[0], str(each[1])) for each in found if each[0].endswith("_table")]

    engine = create_async_engine(url)
    async with engine.begin() as connection:
        created = [("add_table", "jobs"), ("add_table", "users")]
        assert await connection.run_sync(proposed, options) == created
        assert ("remove_table", "jobtrail.jobs") in await connection.run_sync(proposed, ALL_SCHEMAS)
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
        assert await connection.run_sync(proposed, options) == []
        versions = await connection.execute(text("SELECT version_num FROM jobtrail.alembic_version"))
        assert versions.scalars().all() == [head()]
    await engine.dispose()
    ours = config()
    ours.attributes["connection"] = create_async_engine(url)
    await asyncio.to_thread(command.check, ours)  # raises for anything that is found to do
    await migrate(url)
