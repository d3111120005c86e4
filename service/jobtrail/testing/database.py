"""A database for one session of tests: made by the kit, emptied between tests, dropped at the end."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final, TypeVar
from unittest.mock import patch

from anyio.from_thread import BlockingPortal, start_blocking_portal

from jobtrail.db import scratch
from jobtrail.db.engine import open_database
from jobtrail.db.errors import Fault, fault_of, refusal_of, unavailable
from jobtrail.db.migrate import migrate
from jobtrail.db.scratch import Scratch
from jobtrail.db.url import DatabaseUrl, normalize, read_uri
from jobtrail.embed.opened import Opened
from jobtrail.errors import SettingsError, UnavailableError
from jobtrail.jobs.services import Services
from jobtrail.settings import EMBEDDED, PREFIX, Settings, load
from jobtrail.task.catalog import Catalog
from jobtrail.testing.server import VARIABLE, embedded_server

T = TypeVar("T")

_TRIES: Final = 5
"""To empty a database in which an app runs: its transactions take the tables in another order, and may deadlock."""

_ACCEPTS_ONLY: Final = {"slots": "0", "threads": "0", "processes": "0", "purge_every": "1d"}
"""Nothing runs, and nothing is purged, behind the back of a test."""


class ScratchDatabase:
    """`url` is for libpq, `sqlalchemy_url` for an engine of the host's own. Its calls may come from any thread: they
    run in a loop in a thread of the kit's.
    """

    def __init__(self, made: Scratch, portal: BlockingPortal, schema: str) -> None:
        """For `scratch_database`."""
        self.name: Final = made.name
        self.url: Final = made.url.libpq
        self.sqlalchemy_url: Final = made.url.sqlalchemy
        self.schema: Final = schema
        self._made = made
        self._services = Services(open_database(made.url.sqlalchemy, schema=schema), Catalog())
        self._portal = portal
        self._settings = {"database_url": self.url, "schema": schema, **_ACCEPTS_ONLY}

    def settings(self, **more: Any) -> Settings:
        """For `Jobtrail(settings)`, of an app that is not to read the environment: it takes jobs and runs none."""
        return load(**{**self._settings, **more})

    @contextmanager
    def environment(self) -> Iterator[None]:
        """The same in the environment, where a `Jobtrail()` finds it when it starts."""
        with patch.dict(os.environ, {PREFIX + name.upper(): value for name, value in self._settings.items()}):
            yield

    def empty(self) -> None:
        """Remove every row of Jobtrail's own tables; the tables of a host are the host's to empty.

        Raises UnavailableError while a transaction is open that wrote to them.
        """
        tried = 0
        while True:
            tried += 1
            try:
                return self.ask(partial(_empty, made=self._made))
            except UnavailableError as error:
                if fault_of(error) is Fault.COLLISION and tried < _TRIES:
                    continue
                raise UnavailableError(
                    f"{self.name} cannot be emptied: a transaction that wrote to it is still open; end the session or "
                    "the app of the test before"
                ) from error

    def ask(self, verb: Callable[[Services], Awaitable[T]]) -> T:
        """The result of the verb, with services that know no tasks."""
        return self._portal.call(verb, self._services)

    def close(self) -> None:
        self._portal.call(self._services.database.dispose)

    def is_of(self, opened: Opened) -> bool:
        """Whether it is open on this database; no other has its name."""
        url = opened.settings.database_url
        return url is not None and url != EMBEDDED and read_uri(url.strip()).get("dbname") == self.name


async def _empty(services: Services, made: Scratch) -> None:
    async with services.transaction() as session:
        await scratch.empty(session, made)


@contextmanager
def scratch_database(server: str | None = None) -> Iterator[ScratchDatabase]:
    """A migrated database of its own, without any rows, its schema named as JOBTRAIL_SCHEMA says.

    `server` is the URL of any database of a PostgreSQL, for a user that may make databases; None: the one that the
    environment names (JOBTRAIL_TEST_DATABASE_URL), else an embedded one.
    Raises SettingsError, UnavailableError, which name the fix.
    """
    with ExitStack() as opened:
        named = server or os.environ.get(VARIABLE)
        url = normalize(named, VARIABLE) if named else normalize(opened.enter_context(embedded_server()).url)
        portal = opened.enter_context(start_blocking_portal(name="jobtrail-testing"))
        made = _create(url, portal)
        if named:
            opened.callback(portal.call, scratch.drop, url, made)
        schema = load(database_url=made.url.libpq).schema
        portal.call(partial(migrate, made.url.sqlalchemy, schema=schema))
        database = ScratchDatabase(made, portal, schema)
        opened.callback(database.close)
        yield database


def _create(url: DatabaseUrl, portal: BlockingPortal) -> Scratch:
    try:
        with unavailable():
            return portal.call(scratch.create, url)
    except Exception as error:
        if (refusal := refusal_of(error.__cause__ or error)) is not None:
            raise SettingsError(
                f"{VARIABLE}: PostgreSQL at {url.shown} refuses: {refusal}; the tests need a user that may make "
                "databases (ALTER ROLE … CREATEDB)"
            ) from error
        if isinstance(error, UnavailableError):
            raise UnavailableError(
                f"{VARIABLE}: nothing answers at {url.shown}: is PostgreSQL running there?"
            ) from error
        raise
