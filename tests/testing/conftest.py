from collections.abc import AsyncIterator, Iterator

import pytest

from jobtrail import Jobtrail
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.testing import ScratchDatabase, Workbench, scratch_database, workbench
from support.rehearsal import TASKS


@pytest.fixture(scope="session")
def scratch(postgres: EmbeddedPostgres) -> Iterator[ScratchDatabase]:
    with scratch_database(postgres.url) as made:
        yield made


@pytest.fixture
def bench(scratch: ScratchDatabase) -> Iterator[Workbench]:
    with workbench(scratch, tasks=TASKS) as made:
        yield made


@pytest.fixture
async def trail(bench: Workbench) -> AsyncIterator[Jobtrail]:  # noqa: ARG001 - it sets the environment
    """The Jobtrail of an app in this loop, which reads the environment."""
    trail = Jobtrail(tasks=TASKS)
    async with trail.lifespan():
        yield trail
