"""Whether the process answers, and whether it can do its work."""

from dataclasses import dataclass

from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.door import Door
from jobtrail.job.errors import UnavailableError
from jobtrail.lifecycle.desk import PATIENCE
from jobtrail.store import schema
from jobtrail.store.schema import Schema


@dataclass(frozen=True)
class HealthRoutes:
    """/health and what lies below."""

    door: Door

    async def live(self) -> Response:
        """The process answers. The database is not asked: a restart would not mend it."""
        return representation.answer({"status": "ok", "checks": {"process": "ok"}})

    async def ready(self) -> Response:
        """Jobs can be submitted: the database answers, its schema is usable, the process is not shutting down."""
        if not self.door.accepting():
            raise UnavailableError("draining: this process is shutting down")
        found = await self._schema()
        if found is None:
            raise UnavailableError("the database is read-only for now")
        if not found.is_usable:
            lack = "no Jobtrail schema" if found is Schema.MISSING else "an older revision of the schema"
            raise UnavailableError(f"the database has {lack}: run `jobtrail migrate`")
        return representation.answer({"status": "ok", "checks": {"process": "ok", "database": "ok", "schema": "ok"}})

    async def health(self) -> Response:
        """The same as ready, for whoever knows only one address."""
        return await self.ready()

    async def _schema(self) -> Schema | None:
        """None where nothing can be written."""
        try:
            async with self.door.desk.session(PATIENCE) as session:
                return await schema.state(session) if await schema.is_writable(session) else None
        except TimeoutError as error:
            raise UnavailableError(f"the database did not answer within {PATIENCE:g} s") from error
        except Exception as error:
            if isinstance(error, UnavailableError):
                raise
            raise UnavailableError(f"the database refuses: {type(error).__name__}") from error
