"""`jobtrail serve` and `jobtrail work` as processes of their own, the one on a real socket with a real client."""

import asyncio
import json
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx

from support.forks import Process, start
from support.servers import environment
from support.until import until

TOP = Path(__file__).parents[2]
CHECKOUT = {
    "PYTHONPATH": ":".join(str(TOP / each) for each in ("service", "tests", "tests/verification")),
    "JOBTRAIL_TASKS": "support.errands",
}
MODULE = ("-m", "jobtrail")


@asynccontextmanager
async def started(
    folder: Path, url: str, *words: str, command: Sequence[str] = MODULE, **settings: str
) -> AsyncIterator[tuple[Process | asyncio.subprocess.Process, dict[str, Any]]]:
    """A process and what it said first, which it says when it is ready; its log goes to `VERB.log`.

    Killed at the end, should it still be there. What it began must be gone with it.
    """
    variables = {"JOBTRAIL_PORT": "0", "JOBTRAIL_DATABASE_URL": url, **settings}
    with (folder / f"{words[0]}.log").open("ab") as log:
        where: dict[str, Any] = {"cwd": folder, "env": environment(**variables), "stderr": log.fileno()}
        if command is MODULE:
            process: Process | asyncio.subprocess.Process = await start(*command, *words, "--json", **where)
        else:
            process = await asyncio.create_subprocess_exec(
                *command, *words, "--json", **where, stdin=DEVNULL, stdout=PIPE, start_new_session=True
            )
    try:
        assert process.stdout
        said = await asyncio.wait_for(process.stdout.readline(), 60)
        assert said, (folder / f"{words[0]}.log").read_text()
        yield process, json.loads(said)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        await until(lambda: nothing_is_left(process.pid))


class Started:
    """A process that stays until it is told to end."""

    def __init__(self, process: Process | asyncio.subprocess.Process) -> None:
        self.process = process

    def signal(self, which: signal.Signals) -> None:
        self.process.send_signal(which)

    async def ended(self) -> tuple[int, float]:
        """Its exit code, and the seconds that it took from now."""
        began = time.monotonic()
        return await asyncio.wait_for(self.process.wait(), 60), time.monotonic() - began


class Working(Started):
    """`jobtrail work`; `said` is what it told of itself."""

    def __init__(self, process: Process | asyncio.subprocess.Process, said: dict[str, Any]) -> None:
        super().__init__(process)
        self.said = said
        self.node = UUID(said["node"])

    @classmethod
    @asynccontextmanager
    async def start(cls, folder: Path, url: str, *words: str, **settings: str) -> AsyncIterator[Self]:
        async with started(folder, url, "work", *words, **settings) as (process, said):
            yield cls(process, said)


class Served(Started):
    """`client` begins at the service's address."""

    def __init__(self, process: Process | asyncio.subprocess.Process, url: str) -> None:
        super().__init__(process)
        self.client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=20)

    @classmethod
    @asynccontextmanager
    async def start(
        cls, folder: Path, url: str, command: Sequence[str] = MODULE, **settings: str
    ) -> AsyncIterator[Self]:
        async with started(folder, url, "serve", command=command, **settings) as (process, said):
            served = cls(process, said["url"])
            async with served.client:
                yield served

    async def submit(self, task: str, **wanted: Any) -> str:
        answer = await self.client.post("/v1/jobs", json={"task": task, **wanted})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def job(self, job_id: str) -> dict[str, Any]:
        return dict((await self.client.get(f"/v1/jobs/{job_id}")).raise_for_status().json())

    async def reached(self, job_id: str, status: str, *, within: float = 60) -> dict[str, Any]:
        async def job() -> dict[str, Any] | None:
            found = await self.job(job_id)
            return found if found["status"] == status else None

        return await until(job, within=within)

    async def moves(self, job_id: str) -> list[dict[str, Any]]:
        return list((await self.client.get(f"/v1/jobs/{job_id}/transitions")).raise_for_status().json()["items"])


async def nothing_is_left(group: int) -> bool:
    """Whether no process of the group is there: children notice the end of their parent a moment later."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
