"""A queue or a task starts no more jobs until it is resumed. What runs goes on, what is pending waits."""

import difflib
import logging
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.job.errors import UnknownQueueError, UnknownTaskError
from jobtrail.job.record import Pause, PauseKind
from jobtrail.job.storable import check
from jobtrail.lifecycle.desk import Desk
from jobtrail.store import pauses

log = logging.getLogger(__name__)


async def pause(desk: Desk, kind: PauseKind, name: str, *, by: str, reason: str | None = None) -> Pause:
    """The pause; for what is paused already the first one, unchanged. Claims that are under way may still start jobs.

    Raises UnknownQueueError, UnknownTaskError, UnavailableError.
    """
    async with desk.transaction() as session:
        await _require_known(desk, session, kind, name)
        found = await pauses.put(session, kind, name, actor=by, reason=reason)
    log.info("paused", extra={kind: name, "by": by, "reason": reason})
    return found


async def resume(desk: Desk, kind: PauseKind, name: str, *, by: str) -> bool:
    """Whether it was paused. Nodes poll, so its jobs start within about a second. Raises as `pause`."""
    async with desk.transaction() as session:
        await _require_known(desk, session, kind, name)
        was_paused = await pauses.remove(session, kind, name)
    if was_paused:
        log.info("resumed", extra={kind: name, "by": by})
    return was_paused


async def read_pauses(desk: Desk) -> Sequence[Pause]:
    async with desk.session() as session:
        return await pauses.all_pauses(session)


async def _require_known(desk: Desk, session: AsyncSession, kind: PauseKind, name: str) -> None:
    """A misspelt name would pause nothing and look as if it did."""
    match kind:
        case "queue":
            known = await pauses.known_queues(session) | {task.queue for task in desk.catalog}
            if name not in known:
                raise UnknownQueueError(name, _near(name, known))
        case "task":
            known = await pauses.known_tasks(session) | set(desk.catalog.names)
            if name not in known and (check(name) or not await pauses.waits(session, name)):
                raise UnknownTaskError(name, _near(name, known))


def _near(name: str, known: set[str]) -> Sequence[str]:
    return difflib.get_close_matches(name, sorted(known))
