import os
from collections.abc import AsyncIterator, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.settings import PREFIX
from support import forks, tasks, world
from support.bouncer import pgbouncer

_LONGEST = {"verification", "e2e", "embedded", "types", "test_readme.py"}
_SERVER = pytest.StashKey[EmbeddedPostgres]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        choices=["embedded", "system", "pgbouncer"],
        default="embedded",
        help="the PostgreSQL that the tests run on; pgbouncer: the embedded one, behind PgBouncer in transaction mode",
    )


def _server_of(config: pytest.Config) -> EmbeddedPostgres:
    """The one of this process, which is started when it is first asked for and stopped at the end."""
    if _SERVER not in config.stash:
        stack = ExitStack()
        config.stash[_SERVER] = stack.enter_context(world.server(config.getoption("--postgres")))
        config.add_cleanup(stack.close)
    return config.stash[_SERVER]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All workers of a parallel run share one server, and one process to fork from; who started them stops both."""
    node.workerinput["postgres"] = str(_server_of(node.config).folder)
    node.workerinput["forks"] = forks.address()


def pytest_configure(config: pytest.Config) -> None:
    if shared := getattr(config, "workerinput", {}).get("forks"):
        os.environ[forks.ADDRESS] = shared


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker of a parallel run is left alone with it at the end."""
    items.sort(key=lambda item: _LONGEST.isdisjoint(item.path.parts))


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A worker sends its reports as UTF-8, and what a test printed may have lone surrogates."""
    return _in_utf8((yield))


def _in_utf8(data: Any) -> Any:
    match data:
        case str():
            return data.encode(errors="replace").decode()
        case dict():
            return {_in_utf8(key): _in_utf8(value) for key, value in data.items()}
        case list() | tuple():
            return type(data)(map(_in_utf8, data))
        case _:
            return data


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> EmbeddedPostgres:
    """The server of this run."""
    shared = getattr(pytestconfig, "workerinput", {}).get("postgres")
    return EmbeddedPostgres(Path(shared)) if shared else _server_of(pytestconfig)


@pytest.fixture(scope="session")
async def kept_place(pytestconfig: pytest.Config, postgres: EmbeddedPostgres) -> AsyncIterator[world.Place]:
    """A migrated database, with whatever is in it."""
    with ExitStack() as stack:
        bouncer = None
        if pytestconfig.getoption("--postgres") == "pgbouncer":
            bouncer = stack.enter_context(pgbouncer(postgres))
        async with world.migrated(postgres, bouncer) as place:
            yield place


@pytest.fixture
async def place(kept_place: world.Place) -> world.Place:
    """A migrated database, empty."""
    await kept_place.empty()
    return kept_place


@pytest.fixture(autouse=True)
def closed_gate() -> None:
    """A test that ended with an open gate lets no `hold` of the next one through."""
    tasks.GATE.clear()


@pytest.fixture
async def empty_url(postgres: EmbeddedPostgres) -> str:
    """The libpq URL of a database without any tables."""
    return await world.create(postgres)


@pytest.fixture
def unset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting is made: an empty folder, and an environment without any."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith(PREFIX) or name.upper() == "DATABASE_URL":
            monkeypatch.delenv(name)
