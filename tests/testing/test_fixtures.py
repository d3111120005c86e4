"""The fixtures in the tests of a host's app, as pytest runs them there."""

import asyncio
import sys
from pathlib import Path
from uuid import uuid4

from jobtrail.db.embedded import EmbeddedPostgres
from support.embedded import ask
from support.servers import environment

SERVICE = Path(__file__).parents[2] / "service"

APP = """
import asyncio
from fastapi import FastAPI
from jobtrail import JobContext, Jobs, Jobtrail, task

LOOPS = []

@task
async def count(context: JobContext) -> None: ...

@task
async def send_welcome(context: JobContext, to: str) -> str:
    LOOPS.append(asyncio.get_running_loop())
    await context.submit(count)
    return f"welcomed {to}"

trail = Jobtrail()
app = FastAPI(lifespan=trail.lifespan)

@app.post("/signup", status_code=202)
async def signup(email: str, jobs: Jobs):
    LOOPS[:] = [asyncio.get_running_loop()]
    return {"job": jobs.add_task(send_welcome, to=email).id}
"""

CONFTEST = 'pytest_plugins = ["jobtrail.testing.fixtures"]'

PLAIN = """
import pytest
from fastapi.testclient import TestClient
from app import LOOPS, app, count, send_welcome

@pytest.fixture
def client(jobtrail):
    with TestClient(app) as client:
        yield client

def test_signup(jobtrail, client):
    client.post("/signup", params={"email": "ada@example.org"})
    jobtrail.assert_submitted(send_welcome, to="ada@example.org")
    welcome, counted = jobtrail.run()
    assert (welcome.result, counted.task) == ("welcomed ada@example.org", "count")
    assert LOOPS[0] is LOOPS[1]

def test_it_is_empty_again(jobtrail):
    jobtrail.assert_nothing_submitted()

def test_a_failure_shows_the_line_of_the_test(jobtrail, client):
    jobtrail.assert_submitted(count)
"""

ASYNC = """
import httpx
import pytest
from app import LOOPS, app, trail

async def sign_up(jobtrail):
    transport = httpx.ASGITransport(app)
    async with trail, httpx.AsyncClient(transport=transport, base_url="http://app.test") as client:
        await client.post("/signup", params={"email": "ada@example.org"})
        assert [job.status for job in await jobtrail.run_async()] == ["succeeded", "succeeded"]
    assert LOOPS[0] is LOOPS[1]

@pytest.mark.asyncio
async def test_with_pytest_asyncio(jobtrail):
    await sign_up(jobtrail)

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_with_anyio(jobtrail):
    await sign_up(jobtrail)

async def test_in_the_automatic_mode(jobtrail):
    await sign_up(jobtrail)
"""

UNITTEST = """
import unittest
from fastapi.testclient import TestClient
from jobtrail.testing import scratch_database, workbench
from app import app, send_welcome

class SignupTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.database = cls.enterClassContext(scratch_database())

    def setUp(self):
        self.jobtrail = self.enterContext(workbench(self.database))

    def test_signup(self):
        with TestClient(app) as client:
            client.post("/signup", params={"email": "ada@example.org"})
        self.jobtrail.assert_submitted(send_welcome, to="ada@example.org")
        self.assertEqual(len(self.jobtrail.run()), 2)
"""

FILES = {
    "app.py": APP,
    "conftest.py": CONFTEST,
    "test_plain.py": PLAIN,
    "test_async.py": ASYNC,
    "test_unittest.py": UNITTEST,
}


async def test_in_the_tests_of_a_host(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    write(tmp_path, "app.py", "conftest.py", "test_plain.py", "test_async.py")
    owner = f"host_{uuid4().hex[:8]}"  # other tests make databases meanwhile
    ask(postgres.url, f"CREATE ROLE {owner} SUPERUSER LOGIN")
    url = postgres.url.replace("://postgres@", f"://{owner}@")
    said = await run(tmp_path, "-m", "pytest", *OPTIONS, f"--jobtrail-postgres={url}")
    assert " 1 failed, 5 passed in " in said, said
    line = ">       jobtrail.assert_submitted(count)\nE       AssertionError: no job count(…) was submitted; nothing"
    assert line in said, said
    ask(postgres.url, f"DROP ROLE {owner}")  # refused while it owns one


async def test_without_pytest_there_are_the_same_tools(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """And no need for it."""
    write(tmp_path, "app.py", "test_unittest.py")
    hidden = "import sys, unittest; sys.modules['pytest'] = None; unittest.main(module='test_unittest')"
    said = await run(tmp_path, "-c", hidden, JOBTRAIL_TEST_DATABASE_URL=postgres.url)
    assert said.endswith("OK\n"), said


OPTIONS = (
    "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function",
    "-W", "error", "-W", "ignore:Using `httpx` with",
)  # fmt: skip


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(FILES[name])


async def run(folder: Path, *words: str, **variables: str) -> str:
    """All that it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=folder, stdout=-1, stderr=asyncio.subprocess.STDOUT,
        env=environment(PYTHONPATH=str(SERVICE), COLUMNS="80", **variables),
    )  # fmt: skip
    said, _ = await process.communicate()
    return said.decode()
