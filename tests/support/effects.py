"""A job that writes through its job session, and what there is of it afterwards."""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.finish import OutcomeRecord, Recorded
from jobtrail.jobs.job_session import JobSession, complete, open_job_session
from support.world import Place

LEASE = timedelta(seconds=10)
MADE = """
DROP TABLE IF EXISTS effects;
CREATE TABLE effects (name text PRIMARY KEY, parent text REFERENCES effects DEFERRABLE INITIALLY DEFERRED)
"""


class Row(DeclarativeBase):
    pass


class Effect(Row):
    __tablename__ = "effects"
    name: Mapped[str] = mapped_column(primary_key=True)
    parent: Mapped[str | None]


@dataclass
class Job:
    """One that a node holds, and the tables that its task writes to."""

    place: Place
    node: UUID
    ending: OutcomeRecord
    opened: list[JobSession] = field(default_factory=list)

    async def open(self, lease: timedelta = LEASE) -> JobSession:
        self.opened.append(await open_job_session(self.place.database, lease=lease))
        return self.opened[-1]

    async def complete(self, session: JobSession) -> Recorded:
        return await complete(self.place.database, session, self.ending, node=self.node)

    async def claim(self) -> None:
        wanted = {"lease": LEASE, "tasks": ["noop"], "queues": (), "free": 1, "salt": ""}
        [claimed] = await claim_next(self.place.database, node=self.node, **wanted)
        assert claimed.id == self.ending.id

    async def effects(self) -> list[str]:
        return [row["name"] for row in await self.place.rows("SELECT name FROM effects ORDER BY name")]

    async def found(self) -> tuple[str, list[str]]:
        """The status of the row and the effects that are there."""
        query = "SELECT status FROM jobtrail.jobs WHERE id = $1"
        return await self.place.value(query, self.ending.id), await self.effects()


async def write(session: JobSession, name: str, parent: str | None = None) -> None:
    statement = text("INSERT INTO effects VALUES (:name, :parent)")
    await session.execute(statement, {"name": name, "parent": parent})


async def is_gone(place: Place, pid: int) -> bool:
    return not await place.rows("SELECT FROM pg_stat_activity WHERE pid = $1", pid)
