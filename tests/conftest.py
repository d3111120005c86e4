import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.settings import PREFIX
from support import database, servers
from support.bouncer import pgbouncer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        choices=["embedded", "system", "pgbouncer"],
        default="embedded",
        help="the PostgreSQL that the tests run on; pgbouncer: the embedded one, behind PgBouncer in transaction mode",
    )


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[EmbeddedPostgres]:
    """A server for this session."""
    with servers.server(pytestconfig.getoption("--postgres")) as running:
        yield running


@pytest.fixture(scope="session")
async def kept_place(pytestconfig: pytest.Config, postgres: EmbeddedPostgres) -> AsyncIterator[database.Place]:
    """A migrated database, with whatever is in it."""
    with ExitStack() as stack:
        bouncer = None
        if pytestconfig.getoption("--postgres") == "pgbouncer":
            bouncer = stack.enter_context(pgbouncer(postgres))
        async with database.migrated(postgres, bouncer) as place:
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
