"""What every verb needs, put together once by whoever starts the process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.job.catalog import Catalog
from jobtrail.job.errors import OutcomeUnknownError
from jobtrail.job.record import NewJob
from jobtrail.job.status import Status
from jobtrail.lifecycle.waiting import Waiting
from jobtrail.store.engine import Database
from jobtrail.store.faults import FAILURES, Fault, fault_of, unavailable
from jobtrail.store.group import Group
from jobtrail.store.transitions.cancel import Cancellation, cancel_group
from jobtrail.store.transitions.insert import Inserted, insert_group

PATIENCE: Final = 3.0
"""Seconds for which a database that cannot be reached is tried before a caller is told so."""

SILENCE: Final = 10.0
"""Seconds after which a caller is told so, whatever happens: a database may be reached and say nothing."""


@dataclass(frozen=True)
class Defaults:
    """What a job gets that says nothing itself. None keeps the row."""

    ttl: timedelta | None = timedelta(days=7)
    ttl_failed: timedelta | None = timedelta(days=30)


@dataclass(frozen=True)
class Desk:
    """The database, the tasks of this process, the room for submits, and the groups that carry them and cancels."""

    database: Database
    catalog: Catalog
    defaults: Defaults = field(default_factory=Defaults)
    waiting: Waiting = field(default_factory=Waiting)
    inserts: Group[NewJob, Inserted] = field(init=False)
    cancels: Group[Cancellation, Status | None] = field(init=False)
    has_keys: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set for good once this process knows of an access key."""
    lacks_rights: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set while the database's role was last seen without a right that jobs need."""

    def __post_init__(self) -> None:
        inserts = Group(partial(insert_group, self.database), weigh=_weigh, patience=PATIENCE, longest=SILENCE)
        cancels = Group(partial(cancel_group, self.database), patience=PATIENCE, longest=SILENCE)
        object.__setattr__(self, "inserts", inserts)
        object.__setattr__(self, "cancels", cancels)

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


def _weigh(row: NewJob) -> int:
    return len(row.args_json)
