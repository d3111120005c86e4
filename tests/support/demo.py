"""`jobtrail demo` as a process of its own, and what it says while it runs."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Self

import httpx

from jobtrail.db.embedded import EmbeddedPostgres
from support import forks
from support.embedded import servers_in
from support.servers import environment, reachable_folder
from support.until import until


class Demo:
    """`said` and `complained` are the lines of its standard output and error so far."""

    def __init__(self, process: forks.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.said: list[str] = []
        self.complained: list[str] = []
        self._readers = [
            asyncio.create_task(self._collect(process.stdout, self.said)),
            asyncio.create_task(self._collect(process.stderr, self.complained)),
        ]

    @classmethod
    @asynccontextmanager
    async def start(cls, folder: Path, port: int | None = None, **settings: str) -> AsyncIterator[Self]:
        """Killed at the end, should it still be there."""
        port = port or free_port()
        (folder / "tmp").mkdir(exist_ok=True)
        own = {"JOBTRAIL_DATA_DIR": str(folder / "postgres"), "JOBTRAIL_PORT": str(port), "TMPDIR": str(folder / "tmp")}
        process = await forks.start("-m", "jobtrail", "demo", cwd=folder, env=environment(**own, **settings))
        demo = cls(process, port)
        try:
            yield demo
        finally:
            if process.returncode is None:
                process.kill()
            await demo.ended()

    async def _collect(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream
        while line := await stream.readline():
            lines.append(line.decode().rstrip("\n"))

    async def says(self, part: str, *, within: float = 60) -> str:
        """The first line with this part, once it is said."""

        async def found() -> str | None:
            assert self.process.returncode is None or part in "\n".join(self.said), (self.said, self.complained)
            return next((line for line in self.said if part in line), None)

        return await until(found, within=within)

    async def answers(self) -> None:
        await answers(self.url, within=60)

    async def ended(self) -> int:
        """Its exit code, once it ended and everything that it said was read."""
        code = await self.process.wait()
        await asyncio.gather(*self._readers)
        return code

    async def stop(self, with_signal: signal.Signals = signal.SIGINT) -> tuple[int, float]:
        """Its exit code, and the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(with_signal)
        return await self.ended(), time.monotonic() - began


async def answers(url: str, *, within: float, at: str = "/health/ready") -> None:
    """Wait until the service there is ready."""
    async with httpx.AsyncClient(trust_env=False) as client:

        async def ready() -> bool:
            try:
                return (await client.get(f"{url}{at}")).is_success
            except httpx.TransportError:
                return False

        await until(ready, within=within)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def demo_folder() -> Iterator[Path]:
    """A folder for demos. What they left running when a test failed is stopped; that is not why a test should pass."""
    with reachable_folder() as folder:
        try:
            yield folder
        finally:
            left = servers_in(folder)
            if left:
                with EmbeddedPostgres(folder / "postgres"):  # its last user stops it
                    pass
        assert not left
