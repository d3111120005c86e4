"""Which revision the database has, which one this code needs, and how one becomes the other."""

import asyncio
import threading
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.store.connecting import connect_once
from jobtrail.store.namespace import SCHEMA

_REVISION: Final = text(f"SELECT version_num FROM {SCHEMA}.alembic_version")  # noqa: S608 - a constant of ours
_EXISTS: Final = text(f"SELECT to_regclass('{SCHEMA}.alembic_version') IS NOT NULL")


class Schema(Enum):
    CURRENT = auto()
    LATER = auto()  # a revision this code has never heard of: migrated ahead of a rollout, and accepted
    OLDER = auto()
    MISSING = auto()

    @property
    def is_usable(self) -> bool:
        return self in (Schema.CURRENT, Schema.LATER)


async def revision(session: AsyncSession) -> str | None:
    """The revision of the database, None when it was never migrated."""
    if not (await session.execute(_EXISTS)).scalar_one():
        return None
    return (await session.execute(_REVISION)).scalar_one_or_none()


_IS_WRITABLE: Final = text("SELECT current_setting('transaction_read_only') = 'off'")


async def is_writable(session: AsyncSession) -> bool:
    """A standby is not, nor a database that somebody made read-only for a while."""
    return bool((await session.execute(_IS_WRITABLE)).scalar_one())


async def state(session: AsyncSession) -> Schema:
    found = await revision(session)
    if found is None:
        return Schema.MISSING
    if found == head():
        return Schema.CURRENT
    return Schema.OLDER if found in _known() else Schema.LATER


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
