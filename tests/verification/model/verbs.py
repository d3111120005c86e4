"""What two may want of one job at once: each verb as the node or a caller uses it, and where a job stands before."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from jobtrail.db.engine import connected
from jobtrail.jobs.amend import amend
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.claim import claim_next, claim_these
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.finish import OutcomeRecord, OutcomeRecorder
from jobtrail.jobs.job_session import complete, open_job_session
from jobtrail.jobs.purge import purge
from jobtrail.jobs.renew import renew, running_of
from jobtrail.jobs.rescue import rescue
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit
from jobtrail.status import Status
from jobtrail.task.submission import Amendment, Submission
from support.world import JUDGE

ONE: Final = UUID(int=11)
"""The node of the first attempt."""

OTHER: Final = UUID(int=12)
LEASE: Final = timedelta(hours=1)
LATER: Final = datetime(2999, 1, 1, tzinfo=UTC).isoformat()
_WANTED: Final = Submission(task="noop", max_attempts=2, ttl=0)


async def _claim_next(services: Services, _job_id: UUID) -> Sequence[int]:
    wanted = {"lease": LEASE, "tasks": ["noop"], "queues": (), "free": 5, "salt": ""}
    return [each.attempt for each in await claim_next(services.database, node=OTHER, **wanted)]


async def _claim_it(services: Services, job_id: UUID) -> Sequence[int]:
    return [each.attempt for each in await claim_these(services.database, [job_id], node=OTHER, lease=LEASE)]


async def _renew(services: Services, job_id: UUID) -> bool:
    """Whether the node still runs it, as it hears with each renewal."""
    async with connected(services.database.engine, 10) as connection:
        await renew(connection, [AttemptRef(job_id, 1)], node=ONE, lease=LEASE)
        return job_id in {each.id for each in await running_of(connection, ONE)}


async def _end(services: Services, ending: OutcomeRecord) -> str:
    return (await OutcomeRecorder(services.database, ONE).finish(ending)).name


async def _succeed(services: Services, job_id: UUID) -> str:
    return await _end(services, OutcomeRecord(job_id, 1, Status.SUCCEEDED, "succeeded", result="1"))


async def _try_again(services: Services, job_id: UUID) -> str:
    return await _end(services, OutcomeRecord(job_id, 1, Status.PENDING, "ValueError", error='{"type": "ValueError"}'))


async def _fail(services: Services, job_id: UUID) -> str:
    return await _end(services, OutcomeRecord(job_id, 1, Status.FAILED, "ValueError", error='{"type": "ValueError"}'))


async def _complete(services: Services, job_id: UUID) -> str:
    session = await open_job_session(services.database, lease=LEASE)
    await session.execute(text("INSERT INTO effects VALUES (:id, 1)"), {"id": job_id})
    ending = OutcomeRecord(job_id, 1, Status.SUCCEEDED, "succeeded", result="2")
    return (await complete(services.database, session, ending, node=ONE)).name


async def _cancel(services: Services, job_id: UUID) -> bool:
    """Not its answer, which is read after it: until then the job may have gone on."""
    return bool(await cancel(services, job_id, by="bob", reason="enough"))


async def _retry(services: Services, job_id: UUID) -> str:
    return (await retry(services, job_id, by="bob")).status


async def _rescue(services: Services, _job_id: UUID) -> Sequence[str]:
    return [each.status for each in await rescue(services.database, node=JUDGE, by="node x")]


async def _purge(services: Services, _job_id: UUID) -> int:
    return (await purge(services.database, by="node x", history_ttl=None)).jobs


async def _amend(services: Services, job_id: UUID) -> Sequence[str]:
    return (await amend(services, job_id, Amendment(tags=["seen"]), by="bob")).tags


async def _put_off(services: Services, job_id: UUID) -> str:
    return (await amend(services, job_id, Amendment(run_at=LATER), by="bob")).status


async def _submit(services: Services, _job_id: UUID) -> bool:
    _, replayed = await submit(services, _WANTED, by="ann", key="k")
    return replayed


Act = Callable[[Services, UUID], Awaitable[Any]]


@dataclass(frozen=True)
class Verb:
    """It moves or writes a job that stands at one of `at`. What somebody holds it may leave for its next turn; then it
    answers with `nothing`.
    """

    act: Act
    at: Sequence[str]
    nothing: Any = "UnavailableError"


VERBS: Final = {
    "claim next": Verb(_claim_next, ["given back"], nothing=[]),
    "claim it": Verb(_claim_it, ["given back"], nothing=[]),
    "renew": Verb(_renew, ["silent"], nothing=True),
    "succeed": Verb(_succeed, ["silent"]),
    "try again": Verb(_try_again, ["silent"]),
    "complete": Verb(_complete, ["silent"]),
    "cancel": Verb(_cancel, ["given back", "silent"]),
    "retry": Verb(_retry, ["over"]),
    "rescue": Verb(_rescue, ["silent"], nothing=[]),
    "purge": Verb(_purge, ["over"], nothing=0),
    "amend": Verb(_amend, ["given back", "silent", "over"]),
    "put off": Verb(_put_off, ["given back"]),
    "submit": Verb(_submit, ["unborn"]),
}

OFFERED: Final = frozenset({"succeed", "try again", "rescue", "purge"})
"""Ends are offered until they are recorded, whatever the database says; batches are tried again with fewer rows."""

APART: Final = {
    ("submit", other): "a row that is not committed is there for nobody but another with its key"
    for other in VERBS
    if other != "submit"
}


_SILENT: Final = text("UPDATE jobtrail.jobs SET lease_until = now() - interval '1 s'")
_EXPIRED: Final = text("UPDATE jobtrail.jobs SET expires_at = now() - interval '1 s'")


async def _unborn(_services: Services) -> None:
    pass


async def _silent(services: Services) -> UUID:
    job, _ = await submit(services, _WANTED, by="ann", key="k")
    assert await claim_these(services.database, [job.id], node=ONE, lease=LEASE)
    async with services.transaction() as session:
        await session.execute(_SILENT)
    return job.id


async def _given_back(services: Services) -> None:
    await _silent(services)
    assert await _rescue(services, JUDGE) == ["pending"]


async def _over(services: Services) -> None:
    assert await _fail(services, await _silent(services)) == "YES"
    async with services.transaction() as session:
        await session.execute(_EXPIRED)


STARTS: Final[Mapping[str, Callable[[Services], Awaitable[object]]]] = {
    "unborn": _unborn,
    "given back": _given_back,
    "silent": _silent,
    "over": _over,
}
"""How a job comes to stand there. Its first attempt is ONE's, which goes on as if it still held the job."""
