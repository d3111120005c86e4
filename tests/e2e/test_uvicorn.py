"""A host's app under uvicorn with several processes, and with one that is made anew when a file changes."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobtrail.db.migrate import migrate
from jobtrail.db.url import normalize
from support.demo import free_port
from support.servers import environment
from support.until import until

TOP = Path(__file__).parents[2]

APP = """
from fastapi import FastAPI
from jobtrail import Jobs, Jobtrail, task

@task
async def which() -> str:
    return "FIRST"

trail = Jobtrail()
app = FastAPI()
app.include_router(trail.router(read="open"), prefix="/trail")

@app.post("/go", status_code=202)
def go(jobs: Jobs):
    return {"job": jobs.add_task(which).id}
"""


SCRIPT = """
import sys
import uvicorn
from fastapi import FastAPI
from jobtrail import Jobs, Jobtrail, task

@task(runs_in="process")
def which() -> str:
    return "FIRST"

trail = Jobtrail()
app = FastAPI()
app.include_router(trail.router(read="open"), prefix="/trail")

@app.post("/go", status_code=202)
def go(jobs: Jobs):
    return {"job": jobs.add_task(which).id}

if __name__ == "__main__":
    more = {"reload": True, "reload_delay": 0.1} if "reload" in sys.argv else {"workers": 2}
    uvicorn.run(APP, port=int(sys.argv[1]), timeout_worker_healthcheck=60, **more)
"""
"""What many begin with: the script itself starts the server, which imports it again in processes that it spawns. On a
busy machine that takes longer than uvicorn's 5 s, after which it would kill them.
"""


class App:
    """`log` is all that it said."""

    def __init__(self, folder: Path, port: int) -> None:
        self.file = folder / "shop.py"
        self.log = folder / "app.log"
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)

    async def get(self, path: str) -> Any:
        with suppress(httpx.TransportError):
            return (await self.client.get(f"/trail{path}")).json()
        return None

    async def nodes(self) -> int:
        found = await self.get("/nodes")
        return len(found["items"]) if found else 0

    async def result(self) -> str:
        """The result of a new job."""
        with suppress(httpx.TransportError):
            answer = await self.client.post("/go")
            if answer.status_code == 503:  # one that drains
                return ""
            job = answer.json()["job"]

            async def ended() -> Any:
                found = await self.get(f"/jobs/{job}")
                return found and found["status"] == "succeeded" and found["result"]

            return str(await until(ended))
        return ""


@asynccontextmanager
async def serving(folder: Path, url: str, *options: str, script: str = "") -> AsyncIterator[App]:
    """`script` is run, with the port; else uvicorn's command serves APP.

    At its end it is asked to stop, and has to within seconds, without a word of trouble."""
    await migrate(normalize(url).sqlalchemy)
    port = free_port()
    app = App(folder, port)
    app.file.write_text(script or APP)
    command = ["shop.py", str(port)] if script else ["-m", "uvicorn", "shop:app", "--port", str(port)]
    with app.log.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, *options,
            cwd=folder, stdout=log, stderr=log, start_new_session=True,
            env=environment(PYTHONPATH=str(TOP / "service"), DATABASE_URL=url, JOBTRAIL_LEASE="2s"),
        )  # fmt: skip
    try:
        async with app.client:
            await until(app.nodes)
            yield app
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), 60)
        said = app.log.read_text()
        print(f"\n{' '.join(options)}: ended in {time.monotonic() - began:.1f} s")
        assert not [line for line in said.splitlines() if line.startswith(("ERROR", "Traceback", "WARNING:  jobtrail"))]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started too
        await process.wait()


async def test_each_worker_is_a_node(tmp_path: Path, empty_url: str) -> None:
    async with serving(tmp_path, empty_url, "--workers", "2") as app:
        await until(lambda: _are(app, 2))
        assert await asyncio.gather(*(app.result() for _ in range(10))) == ["FIRST"] * 10


@pytest.mark.parametrize(("served", "option"), [("shop:app", "workers"), ("web:app", "reload")])
async def test_a_script_that_serves_itself(tmp_path: Path, empty_url: str, served: str, option: str) -> None:
    """`web` imports no task: the script's own are then the ones that the app knows."""
    (tmp_path / "web.py").write_text("import sys\napp = sys.modules['__main__'].app\n")
    async with serving(tmp_path, empty_url, option, script=SCRIPT.replace("APP", repr(served))) as app:
        assert await app.result() == "FIRST"


async def _are(app: App, number: int) -> bool:
    return await app.nodes() == number


async def test_a_reload_is_a_new_node_with_the_new_task(tmp_path: Path, empty_url: str) -> None:
    async with serving(tmp_path, empty_url, "--reload", "--reload-delay", "0.1") as app:
        assert await app.result() == "FIRST"
        app.file.write_text(APP.replace("FIRST", "SECOND").replace("async def which", "def which"))

        async def is_new() -> bool:
            return await app.result() == "SECOND"

        await until(is_new)
        assert await app.nodes() == 1
