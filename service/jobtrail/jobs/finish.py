"""running → succeeded, failed or cancelled, or → pending for another attempt. Only the attempt that holds the job.

The outcome of an attempt is offered until the database says whose attempt it was.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail.db.direct import fetch_on
from jobtrail.db.engine import Database
from jobtrail.db.errors import Fault, fault_of, reason, unavailable
from jobtrail.db.group_commit import GroupCommit
from jobtrail.db.tables import SCHEMA
from jobtrail.errors import NotStorableError, UnavailableError
from jobtrail.jobs.fence import AttemptRef, fenced
from jobtrail.records import Claimed
from jobtrail.status import Status
from jobtrail.task.outcome import Cancelled, Failed, Outcome, Released, Retried, Succeeded
from jobtrail.task.storable import dump

log = logging.getLogger(__name__)


@dataclass(slots=True)
class OutcomeRecord:
    """The end of an attempt, to be recorded if the fence still holds.

    `status` pending means another attempt after `delay`; `more` raises max_attempts, for an attempt that is given
    back and does not count. `result`, `error` and `progress` are JSON texts; without a `progress` the row keeps the one
    it has.
    """

    id: UUID
    attempt: int
    status: Status
    reason: str
    result: str | None = None
    error: str | None = None
    delay: timedelta = timedelta(0)
    more: int = 0
    progress: str | None = None


class Recorded(Enum):
    """Whether the end of an attempt is in its row and in the history."""

    YES = auto()  # it is
    CANCELLED = auto()  # it is, as cancelled: a cancel was requested before the job could go back to pending
    STALE = auto()  # it never will be: this attempt no longer holds the job
    UNKNOWN = auto()  # not known yet: the grouped statement did not move the row, or a COMMIT had no answer


# A row with a cancel request must not go back to pending, where it would start again.
_TO: Final = "CASE WHEN u.status = 'pending' AND j.cancel_requested_at IS NOT NULL THEN 'cancelled' ELSE u.status END"

# In seconds: this may be the last statement of a job session, whose zone is the task's own, and a day of it may have 23
# hours.
_IN_SECONDS: Final = "make_interval(secs => extract(epoch FROM {}))"

_FINISH: Final = fenced(
    f"""
       status = {_TO}, seq = j.seq + 1, result = u.result, error = u.error, lease_until = NULL,
       moved_by = CASE {_TO} WHEN 'cancelled' THEN j.cancel_requested_by ELSE 'node' END,
       move_reason = CASE {_TO} WHEN 'cancelled' THEN coalesce(j.cancel_reason, u.reason) ELSE u.reason END,
       node_id = CASE {_TO} WHEN 'pending' THEN NULL ELSE j.node_id END,
       started_at = CASE {_TO} WHEN 'pending' THEN NULL ELSE j.started_at END,
       finished_at = CASE {_TO} WHEN 'pending' THEN NULL ELSE statement_timestamp() END,
       expires_at = CASE {_TO} WHEN 'pending' THEN NULL
                               WHEN 'succeeded' THEN statement_timestamp() + {_IN_SECONDS.format("j.ttl")}
                               ELSE statement_timestamp() + {_IN_SECONDS.format("j.ttl_failed")} END,
       run_at = CASE {_TO} WHEN 'pending' THEN statement_timestamp() + {_IN_SECONDS.format("u.delay")}
                           ELSE j.run_at END,
       max_attempts = j.max_attempts + u.more, given_back = j.given_back + u.more,
       progress = coalesce(u.progress, j.progress)""",
    returning="j.id, j.attempt, j.status",
    status="text",
    reason="text",
    result="jsonb",
    error="jsonb",
    delay="interval",
    more="int",
    progress="jsonb",
)

# FOR UPDATE, never a plain read: a commit whose answer was lost may still be on its way, and this waits for it.
_ROW: Final = text("""
SELECT status, node_id, attempt FROM jobtrail.jobs WHERE id = :id FOR UPDATE
""")

_ENDED_BY: Final = text("""
SELECT to_status, node_id, reason, error IS NOT DISTINCT FROM CAST(:error AS jsonb) AS is_same, xact::text
  FROM jobtrail.transitions
 WHERE job_id = :id AND attempt = :attempt AND from_status = 'running' ORDER BY seq LIMIT 1
""")


async def finish_group(database: Database, records: Sequence[OutcomeRecord], *, node: UUID) -> Sequence[Recorded]:
    """Record ends in one statement and one commit; what did not move comes back as UNKNOWN."""
    rows = await _FINISH.execute(database.fetch, _FINISH.values(records, node))
    moved = {(job_id, attempt): status for job_id, attempt, status in rows}
    return [_recorded(record, moved.get((record.id, record.attempt))) for record in records]


def _recorded(record: OutcomeRecord, status: str | None) -> Recorded:
    if status is None:
        return Recorded.UNKNOWN
    return Recorded.YES if status == record.status else Recorded.CANCELLED


async def finish_within(
    connection: AsyncConnection, record: OutcomeRecord, *, node: UUID, schema: str = SCHEMA
) -> Recorded:
    """Record an end as part of the connection's open transaction; UNKNOWN when the attempt is no longer ours.

    `schema` is said for a connection of a job session; the others know theirs.
    """
    moved = await fetch_on(connection, _FINISH.plain, schema, **_FINISH.values([record], node))
    return _recorded(record, moved[0][2] if moved else None)


class Unfit(NamedTuple):
    """The texts of an end that the database can never hold, and its words for it."""

    names: set[str]
    said: str


# Asked apart from the table: there a trigger, or a lock, may be what refuses an end, and only for a while.
_HOLDS: Final = {
    name: text(f"SELECT CAST(:value AS {kind}) IS NULL")
    for name, kind in {"result": "jsonb", "error": "jsonb", "progress": "jsonb", "reason": "text"}.items()
}


async def unfit(database: Database, record: OutcomeRecord) -> Unfit | None:
    """Find what this database can never hold of a record, for its encoding or its limits; None: it holds all of it.

    Raises whatever else the database says.
    """
    names: set[str] = set()
    said = ""
    for name, statement in _HOLDS.items():
        try:
            async with database.autocommit() as connection:
                await connection.execute(statement, {"value": getattr(record, name)})
        except DBAPIError as error:
            if fault_of(error) is not Fault.DATA:
                raise
            names.add(name)
            said = str((error.orig and error.orig.__cause__) or error.orig)
    return Unfit(names, said) if names else None


async def settle(database: Database, record: OutcomeRecord, *, node: UUID) -> Recorded:
    """Find out what became of an end that the grouped statement did not move, and record it if it is still ours.

    Raises UnavailableError while the row is locked, or the database does not answer.
    """
    with unavailable():
        async with database.transaction() as session:
            found = await _ask(session, record, node, None)
            if found is Recorded.UNKNOWN:  # `_ask` holds the row
                found = await finish_within(await session.connection(), record, node=node)
            return found


async def ask(database: Database, record: OutcomeRecord, *, node: UUID, transaction: str) -> Recorded:
    """What became of an end whose commit was not answered. UNKNOWN: the attempt still runs, and is still ours.

    `transaction` is the id of the one that was to commit: an end that another wrote is not its. It writes nothing, and
    waits for a commit that is on its way. Raises UnavailableError as `settle` does.
    """
    with unavailable():
        async with database.transaction() as session:
            return await _ask(session, record, node, transaction)


async def _ask(session: AsyncSession, record: OutcomeRecord, node: UUID, transaction: str | None) -> Recorded:
    row = (await session.execute(_ROW, {"id": record.id})).one_or_none()
    if row is not None and (row.status, row.node_id, row.attempt) == (Status.RUNNING, node, record.attempt):
        return Recorded.UNKNOWN
    # The history says who ended this attempt, also after the row went on or was purged.
    asked = {"id": record.id, "attempt": record.attempt, "error": record.error}
    ended = (await session.execute(_ENDED_BY, asked)).one_or_none()
    if ended is not None and _is_ours(ended, record, node) and transaction in (None, ended.xact):
        return _recorded(record, ended.to_status)
    now = "gone" if row is None else f"{row.status} at attempt {row.attempt}"
    log.warning(
        "stale: attempt %d of job %s ended as %s, but the row is %s: not recorded",
        *(record.attempt, record.id, record.status, now),
    )
    return Recorded.STALE


def _is_ours(ended: Row[Any], record: OutcomeRecord, node: UUID) -> bool:
    """Whether the history's end of this attempt is the one we tried to write; rescue and psql write other errors."""
    by_hand = ended.reason == "sql"  # what the database says of a move that came from outside
    if ended.node_id != node or by_hand or not ended.is_same:
        return False
    if ended.to_status == Status.CANCELLED:
        return record.status in (Status.CANCELLED, Status.PENDING)
    return bool(ended.to_status == record.status)


class OutcomeRecorder:
    """The way of a node's outcomes to their rows, together where it can be."""

    def __init__(self, database: Database, node: UUID) -> None:
        self._database = database
        self._node = node
        self._group = GroupCommit(
            partial(finish_group, database, node=node),
            weigh=lambda record: len(record.result or "") + len(record.error or ""),
            patience=float("inf"),
        )

    def offer(self, record: OutcomeRecord) -> "asyncio.Future[Recorded]":
        """Together with others, for the everyday case: whatever it is but YES or CANCELLED, `finish_alone` follows."""
        return self._group.offer(record)

    async def finish(self, record: OutcomeRecord) -> Recorded:
        """YES, or STALE when the attempt was no longer ours: offered until the database says one of the two,
        however long that takes and whatever it says meanwhile.

        Raises NotStorableError when it holds what this database never will: it is to be ended in another way.
        """
        try:
            found = await self.offer(record)
        except Exception as error:
            log.debug("the end of attempt %d of job %s goes alone now", record.attempt, record.id, exc_info=error)
            found = Recorded.UNKNOWN
        return await self.finish_alone(record) if found is Recorded.UNKNOWN else found

    async def finish_alone(self, record: OutcomeRecord) -> Recorded:
        """The same without others, where the group's own task is not there any more."""
        pause, is_told = 0.05, False
        while True:
            try:
                found = await settle(self._database, record, node=self._node)
                if found is not Recorded.UNKNOWN:
                    return found
            except Exception as error:  # as above
                if fault_of(error) is Fault.DATA:
                    record = await self._that_fits(record)
                if not is_told and not isinstance(error, UnavailableError):
                    is_told = True
                    log.warning(
                        "the end of attempt %d of job %s is not recorded yet, and is offered until it is: %s",
                        *(record.attempt, record.id, reason(error)),
                    )
                    log.debug("the end of an attempt is refused", exc_info=error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _that_fits(self, record: OutcomeRecord) -> OutcomeRecord:
        """The record, without a progress that the database cannot hold. Raises NotStorableError for any other text."""
        try:
            found = await unfit(self._database, record)
        except Exception as error:
            log.debug("what the database can hold could not be asked", exc_info=error)
            return record
        if found is None:
            return record
        if found.names != {"progress"}:
            raise NotStorableError(f"the database cannot hold it: {found.said}")
        return replace(record, progress=None)


def record_of(claimed: Claimed, outcome: Outcome) -> OutcomeRecord:
    ref = claimed.id, claimed.attempt
    match outcome:
        case Succeeded(result):
            return OutcomeRecord(*ref, Status.SUCCEEDED, "succeeded", result=result)
        case Failed(failure):
            return OutcomeRecord(*ref, Status.FAILED, failure.type, error=dump(failure.as_json()))
        case Cancelled(failure):
            return OutcomeRecord(*ref, Status.CANCELLED, "cancelled", error=dump(failure.as_json()))
        case Retried(failure, delay):
            return OutcomeRecord(*ref, Status.PENDING, failure.type, error=dump(failure.as_json()), delay=delay)
        case Released(why):
            return released(claimed, why)


def released(claimed: Claimed | AttemptRef, why: str = "released") -> OutcomeRecord:
    """An attempt that goes back whole: it never began, or the next one goes on where it was."""
    return OutcomeRecord(claimed.id, claimed.attempt, Status.PENDING, why, more=1)
