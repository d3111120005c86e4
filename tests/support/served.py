"""`jobtrail serve` as a process of its own, on a real socket, with a real client."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx

from support.servers import environment
from support.until import until

TOP = Path(__file__).parents[2]
CHECKOUT = {"PYTHONPATH": f"{TOP / 'service'}:{TOP / 'tests'}", "JOBTRAIL_TASKS": "support.errands"}
MODULE = (sys.executable, "-m", "jobtrail")


class Served:
    """`client` begins at the service's address."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=20)

    @classmethod
    @asynccontextmanager
    async def start(
        cls, folder: Path, url: str, command: Sequence[str] = MODULE, **settings: str
    ) -> AsyncIterator[Self]:
        """Ready when this returns; killed at the end, should it still be there. What it began must be gone with it."""
        variables = {"JOBTRAIL_PORT": "0", "JOBTRAIL_DATABASE_URL": url, **settings}
        with (folder / "serve.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, "serve", "--json", cwd=folder, env=environment(**variables), start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        try:
            assert process.stdout
            said = await asyncio.wait_for(process.stdout.readline(), 30)
            assert said, (folder / "serve.log").read_text()
            served = cls(process, json.loads(said)["url"])
            async with served.client:
                yield served
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
            assert is_gone(process.pid)

    async def submit(self, task: str, **wanted: Any) -> str:
        answer = await self.client.post("/v1/jobs", json={"task": task, **wanted})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def job(self, job_id: str) -> dict[str, Any]:
        return dict((await self.client.get(f"/v1/jobs/{job_id}")).raise_for_status().json())

    async def reached(self, job_id: str, status: str, *, within: float = 15) -> dict[str, Any]:
        async def job() -> dict[str, Any] | None:
            found = await self.job(job_id)
            return found if found["status"] == status else None

        return await until(job, within=within)

    async def moves(self, job_id: str) -> list[dict[str, Any]]:
        return list((await self.client.get(f"/v1/jobs/{job_id}/transitions")).raise_for_status().json()["items"])

    def signal(self, which: signal.Signals) -> None:
        self.process.send_signal(which)

    async def ended(self) -> tuple[int, float]:
        """Its exit code, and the seconds that it took from now."""
        began = time.monotonic()
        return await asyncio.wait_for(self.process.wait(), 30), time.monotonic() - began


def is_gone(group: int) -> bool:
    """Whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
