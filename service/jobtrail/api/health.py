"""Health: the process answers; it can do its work."""

from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.context import ApiContext
from jobtrail.db import migrate
from jobtrail.db.migrate import Schema
from jobtrail.errors import UnavailableError
from jobtrail.jobs.services import PATIENCE, missing_rights

_UNUSABLE: Final = {
    Schema.MISSING: "the database has no Jobtrail schema: run `jobtrail migrate`",
    Schema.OLDER: "the database has an older revision of the schema: run `jobtrail migrate`",
    Schema.FOREIGN: "the schema holds tables of another application: choose another name with JOBTRAIL_SCHEMA",
}


@dataclass(frozen=True)
class HealthRoutes:
    """/health and what lies below."""

    context: ApiContext

    async def live(self) -> Response:
        """The process answers. The database is not asked: a restart would not mend it."""
        return representation.answer({"status": "ok", "checks": {"process": "ok"}})

    async def ready(self) -> Response:
        """Jobs can be submitted: the database answers, its schema is usable, the process is not shutting down."""
        if not self.context.accepting():
            raise UnavailableError("draining: this process is shutting down")
        if (obstacle := await self._obstacle()) is not None:
            raise UnavailableError(obstacle)
        return representation.answer({"status": "ok", "checks": {"process": "ok", "database": "ok", "schema": "ok"}})

    async def health(self) -> Response:
        """The same as ready, for whoever knows only one address."""
        return await self.ready()

    async def _obstacle(self) -> str | None:
        """Why no job could be accepted and run. All of it is asked each time: it is a few look-ups in the catalog."""
        try:
            async with self.context.services.session(PATIENCE) as session:
                nature = await migrate.nature(session)
                if not nature.is_writable:
                    return "the database is read-only for now"
                return (
                    nature.misfit
                    or await missing_rights(self.context.services, session)
                    or _UNUSABLE.get(await migrate.state(session))
                )
        except TimeoutError as error:
            raise UnavailableError(f"the database did not answer within {PATIENCE:g} s") from error
        except Exception as error:
            if isinstance(error, UnavailableError):
                raise
            raise UnavailableError(f"the database refuses: {type(error).__name__}") from error
