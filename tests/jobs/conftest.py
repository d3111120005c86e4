from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from jobtrail.jobs import bulk as module
from jobtrail.jobs.finish import OutcomeRecord
from jobtrail.jobs.job_session import abandon
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from support import world
from support.effects import MADE, Job
from support.world import Place


@pytest.fixture
async def job(place: Place) -> AsyncIterator[Job]:
    submitted = await world.submitted(world.services_at(place), "noop", max_attempts=2)
    made = Job(place, uuid4(), OutcomeRecord(submitted.id, 1, Status.SUCCEEDED, "succeeded", result='"done"'))
    await made.claim()
    await place.psql.execute(MADE)
    try:
        yield made
    finally:
        for session in made.opened:
            await abandon(session)
        assert place.database.jobs.pool.checkedout() == 0  # type: ignore[attr-defined]
        await place.psql.execute("DROP TABLE effects")


@pytest.fixture
def services(place: Place) -> Services:
    return world.services_at(place)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs in a batch."""
    monkeypatch.setattr(module, "BATCH", 2)
