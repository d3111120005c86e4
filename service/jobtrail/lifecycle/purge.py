"""What has expired goes, in batches until one is short; other nodes may do the same at the same time."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from jobtrail.store import expiry
from jobtrail.store.engine import Database
from jobtrail.store.faults import unavailable

BATCH: Final = 1000

NODE_AGE: Final = timedelta(hours=1)
"""How long a node that went silent stays on the list, for whoever asks what happened."""


@dataclass(frozen=True, slots=True)
class Purged:
    """How many rows went: jobs, and rows of the history of jobs that were purged long ago."""

    jobs: int
    transitions: int


async def purge(database: Database, *, by: str, history_ttl: timedelta | None) -> Purged:
    """`history_ttl` None keeps the history for ever. Raises UnavailableError."""
    with unavailable():
        return await _purge(database, by, history_ttl)


async def _purge(database: Database, by: str, history_ttl: timedelta | None) -> Purged:
    jobs = transitions = 0
    while True:
        gone = await expiry.purge(database, actor=by, most=BATCH)
        jobs += gone
        if gone < BATCH:
            break
    while history_ttl is not None:
        gone = await expiry.forget(database, age=history_ttl, most=BATCH)
        transitions += gone
        if gone < BATCH:
            break
    await expiry.forget_nodes(database, age=NODE_AGE)
    return Purged(jobs, transitions)
