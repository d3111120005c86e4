"""What has expired goes, in batches until one is short; other nodes may do the same at the same time.

There are three parts, none of which waits for another or fails with it: expired jobs (their log lines go by a trigger),
the history of jobs that were purged long ago, and nodes that fell silent.
"""

from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from jobtrail.job.errors import PurgeRefusedError
from jobtrail.store import expiry
from jobtrail.store.batches import in_batches
from jobtrail.store.engine import Database
from jobtrail.store.faults import reason, unavailable

JOBS: Final = 1000
"""Jobs of one commit, at most."""

MOVES: Final = 5000
"""Rows of the history of one commit, at most."""

_MOST_STUCK: Final = 100
"""Jobs that are stepped over in one purge: each costs an attempt of its own."""

NODE_AGE: Final = timedelta(hours=1)
"""How long a node that went silent stays on the list, for whoever asks what happened."""


class Purged(NamedTuple):
    """How many rows went: jobs, and rows of the history of jobs that were purged long ago."""

    jobs: int
    transitions: int


async def purge(database: Database, *, by: str, history_ttl: timedelta | None) -> Purged:
    """One part after the other, whatever became of the one before. `history_ttl` None keeps the history for ever.

    Raises the first error, when every part has come to an end: UnavailableError, PurgeRefusedError.
    """
    gone: list[int] = []
    errors: list[Exception] = []
    for part in (
        partial(purge_jobs, database, by=by),
        partial(purge_history, database, age=history_ttl),
        partial(purge_nodes, database),
    ):
        try:
            gone.append(await part())
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
    if errors:
        raise errors[0]
    return Purged(jobs=gone[0], transitions=gone[1])


async def purge_jobs(database: Database, *, by: str) -> int:
    """How many expired jobs went. Raises UnavailableError, and PurgeRefusedError for what the database does not let go,
    when all the others went; what was committed is gone.
    """
    total = 0
    stuck: dict[UUID, str] = {}

    async def step(most: int) -> bool:
        nonlocal total
        try:
            gone = await expiry.purge(database, actor=by, most=most, but=stuck)
        except expiry.StuckError as error:
            stuck[error.job_id] = reason(error.__cause__ or error)
            return len(stuck) < _MOST_STUCK
        total += gone
        return gone == most

    with unavailable():
        await in_batches(step, most=JOBS)
    if stuck:
        raise PurgeRefusedError(stuck)
    return total


async def purge_history(database: Database, *, age: timedelta | None) -> int:
    """How many rows of the history went, of jobs that were purged longer than `age` ago. Raises as `purge_jobs`."""
    total = 0

    async def step(most: int) -> bool:
        nonlocal total
        gone = 0 if age is None else await expiry.forget(database, age=age, most=most)
        total += gone
        return gone == most

    with unavailable():
        await in_batches(step, most=MOVES)
    return total


async def purge_nodes(database: Database) -> int:
    """How many nodes went that were silent for NODE_AGE. Raises UnavailableError."""
    with unavailable():
        return await expiry.forget_nodes(database, age=NODE_AGE)
