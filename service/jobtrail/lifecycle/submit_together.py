"""Jobs that code adds one by one and stores together: all of them, or none. A key among them is the app's."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.job.record import AppKey, NewJob
from jobtrail.lifecycle.desk import Desk
from jobtrail.lifecycle.rights import require_rights
from jobtrail.lifecycle.submit import insert, insert_once_in_app
from jobtrail.store.transitions.insert import Inserted, insert_all


async def submit_together(desk: Desk, jobs: Sequence[NewJob]) -> Sequence[UUID]:
    """The ids under which they are stored, in their order; committed when this returns.

    An id is another than that of the NewJob where its key was there already.
    Raises IdempotencyKeyReusedError, OverloadedError, UnavailableError: nothing is stored, unless it is an
    OutcomeUnknownError.
    """
    with desk.waiting.room_for(len(jobs)):
        await require_rights(desk)
        if len(jobs) == 1 and jobs[0].app_key is None:
            await insert(desk, jobs[0])
            return [jobs[0].id]
        async with desk.transaction() as session:
            found = await _insert(session, jobs)
    return [found.get(job.id, job.id) for job in jobs]


async def _insert(session: AsyncSession, jobs: Sequence[NewJob]) -> Mapping[UUID, UUID]:
    """For those whose key was there already, the id of the job that has it."""
    await insert_all(session, [job for job in jobs if job.app_key is None])
    found: dict[UUID, UUID] = {}
    # in the order of their keys: two callers with the same ones wait for each other, and do not deadlock
    keyed = [(job.app_key, job) for job in jobs if job.app_key is not None]
    for app_key, job in sorted(keyed, key=_key):
        stored = await insert_once_in_app(session, job, app_key)
        if not isinstance(stored, Inserted):
            found[job.id] = stored
    return found


def _key(keyed: tuple[AppKey, NewJob]) -> str:
    return keyed[0].key
