"""Engine, catalog and settings that every verb needs, handed over once by the composition root."""

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db import rights
from jobtrail.db.engine import Database
from jobtrail.db.errors import FAILURES, Fault, fault_of, unavailable
from jobtrail.db.group_commit import Answer, GroupCommit, Row, Weigh, weightless
from jobtrail.errors import OutcomeUnknownError, OverloadedError, SettingsError, UnavailableError
from jobtrail.jobs.meters import Meters
from jobtrail.outbound import Outbound
from jobtrail.task.catalog import Catalog

log = logging.getLogger(__name__)

Made = TypeVar("Made")


class AdmissionLimit:
    """At most `most` jobs wait to be stored; a batch that is larger goes when it is alone."""

    def __init__(self, most: int = 5000) -> None:
        self._most: Final = most
        self._count = 0

    @contextmanager
    def admit(self, jobs: int) -> Iterator[None]:
        """Raises OverloadedError, and then nothing was done."""
        if self._count and self._count + jobs > self._most:
            raise OverloadedError(self._count)
        self._count += jobs
        try:
            yield
        finally:
            self._count -= jobs


class PendingCounts:
    """Numbers by name, as the database had them at most a second ago; those who ask at once share one statement."""

    def __init__(self) -> None:
        self.numbers: Mapping[str, int] = {}
        self._at = -math.inf
        self._lock = asyncio.Lock()

    async def renew(self, count: Callable[[], Awaitable[Mapping[str, int]]]) -> None:
        """Let `count` give new ones, unless those that are there are young enough; they stay where it cannot."""
        asked = time.monotonic()
        async with self._lock:
            if self._at <= asked - 1:
                began = time.monotonic()
                try:
                    self.numbers = await count()
                except UnavailableError as error:
                    log.debug("what is pending could not be counted: %s", error)
                self._at = began  # who asked before it began has waited once, and not for each of the others


PATIENCE: Final = 3.0
"""Seconds for which a database that cannot be reached is tried before the caller gets UnavailableError."""

SILENCE: Final = 10.0
"""Seconds after which the caller gets it whatever happens: a database may be reached and not answer."""


@dataclass(frozen=True)
class Defaults:
    """What a job gets that says nothing itself. None keeps the row."""

    ttl: timedelta | None = timedelta(days=7)
    ttl_failed: timedelta | None = timedelta(days=30)


@dataclass(frozen=True)
class AlarmLimits:
    """What `jobtrail stats` rings at: more pending jobs, a job that runs for longer, a larger share of failures."""

    pending: int = 1000
    running: timedelta = timedelta(minutes=5)
    failures: float = 0.05


@dataclass(frozen=True)
class Services:
    """The database, the tasks of this process, the room for submits, and what is written in groups."""

    database: Database
    catalog: Catalog
    defaults: Defaults = field(default_factory=Defaults)
    admission: AdmissionLimit = field(default_factory=AdmissionLimit)
    max_pending: Mapping[str, int] = field(default_factory=dict)
    """By queue: how many pending jobs refuse another one."""
    outbound: Outbound = field(default_factory=Outbound)
    alarms: AlarmLimits = field(default_factory=AlarmLimits)
    pending: Mapping[str, PendingCounts] = field(
        default_factory=lambda: {"queue": PendingCounts(), "limit": PendingCounts()}, init=False
    )
    has_keys: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set for good once this process knows of an access key."""
    lacks_rights: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set while the database's role was last seen without a right that jobs need."""
    has_edges: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set while jobs were last seen that come after others."""
    has_batches: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set while batches were last seen that are not done."""
    has_limited: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set by a submit of a job with limits, until the claims have looked for it: its task may declare none."""

    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    _context: contextvars.Context = field(default_factory=contextvars.copy_context, init=False, repr=False)

    @cached_property
    def meters(self) -> Meters:
        """The counts of this process."""
        return Meters(self.catalog.names)

    @cached_property
    def limits_pending(self) -> bool:
        """Whether any submit is judged by how many jobs are pending."""
        return bool(self.max_pending or any(each.max_pending for task in self.catalog for each in task.limits))

    def group(
        self,
        write: Callable[[Database, Sequence[Row]], Awaitable[Sequence[Answer]]],
        *,
        weigh: Weigh[Row] = weightless,
        lanes: int = 1,
    ) -> GroupCommit[Row, Answer]:
        """The group commit of this process for `write`, made when it is first asked for."""
        found: GroupCommit[Row, Answer] | None = self._made.get(write)
        if found is None:
            found = self._made[write] = self._context.run(
                lambda: GroupCommit(
                    partial(write, self.database), weigh=weigh, patience=PATIENCE, longest=SILENCE, lanes=lanes
                )
            )
        return found

    def once(self, make: Callable[["Services"], Made]) -> Made:
        """What `make` makes of these services, made when it is first asked for."""
        found: Made | None = self._made.get(make)
        if found is None:
            found = self._made[make] = self._context.copy().run(make, self)  # `make` may ask too
        return found

    @asynccontextmanager
    async def session(self, seconds: float | None = None) -> AsyncIterator[AsyncSession]:
        """A session for reading; UnavailableError when the database does not answer within SILENCE, or `seconds`."""
        with unavailable():
            async with self.database.reading(seconds or SILENCE) as session:
                yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A transaction that commits at the end; UnavailableError when the database or a locked row does not answer,
        as OutcomeUnknownError when it was the COMMIT that got no answer.
        """
        committing = False
        with unavailable():
            try:
                async with self.database.reading(SILENCE) as session:
                    yield session
                    committing = True
                    await session.commit()
            except FAILURES as error:
                if committing and fault_of(error) is Fault.CONNECTION:
                    raise OutcomeUnknownError("the database did not answer in time") from error
                raise


async def missing_rights(services: Services, session: AsyncSession) -> str | None:
    """Which rights are missing and the GRANTs that mend it, noted for `require_rights`."""
    lacks = await rights.lacking(session)
    if lacks:
        services.lacks_rights.set()
        return rights.told(lacks)
    services.lacks_rights.clear()
    return None


def require_accepting(accepting: Callable[[], bool]) -> None:
    """Raises UnavailableError in a process that shuts down."""
    if not accepting():
        raise UnavailableError("this process is shutting down; send it again, to another or to the next one")


async def require_rights(services: Services) -> None:
    """Asks the database only while something was missing. Raises UnavailableError: a job might never run."""
    if not services.lacks_rights.is_set():
        return
    async with services.session() as session:
        if (missing := await missing_rights(services, session)) is not None:
            raise UnavailableError(missing)


async def look_at_start(services: Services) -> None:
    """A process that serves starts all the same: /health/ready says it, and it needs no restart after the GRANT."""
    try:
        async with services.session(PATIENCE) as session:
            missing = await missing_rights(services, session)
    except UnavailableError:
        return
    if missing is not None:
        log.error("not ready, and no job is accepted: %s", missing)


async def require_rights_at_start(services: Services) -> None:
    """For a process without a readiness probe. Raises SettingsError, UnavailableError."""
    async with services.session() as session:
        if (missing := await missing_rights(services, session)) is not None:
            raise SettingsError(f"JOBTRAIL_DATABASE_URL: {missing}")
