"""A database and the loop on which its connections live, for tests that are no coroutines themselves."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.jobs.services import Services
from support import world
from support.world import Place, judge, migrated

T = TypeVar("T")

_CLEAR = """
SET LOCAL session_replication_role = replica;
DELETE FROM jobtrail.jobs;
DELETE FROM jobtrail.transitions;
DELETE FROM jobtrail.edges;
DELETE FROM effects
"""


@dataclass(frozen=True)
class Driver:
    """Called with a coroutine it gives what that returns."""

    runner: asyncio.Runner
    place: Place
    services: Services

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.get_loop().run_until_complete(coroutine)

    def clear(self) -> None:
        """Away with every job, its history and its effects; quicker than to empty every table."""
        self(self._clear())

    async def _clear(self) -> None:
        async with self.place.psql.transaction():
            await self.place.psql.execute(_CLEAR)


@contextmanager
def driven(server: EmbeddedPostgres) -> Iterator[Driver]:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = AsyncExitStack()
        place = runner.run(stack.enter_async_context(migrated(server)))
        try:
            runner.run(place.psql.execute("CREATE TABLE effects (job uuid NOT NULL, attempt int NOT NULL)"))
            runner.run(judge(place))
            yield Driver(runner, place, world.services_at(place))
        finally:
            runner.run(stack.aclose())
