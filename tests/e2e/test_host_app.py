"""The README's apps, as they are written, under a real uvicorn, which loses its database, or is killed."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from pathlib import Path

import asyncpg
import httpx
import pytest

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.migrate import migrate
from jobtrail.db.url import normalize
from jobtrail.demo.tour import catch
from support import forks
from support.demo import free_port
from support.embedded import postmaster_of, used_before
from support.readme import blocks
from support.servers import environment
from support.until import until

TOP = Path(__file__).parents[2]
MAIL_PORT = "1025"


class App:
    """One of the README's, and who calls it."""

    def __init__(self, process: forks.Process, port: int) -> None:
        self.process = process
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)

    async def serves(self) -> bool:
        try:
            return (await self.client.get("/openapi.json")).is_success
        except httpx.TransportError:
            assert self.process.returncode is None
            return False


@pytest.fixture
async def server(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server for this test alone, which stops it."""
    running = used_before(folder / "postgres")
    url = await asyncio.to_thread(running.start)
    await migrate(normalize(url).sqlalchemy)
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE users (email text)")
    await connection.close()
    yield running
    await asyncio.to_thread(running.stop)


@asynccontextmanager
async def started(
    folder: Path, server: EmbeddedPostgres, module: str, mail_port: int, *more: str
) -> AsyncIterator[App]:
    write_apps(folder, mail_port)
    port = free_port()
    with (folder / "app.log").open("ab") as log:
        process = await forks.start(
            "-m", "uvicorn", f"myapp.{module}:app", "--port", str(port), *more,
            cwd=folder, stdout=log.fileno(), stderr=log.fileno(),
            env=environment(
                PYTHONPATH=str(TOP / "service"), DATABASE_URL=normalize(server.url).sqlalchemy, JOBTRAIL_LEASE="2s"
            ),
        )  # fmt: skip
    app = App(process, port)
    try:
        async with app.client:
            await until(app.serves)
            yield app
    except BaseException:
        print((folder / "app.log").read_text())
        raise
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def write_apps(folder: Path, mail_port: int) -> None:
    (folder / "myapp").mkdir(exist_ok=True)
    for block in blocks((TOP / "README.md").read_text()):
        if block.language == "python":
            path = folder / block.text.splitlines()[0].removeprefix("# ")
            path.write_text(block.text.replace(MAIL_PORT, str(mail_port)))


@asynccontextmanager
async def mailbox() -> AsyncIterator[tuple[int, list[EmailMessage]]]:
    caught: list[EmailMessage] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with catch(listening, caught.append):
            yield listening.getsockname()[1], caught


async def test_signup_answers_and_the_mail_is_caught(folder: Path, server: EmbeddedPostgres) -> None:
    async with mailbox() as (port, caught), started(folder, server, "main", port) as app:
        answer = await app.client.post("/signup", params={"email": "ada@example.org"})
        assert answer.status_code == 202
        address = f"/trail/jobs/{answer.json()['job']}"

        async def succeeded() -> bool:
            return bool((await app.client.get(address)).json()["status"] == "succeeded")

        await until(succeeded)
        assert {mail["To"] for mail in caught} == {"ada@example.org"}
        app.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(app.process.wait(), 60) in (0, -signal.SIGTERM)


async def test_a_job_survives_the_kill_of_its_app(folder: Path, server: EmbeddedPostgres) -> None:
    """The mail server is away at first: the attempts fail, the app is killed, and the next one sends the mail."""
    away = free_port()
    async with started(folder, server, "main", away) as app:
        assert (await app.client.post("/signup", params={"email": "eve@example.org"})).status_code == 202
        app.process.kill()
    async with mailbox() as (port, caught), started(folder, server, "main", port) as app:
        await until(lambda: _any(caught))
        assert {mail["To"] for mail in caught} == {"eve@example.org"}  # at least once: a lease of 2 s may run out


SLOW = """
import asyncio
from fastapi import FastAPI
from jobtrail import Jobs, Jobtrail, task

trail = Jobtrail()
app = FastAPI(lifespan=trail.lifespan)

@task
async def noop() -> None: ...

@app.post("/slow")
async def slow(jobs: Jobs) -> None:
    jobs.add_task(noop)
    print("added", flush=True)
    await asyncio.sleep(60)
"""


async def test_a_request_that_is_aborted_leaves_no_job(folder: Path, server: EmbeddedPostgres) -> None:
    """uvicorn cancels what it does not want to wait for any longer."""
    (folder / "myapp").mkdir()
    (folder / "myapp" / "slow.py").write_text(SLOW)
    async with started(folder, server, "slow", free_port(), "--timeout-graceful-shutdown", "1") as app:
        calling = asyncio.create_task(app.client.post("/slow"))

        async def added() -> bool:
            return "added" in (folder / "app.log").read_text()

        await until(added)
        app.process.send_signal(signal.SIGTERM)
        await asyncio.wait({calling})
        await asyncio.wait_for(app.process.wait(), 60)
        assert calling.exception() is not None or calling.result().status_code == 500
    connection = await asyncpg.connect(server.url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM jobtrail.transitions") == 0
    finally:
        await connection.close()


async def _any(caught: list[EmailMessage]) -> bool:
    return bool(caught)


@pytest.mark.parametrize("how", ["database", "process"])
async def test_what_dies_before_the_commit_leaves_neither_row_nor_job(
    folder: Path, server: EmbeddedPostgres, how: str
) -> None:
    """The request waits while its job is inserted, after `add_task`: the database is stopped, or the app killed."""
    blocker = await asyncpg.connect(server.url)
    await blocker.execute("""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END';
        CREATE TRIGGER wait BEFORE INSERT ON jobtrail.jobs FOR EACH ROW EXECUTE FUNCTION wait();
        SELECT pg_advisory_lock(7)""")
    async with started(folder, server, "signup", free_port()) as app:
        calling = asyncio.create_task(app.client.post("/signup", params={"email": "bob@example.org"}))
        await until(lambda: blocker.fetchval("SELECT count(*) FROM pg_locks WHERE objid = 7 AND NOT granted"))
        if how == "database":
            postmaster_of(folder / "postgres").send_signal(signal.SIGQUIT)
            answer = await calling
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            again = EmbeddedPostgres(folder / "postgres")
            await asyncio.to_thread(again.start)
        else:
            app.process.kill()
            with pytest.raises(httpx.TransportError):
                await calling
            again = server
            blocker.terminate()
    connection = await asyncpg.connect(again.url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM users") == 0
        assert await connection.fetchval("SELECT count(*) FROM jobtrail.transitions") == 0
    finally:
        await connection.close()
        if again is not server:
            await asyncio.to_thread(again.stop)
