from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.command import Command, Forks, forks
from support.database import Place


@pytest.fixture(scope="session")
async def _forks() -> AsyncIterator[Forks]:
    async with forks() as found:
        yield found


@pytest.fixture
def jobtrail(_forks: Forks, place: Place, tmp_path: Path) -> Command:
    """The command on a migrated, empty database, with the tasks of `support.tasks`."""
    return Command(_forks, tmp_path, {"JOBTRAIL_DATABASE_URL": place.url.libpq, "JOBTRAIL_TASKS": "support.tasks"})


@pytest.fixture
def bare(_forks: Forks, tmp_path: Path) -> Command:
    """The command in an empty folder, without any setting."""
    return Command(_forks, tmp_path)
