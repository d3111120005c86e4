from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.command import Command, Forks, forks
from support.servers import reachable_folder
from support.world import Place


@pytest.fixture(scope="session")
async def forked() -> AsyncIterator[Forks]:
    async with forks() as found:
        yield found


@pytest.fixture
def jobtrail(forked: Forks, place: Place, tmp_path: Path) -> Command:
    """The command on a migrated, empty database, with the tasks of `support.tasks`."""
    return Command(forked, tmp_path, {"JOBTRAIL_DATABASE_URL": place.url.libpq, "JOBTRAIL_TASKS": "support.tasks"})


@pytest.fixture
def bare(forked: Forks, tmp_path: Path) -> Command:
    """The command in an empty folder, without any setting."""
    return Command(forked, tmp_path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the server's own user can enter."""
    with reachable_folder() as folder:
        yield folder
