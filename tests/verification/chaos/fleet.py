"""`jobtrail serve` and `jobtrail work` as processes of their own, started again when they were killed."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, Self
from uuid import UUID

from chaos.checks import nodes_of
from chaos.process import Process, start
from chaos.tasks import URL
from chaos.world import World
from support.served import nothing_is_left
from support.until import until

START = 60.0
"""Seconds for members to come up on a machine that is busy."""

RUNNERS = "SELECT DISTINCT node_id FROM jobtrail.jobs WHERE status = 'running' AND id = coalesce($1, id)"

Verb = Literal["serve", "work"]


@dataclass
class Member:
    """A place in the fleet. Its process changes; `url` is where a service answers, None while there is none.

    `up` from the moment it said that it is ready until it ends, or is told to. `dies`: see `chaos.nursery`.
    `module`: what is run in place of `jobtrail`, or `jobtrail` itself, where it must not come from the nursery.
    """

    name: str
    verb: Verb
    world: World
    settings: dict[str, str]
    dies: str | None = None
    module: str | None = None
    up: bool = False
    url: str | None = None
    starts: int = 0
    _process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def start(self) -> None:
        """Returns when the process says that it is ready."""
        self.starts += 1
        name, words = self.world.folder / f"{self.name}.{self.starts}", (self.verb, "--json")
        if self.world.nursery and self.module is None:
            self._process = await self.world.nursery.start(words, name, self.settings, self.dies)
        else:
            self._process = await start(words, name, self.settings, self.module or "jobtrail")
        self.world.groups.append(self.pid)
        self.url = (await self.process.said()).get("url")
        self.up = True

    def signal(self, which: signal.Signals) -> None:
        self.process.signal(which)

    async def ended(self) -> int:
        """Its exit code, once it has ended and what it began is gone with it."""
        code = await self.process.ended()
        self.gone()
        await until(lambda: nothing_is_left(self.pid), within=10)
        return code

    def gone(self) -> None:
        """Nobody is to be sent there any more."""
        self.up, self.url = False, None

    async def kill(self) -> int:
        """Its exit code: -9, unless it had ended before."""
        self.gone()
        if self._process is None:
            return 0
        self.signal(signal.SIGKILL)
        return await self.ended()


@dataclass
class Fleet:
    """The members, and their settings. Everything that it started is dead when it ends."""

    world: World
    lease: float
    poll_every: float = 0.2
    members: list[Member] = field(default_factory=list)
    restarts: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def started(
        cls,
        world: World,
        *,
        lease: float,
        serve: int = 2,
        work: int = 2,
        poll_every: float = 0.2,
        url: str | None = None,
        **settings: str,
    ) -> AsyncIterator[Self]:
        """`url`: where the fleet finds the database, when it is not to go there straight. `settings` in capitals,
        without the prefix.
        """
        fleet = cls(world, lease, poll_every)
        verbs: list[Verb] = ["serve"] * serve + ["work"] * work  # type: ignore[assignment]
        for number, verb in enumerate(verbs):
            fleet.members.append(Member(f"{verb}-{number}", verb, world, fleet.environment(url, **settings)))
        try:
            await asyncio.gather(*(member.start() for member in fleet.members))
            yield fleet
        finally:
            await fleet.stop()

    def environment(self, url: str | None = None, **settings: str) -> dict[str, str]:
        """What a process of this fleet is started with."""
        said = {
            "DATABASE_URL": url or self.world.url.libpq, "TASKS": "chaos.tasks", "PORT": "0", "SLOTS": "16",
            "THREADS": "2", "PROCESSES": "0", "LEASE": f"{self.lease}s", "POLL_EVERY": f"{self.poll_every}s",
            "GRACE": "10s", "LOG_FORMAT": "json", **settings,
        }  # fmt: skip
        return {URL: self.world.url.libpq, **{f"JOBTRAIL_{name}": value for name, value in said.items()}}

    @property
    def up(self) -> list[Member]:
        return [member for member in self.members if member.up]

    @property
    def services(self) -> list[str]:
        return [member.url for member in self.members if member.url]

    def of(self, *verbs: Verb) -> list[Member]:
        return [member for member in self.up if member.verb in verbs]

    @property
    def bound(self) -> float:
        """Seconds after the death of a node until what it ran is claimed again, where another node lives and has room:
        its lease runs out, rescue looks every quarter of a lease, and the claim with every poll, give or take a tenth.
        """
        return self.lease * 1.275 + self.poll_every * 1.1

    def restart(self, member: Member) -> None:
        """In the background."""
        task = asyncio.create_task(member.start())
        self.restarts.add(task)
        task.add_done_callback(self._restarted)

    def _restarted(self, task: asyncio.Task[None]) -> None:
        """One that failed stays, for whoever waits for it."""
        if not task.cancelled() and task.exception() is None:
            self.restarts.discard(task)

    async def ready(self, *, at_least: int) -> list[Member]:
        """The members that are up, once there are enough of them. Raises what a restart raised."""

        async def enough() -> list[Member]:
            for task in [task for task in self.restarts if task.done()]:
                task.result()
            return self.up if len(self.up) >= at_least else []

        return await until(enough, within=START)

    async def runner(self, job: UUID | None = None) -> Member:
        """One that is up and runs this job, or any; once there is one."""

        async def found() -> Member | None:
            nodes = {row["node_id"] for row in await self.world.rows(RUNNERS, job)}
            of = [(each, f"{each.name}.{each.starts}.log") for each in self.up]
            members = [each for each, log in of if nodes.intersection(nodes_of(self.world.folder, log))]
            return self.world.random.choice(members) if members else None

        return await until(found, within=START)

    async def settled(self) -> bool:
        """Wait until all are up and every job has ended; False when one does not."""
        await asyncio.gather(*self.restarts)
        return await self.world.settled(within=60 + 3 * self.bound)

    async def stop(self) -> None:
        await asyncio.gather(*self.restarts, return_exceptions=True)
        await asyncio.gather(*(member.kill() for member in self.members))
