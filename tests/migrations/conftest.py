import asyncio
from collections.abc import Iterator

import pytest
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.migrate import config
from jobtrail.db.url import normalize
from support import world


@pytest.fixture
def alembic_config() -> Config:
    return config()


@pytest.fixture
def alembic_engine(postgres: EmbeddedPostgres) -> Iterator[AsyncEngine]:
    """A database of its own for each of the plug-in's tests."""
    url = normalize(asyncio.run(world.create(postgres)))
    engine = create_async_engine(url.sqlalchemy, poolclass=NullPool)
    yield engine
    asyncio.run(engine.dispose())
