"""The session of a task, whose writes commit in one transaction with the end of its attempt, or not at all."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final, NoReturn
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from jobtrail.db.engine import Database
from jobtrail.db.errors import PASSING, Fault, connecting, fault_of, unavailable
from jobtrail.db.job_connection import IN_FAILED_TRANSACTION, USE, Use, leave
from jobtrail.errors import CommitFailedError, JobSessionError, UnavailableError
from jobtrail.jobs.finish import OutcomeRecord, Recorded, ask, finish_within, unfit

log = logging.getLogger(__name__)


def _refuse(verb: str) -> NoReturn:
    raise JobSessionError(
        f"{verb}() is not for the task: the node commits the job session together with the end of the job, and undoes "
        "it when the task raises; for a part that may be undone alone use `async with session.begin_nested():`"
    )


def _refusing(verb: str) -> Callable[[Session], NoReturn]:
    return lambda _session: _refuse(verb)


class _Kept(Session):
    """Only savepoints end by the task's own hand, also in what it calls with `run_sync`."""

    def begin(self, nested: bool = False) -> SessionTransaction:
        return super().begin(nested=True) if nested else _refuse("begin")

    commit = _refusing("commit")
    rollback = _refusing("rollback")
    prepare = _refusing("prepare")
    close = _refusing("close")
    reset = _refusing("reset")
    invalidate = _refusing("invalidate")


class JobSession(AsyncSession):
    """Session for one attempt, bound to one connection. It lives as long as its transaction and is useless afterwards.

    `transaction` is the id that PostgreSQL gave the transaction.
    """

    sync_session_class = _Kept

    def __init__(self, connection: AsyncConnection, use: Use, transaction: str) -> None:
        # rollback_only: the session's own idea of a commit never reaches the connection
        super().__init__(connection, expire_on_commit=False, join_transaction_mode="rollback_only")
        self.own: Final = connection
        self.use: Final = use
        self.transaction: Final = transaction
        self.leaving: asyncio.Task[None] | None = None
        self.refusal: DBAPIError | None = None

    async def __aexit__(self, *_: object) -> None:
        """Ends nothing: `async with session:` may stand in code that was written for other sessions."""


# A standby has no transaction ids to give, so it is asked for what it is first.
_OPEN: Final = text("""
SELECT CASE WHEN current_setting('transaction_read_only') = 'off' THEN pg_current_xact_id()::text END,
       set_config('idle_in_transaction_session_timeout', :idle, true)
""")

_PATIENT: Final = text("SELECT pg_current_xact_id()::text, set_config('lock_timeout', '0', true)")


async def open_job_session(database: Database, *, lease: timedelta) -> JobSession:
    """Wait for a connection, however long, and begin. PostgreSQL ends the session when it is idle for a lease:
    else the open transaction of a node that was stopped would block its successor.

    Raises UnavailableError, also where the database is read-only: there nothing could be committed.
    """
    with unavailable():
        if (session := await _open(database, lease)) is None:
            await database.jobs.dispose()  # those that are kept lead to the old primary too
            session = await _open(database, lease)
    if session is None:
        raise UnavailableError("the database is read-only for now")
    return session


async def _open(database: Database, lease: timedelta) -> JobSession | None:
    """None where it is read-only."""
    with connecting():
        connection = await database.jobs.connect()
    try:
        use = Use(lease)
        await connection.execution_options(**{USE: use})
        idle = f"{max(1, round(lease.total_seconds() * 1000))}ms"
        transaction = (await connection.execute(_OPEN, {"idle": idle})).scalar_one()
    except BaseException:
        await leave(connection)
        raise
    if transaction is not None:
        return JobSession(connection, use, transaction)
    await connection.invalidate()
    await leave(connection)
    return None


async def complete(database: Database, session: JobSession, record: OutcomeRecord, *, node: UUID) -> Recorded:
    """Commit what the task wrote, and the end of its attempt as the last statement of the same transaction.

    STALE: the attempt was no longer ours, and nothing of it remains. The end is offered for as long as a lease,
    whatever the database says of it, and after an outage what became of it is asked however long that lasts.
    Raises CommitFailedError when neither landed and the attempt still runs: it is to be ended in another way.
    """
    sent = False
    refusal: Exception | None = None
    try:
        async with asyncio.timeout(max(session.use.most_idle.total_seconds(), _PATIENCE)):
            if await _finish(session, record, node, database):
                sent = True
                await session.own.commit()
                return Recorded.YES
    except TimeoutError:
        silent = UnavailableError("the database did not answer, or the row of the job stayed locked")
        refusal = session.refusal or silent
    except Exception as error:  # noqa: BLE001 - whatever it was: what counts is what the row says
        refusal = error
    finally:
        await abandon(session)
    found = await _asked(database, session, record, node)
    if found is Recorded.UNKNOWN:
        raise CommitFailedError(_reason(session, refusal)) from refusal
    return found if sent else Recorded.STALE


async def abandon(session: JobSession) -> None:
    """Undo what the task wrote and give the connection back; one that is broken, busy or silent is thrown away.

    Raises nothing but its caller's own cancellation. May be called again, and while a statement is under way.
    """
    if session.leaving is None:
        session.leaving = asyncio.create_task(leave(session.own), name="jobtrail-job-session")
    try:
        await asyncio.shield(session.leaving)
    except asyncio.CancelledError:
        await asyncio.wait({session.leaving})
        raise


_PATIENCE: Final = 30.0
"""Seconds that the end of an attempt waits for its row, or for an answer, at least."""


async def _finish(session: JobSession, record: OutcomeRecord, node: UUID, database: Database) -> bool:
    """Everything but the COMMIT; False when the attempt is no longer ours."""
    await session.connection()  # raises when a flush had failed before and its error was swallowed
    if session.new or session.dirty or session.deleted:
        await _check(session, _SAME)
        await session.flush()
    # From here on it waits for a lock on the row however long it lasts: the effects must not be lost by that.
    await _check(session, _PATIENT)
    return await _offer(session, record, node, database)


async def _offer(session: JobSession, record: OutcomeRecord, node: UUID, database: Database) -> bool:
    """Record the end, again and again while the database refuses it: a savepoint keeps what the task wrote."""
    pause = min(0.05, session.use.most_idle.total_seconds() / 4)
    while True:
        await session.own.execute(_SAVEPOINT)
        try:
            found = await finish_within(session.own, record, node=node, schema=database.schema)
        except DBAPIError as error:
            if error.connection_invalidated or (fault_of(error) is Fault.DATA and await unfit(database, record)):
                raise
            session.refusal = error
        else:
            return found is Recorded.YES
        await session.own.execute(_BACK)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 1.0, session.use.most_idle.total_seconds() / 4)


_SAVEPOINT: Final = text("SAVEPOINT jobtrail_end")
_BACK: Final = text("ROLLBACK TO SAVEPOINT jobtrail_end")
_SAME: Final = text("SELECT pg_current_xact_id()::text")


async def _check(session: JobSession, statement: TextClause) -> None:
    if (await session.own.execute(statement)).scalar_one() != session.transaction:
        raise CommitFailedError(
            "the task ended the transaction of its job session itself, and some of what it wrote may be committed; "
            "leave COMMIT and ROLLBACK out: the node commits the session together with the end of the job"
        )


async def _asked(database: Database, session: JobSession, record: OutcomeRecord, node: UUID) -> Recorded:
    pause = 0.05
    while True:
        try:
            return await ask(database, record, node=node, transaction=session.transaction)
        except Exception as error:  # noqa: BLE001 - whatever the database says, it is asked until it answers
            log.debug("what became of the end of job %s is asked again: %s", record.id, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)


def _reason(session: JobSession, refusal: Exception | None) -> str:
    """Why the commit failed, and how to mend it."""
    if isinstance(refusal, CommitFailedError):
        return str(refusal)
    if refusal is None:
        return "the row of the job did not move, though the attempt was its own"
    state = getattr(refusal.orig, "sqlstate", None) if isinstance(refusal, DBAPIError) else None
    if state == IN_FAILED_TRANSACTION or isinstance(refusal, PendingRollbackError):
        return (
            f"the job session had failed before, and the task swallowed the error: {session.use.error}; "
            "let the error out, or put what may fail into `async with session.begin_nested():`"
        )
    said = " ".join(str(refusal.orig if isinstance(refusal, DBAPIError) else refusal).split())
    passing = fault_of(refusal) in PASSING | {Fault.COLLISION}
    return f"what the task wrote was not committed: {said}" + ("; another attempt may succeed" if passing else "")
