"""Whether the database's role may do all that jobs need; while it may not, no job is accepted."""

import logging

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.job.errors import SettingsError, UnavailableError
from jobtrail.lifecycle.desk import PATIENCE, Desk
from jobtrail.store import rights

log = logging.getLogger(__name__)


async def look(desk: Desk, session: AsyncSession) -> str | None:
    """Which rights are missing and the GRANTs that mend it, noted for `require_rights`."""
    lacks = await rights.lacking(session)
    if lacks:
        desk.lacks_rights.set()
        return rights.told(lacks)
    desk.lacks_rights.clear()
    return None


async def require_rights(desk: Desk) -> None:
    """Asks the database only while something was missing. Raises UnavailableError: a job might never run."""
    if not desk.lacks_rights.is_set():
        return
    async with desk.session() as session:
        if (missing := await look(desk, session)) is not None:
            raise UnavailableError(missing)


async def look_at_start(desk: Desk) -> None:
    """A process that serves starts all the same: /health/ready says it, and it needs no restart after the GRANT."""
    try:
        async with desk.session(PATIENCE) as session:
            missing = await look(desk, session)
    except UnavailableError:
        return
    if missing is not None:
        log.error("not ready, and no job is accepted: %s", missing)


async def require_rights_at_start(desk: Desk) -> None:
    """For a process that nobody asks whether it is ready. Raises SettingsError, UnavailableError."""
    async with desk.session() as session:
        if (missing := await look(desk, session)) is not None:
            raise SettingsError(f"JOBTRAIL_DATABASE_URL: {missing}")
