"""The fixtures for pytest, which nothing else here imports: `pytest_plugins = ["jobtrail.testing.fixtures"]`.

Under pytest-xdist each worker has a database of its own.
"""

from collections.abc import Iterator

import pytest

from jobtrail.testing.database import ScratchDatabase, scratch_database
from jobtrail.testing.server import OPTION, VARIABLE
from jobtrail.testing.workbench import Workbench, workbench


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        OPTION,
        metavar="URL",
        help="the PostgreSQL on which the fixture `jobtrail` makes a database, as a user that may make databases; "
        f"else {VARIABLE}, else an embedded one",
    )


@pytest.fixture(scope="session")
def jobtrail_database(pytestconfig: pytest.Config) -> Iterator[ScratchDatabase]:
    """A migrated database for this session; its `sqlalchemy_url` is for an engine of the host's own."""
    # not there where the plug-in was loaded too late for its option, as by a conftest.py in a folder below
    with scratch_database(pytestconfig.getoption(OPTION, default=None)) as database:
        yield database


@pytest.fixture
def jobtrail(jobtrail_database: ScratchDatabase) -> Iterator[Workbench]:
    """An empty database, what is submitted to it, and a way to run that. A `Jobtrail()` that starts in the test is on
    it, and runs nothing by itself.
    """
    with workbench(jobtrail_database) as bench:
        yield bench
