from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command import Command
from support.servers import reachable_folder
from support.world import Place


@pytest.fixture
def jobtrail(place: Place, tmp_path: Path) -> Command:
    """The command on a migrated, empty database, with the tasks of `support.tasks`."""
    return Command(tmp_path, {"JOBTRAIL_DATABASE_URL": place.url.libpq, "JOBTRAIL_TASKS": "support.tasks"})


@pytest.fixture
def bare(tmp_path: Path) -> Command:
    """The command in an empty folder, without any setting."""
    return Command(tmp_path)


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the server's own user can enter."""
    with reachable_folder() as folder:
        yield folder
