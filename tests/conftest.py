import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jobtrail.settings import PREFIX
from jobtrail.store.embedded import EmbeddedPostgres
from support import database, servers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres", choices=["embedded", "system"], default="embedded", help="the PostgreSQL that the tests run on"
    )


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[EmbeddedPostgres]:
    """A server for this session."""
    with servers.server(pytestconfig.getoption("--postgres")) as running:
        yield running


@pytest.fixture(scope="session")
async def kept_place(postgres: EmbeddedPostgres) -> AsyncIterator[database.Place]:
    """A migrated database, with whatever is in it."""
    async with database.migrated(postgres) as place:
        yield place


@pytest.fixture
async def place(kept_place: database.Place) -> database.Place:
    """A migrated database, empty."""
    await kept_place.empty()
    return kept_place


@pytest.fixture
async def empty_url(postgres: EmbeddedPostgres) -> str:
    """The libpq URL of a database without any tables."""
    return await database.create(postgres)


@pytest.fixture
def unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting is made: an empty folder, and an environment without any."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith(PREFIX) or name.upper() == "DATABASE_URL":
            monkeypatch.delenv(name)
