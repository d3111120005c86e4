"""The end of one attempt on its way to the row: with its last progress, and with its effects if there are any."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

from jobtrail.db.engine import Database
from jobtrail.jobs import session as job_session
from jobtrail.jobs.finish import OutcomeRecord, Recorded
from jobtrail.worker.attempt import Attempt
from jobtrail.worker.reports import Reports


class Handover:
    """`record` offers an ending without effects until the database says whose attempt it was."""

    def __init__(
        self,
        attempt: Attempt,
        reports: Reports,
        database: Database,
        node_id: UUID,
        record: Callable[[OutcomeRecord], Awaitable[Recorded]],
    ) -> None:
        self._attempt = attempt
        self._reports = reports
        self._database = database
        self._node_id = node_id
        self._record = record
        self._said: str | None = None
        self._closed = False

    async def complete(self, ending: OutcomeRecord) -> Recorded | None:
        """Commit the job session with the ending; None: there is none. Raises CommitFailedError: neither landed."""
        session = self._attempt.closed_session()
        if session is None:
            return None
        return await job_session.complete(
            self._database, session, await self._with_last_words(ending), node=self._node_id
        )

    async def abandon(self) -> None:
        session = self._attempt.closed_session()
        if session is not None:
            await job_session.abandon(session)

    async def finish(self, ending: OutcomeRecord) -> Recorded:
        self._attempt.finishing = True
        return await self._record(await self._with_last_words(ending))

    async def _with_last_words(self, ending: OutcomeRecord) -> OutcomeRecord:
        if not self._closed:
            self._closed = True
            self._said = await self._reports.close(self._attempt.words)
        return ending if self._said is None else replace(ending, progress=self._said)
