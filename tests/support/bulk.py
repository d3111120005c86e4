"""What a bulk call counted, and what it left behind."""

from uuid import UUID

from jobtrail.jobs.bulk import Bulk
from jobtrail.jobs.query import Filter
from jobtrail.status import Status
from support.rows import in_status
from support.world import Place

NOOP = Filter(task=("noop",))


def counts(done: Bulk) -> tuple[int, int, int]:
    return done.matched, done.changed, done.remaining


async def statuses(place: Place) -> dict[UUID, str]:
    return {row["id"]: row["status"] for row in await place.rows("SELECT id, status FROM jobtrail.jobs")}


async def failed(place: Place, count: int) -> list[UUID]:
    return [await in_status(place, Status.FAILED) for _ in range(count)]
