"""The revision of the database, the one that this code needs, and the way from one to the other."""

import asyncio
import threading
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.engine import connect_once
from jobtrail.db.tables import NAME, SCHEMA

_REVISION: Final = text(f"SELECT version_num FROM {SCHEMA}.alembic_version")
_IS_OPEN: Final = text(f"""
SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
 WHERE n.nspname = {NAME} AND c.relname = 'alembic_version'
""")
"""For everybody to ask, in the catalog; no row: never migrated."""


class Schema(Enum):
    CURRENT = auto()
    LATER = auto()  # a revision this code has never heard of: migrated ahead of a rollout, and accepted
    OLDER = auto()
    MISSING = auto()
    CLOSED = auto()  # the role may not read which revision it is
    FOREIGN = auto()  # it holds tables of another application

    @property
    def is_usable(self) -> bool:
        return self in (Schema.CURRENT, Schema.LATER)


async def revision(session: AsyncSession) -> str | None:
    """The revision of the database, None when it was never migrated, or may not be read."""
    if not (await session.execute(_IS_OPEN)).scalar_one_or_none():
        return None
    return (await session.execute(_REVISION)).scalar_one_or_none()


class Nature(NamedTuple):
    """Facts that a migration cannot change. A standby is read-only; so is a server that was made so for a while."""

    is_writable: bool
    is_standby: bool
    encoding: str

    @property
    def misfit(self) -> str | None:
        """The fault of its encoding, with the fix."""
        if self.encoding == "UTF8":
            return None
        return (
            f"the database is in {self.encoding}, which cannot hold every text that a job may have; make one that can: "
            "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        )


_NATURE: Final = text(
    "SELECT current_setting('transaction_read_only') = 'off', pg_is_in_recovery(), current_setting('server_encoding')"
)


async def nature(session: AsyncSession) -> Nature:
    return Nature(*(await session.execute(_NATURE)).one())


_TABLES: Final = text(f"""
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = {NAME} AND c.relname IN ('jobs', 'transitions', 'nodes', 'keys', 'pauses', 'log_lines')
""")


async def state(session: AsyncSession) -> Schema:
    if (await session.execute(_IS_OPEN)).scalar_one_or_none() is False:
        return Schema.CLOSED
    found = await revision(session)
    if found == head():
        return Schema.CURRENT
    if found in _known():
        return Schema.OLDER
    tables = (await session.execute(_TABLES)).scalar_one()
    if found is None:
        return Schema.FOREIGN if 0 < tables < _ALL_TABLES else Schema.MISSING
    return Schema.LATER if tables == _ALL_TABLES else Schema.FOREIGN


_ALL_TABLES: Final = 6


@cache
def head() -> str:
    found = ScriptDirectory.from_config(config()).get_current_head()
    if found is None:
        raise RuntimeError("the package holds no migrations")
    return found


@cache
def _known() -> frozenset[str]:
    return frozenset(each.revision for each in ScriptDirectory.from_config(config()).walk_revisions())


async def migrate(url: str, target: str = "head", *, schema: str = SCHEMA) -> None:
    """Bring the database behind a `postgresql+asyncpg://` URL to `target`; a later revision is left alone."""
    settings = config(schema)
    settings.attributes["connection"] = connect_once(url)
    # alembic drives a loop of its own
    await asyncio.to_thread(_upgrade, settings, target)


_ONE_AT_A_TIME: Final = threading.Lock()
"""Alembic keeps its context in the module: two upgrades in one process would take each other's."""


def _upgrade(settings: Config, target: str) -> None:
    with _ONE_AT_A_TIME:
        command.upgrade(settings, target)


def config(schema: str = SCHEMA) -> Config:
    settings = Config()
    settings.attributes["schema"] = schema
    settings.set_main_option("script_location", str(_folder()))
    settings.set_main_option("path_separator", "os")
    return settings


def _folder() -> Path:
    """In the wheel the migrations lie inside the package, in a checkout at the top of the repository."""
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parents[1] / "migrations"
