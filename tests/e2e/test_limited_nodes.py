"""Limits over several processes, some of which are killed."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit_batch
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support.limited import PEAK, limited
from support.served import CHECKOUT, Working
from support.until import until
from support.world import Place

JOBS = 200


@pytest.fixture
def services(place: Place) -> Services:
    return Services(place.database, Catalog.of([limited]))


async def test_killed_nodes_neither_break_a_limit_nor_keep_it(folder: Path, place: Place, services: Services) -> None:
    settings = {
        **CHECKOUT, "JOBTRAIL_TASKS": "support.limited", "JOBTRAIL_LEASE": "2s", "JOBTRAIL_POLL_EVERY": "100ms",
        "JOBTRAIL_LOG_LEVEL": "WARNING",
    }  # fmt: skip

    async with AsyncExitStack() as stack:

        async def node() -> Working:
            return await stack.enter_async_context(
                Working.start(
                    folder, place.url.libpq, "--slots", "10", "--threads", "0", "--processes", "0", **settings
                )
            )

        async def busy() -> Working | None:
            """One of the nodes, whichever has jobs."""
            query = "SELECT node_id FROM jobtrail.jobs WHERE status = 'running' AND node_id = ANY($1) LIMIT 1"
            found = await place.value(query, [each.node for each in nodes])
            return next((each for each in nodes if each.node == found), None)

        async def nothing_is_left() -> bool:
            return not await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status IN ('pending', 'running')")

        nodes = list(await asyncio.gather(*(node() for _ in range(3))))
        for _ in range(2):
            # before each: while a node starts, the others may do all that there is
            half = [Submission(task="limited", args={"tenant": n % 4}) for n in range(JOBS // 2)]
            await submit_batch(services, half, by="ann")
            old = await until(busy)
            assert old
            old.signal(signal.SIGKILL)
            nodes.remove(old)
            await old.ended()
            nodes.append(await node())
        await until(nothing_is_left, within=120)
    lost = await place.value("SELECT count(*) FROM jobtrail.transitions WHERE reason = 'rescued'")
    assert lost > 0, "the kills met no job"
    assert await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status = 'succeeded'") == JOBS
    peaks = [await place.value(PEAK, key) for key in ("every tenant", *(f"tenant:{n}" for n in range(4)))]
    assert peaks[0] == 7
    assert max(peaks[1:]) <= 3
