"""Services without a node, and processes for tasks with what they say."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from jobtrail.jobs.services import Services
from jobtrail.logs import current
from jobtrail.worker.processes.pool import Processes
from support import heavy, world
from support.orders import MODULES
from support.world import Place


@pytest.fixture
def services(place: Place) -> Services:
    return world.services_at(place)


@pytest.fixture(scope="session")
async def processes() -> AsyncIterator[Processes]:
    """Shared: each of them does one job at a time, and most tests leave it as it was."""
    heavy.LOGGER.setLevel(logging.INFO)
    opened = Processes(MODULES)
    yield opened
    await opened.close()


@pytest.fixture
async def own() -> AsyncIterator[Processes]:
    """For tests that count what is there."""
    opened = Processes(MODULES)
    yield opened
    await opened.close()


@pytest.fixture
def said() -> Iterator[list[logging.LogRecord]]:
    """What reaches the node's own loggers, each with the ids that are bound where it is handled."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            record.bound = dict(current())
            records.append(record)

    keep = Keep()
    logging.getLogger().addHandler(keep)
    yield records
    logging.getLogger().removeHandler(keep)
