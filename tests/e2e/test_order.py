"""Jobs that come after others, and batches, while the processes that end them are killed and started again."""

import signal
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit_batch
from jobtrail.ops import batches
from jobtrail.records import Batch
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support.errands import add, nap
from support.served import CHECKOUT, Working
from support.until import until
from support.world import Place

SETTINGS = {**CHECKOUT, "JOBTRAIL_LEASE": "2s", "JOBTRAIL_POLL_EVERY": "100ms", "JOBTRAIL_LOG_LEVEL": "ERROR"}
COUNT = 150
KILLS = 4

HALF_DONE = """
SELECT count(*) FILTER (WHERE status = 'succeeded') BETWEEN $1 AND 100000 FROM jobtrail.jobs WHERE task = 'nap'
"""
LEFT = "SELECT count(*) = 0 FROM jobtrail.jobs WHERE status IN ('pending', 'running')"

EARLY = """
SELECT count(*) FROM jobtrail.jobs c, unnest(c.after) AS parent
  JOIN jobtrail.transitions t ON t.job_id = parent AND t.to_status = 'succeeded'
 WHERE t.at > c.started_at
"""


async def test_killed_nodes_forget_no_child_and_bring_the_end_of_a_batch_once(folder: Path, place: Place) -> None:
    services = Services(place.database, Catalog.of([add, nap]))
    wanted = [Submission(task="nap", max_attempts=10)] * COUNT
    batch, parents = await batches.submit_batch(
        services, wanted, Submission(task="add", args={"a": 1, "b": 2}, tags=["last"]), by="ann"
    )
    pairs = pairwise(parents)
    after = [Submission(task="nap", after=[each.id for each in pair], max_attempts=10) for pair in pairs]
    children = await submit_batch(services, after, by="ann")
    async with AsyncExitStack() as stack:
        words = (folder, place.url.libpq, "--slots", "3", "--processes", "0")
        nodes = [await stack.enter_async_context(Working.start(*words, **SETTINGS)) for _ in range(2)]
        for number in range(1, KILLS + 1):
            await until(lambda done=number * COUNT // KILLS // 2: place.value(HALF_DONE, done))  # type: ignore[misc]
            killed = nodes.pop(0)
            killed.signal(signal.SIGKILL)
            assert (await killed.ended())[0] == -signal.SIGKILL
            nodes.append(await stack.enter_async_context(Working.start(*words, **SETTINGS)))
        await until(lambda: place.value(LEFT), within=120)
        found = await until(lambda: done_batch(services, batch), within=60)
        await until(lambda: place.value(LEFT))
    rows = await place.rows(
        "SELECT status, count(*) FROM jobtrail.jobs WHERE id = ANY($1) GROUP BY status", [each.id for each in children]
    )
    assert rows == [{"status": "succeeded", "count": COUNT - 1}]
    assert await place.value(EARLY) == 0
    assert [row["id"] for row in await place.rows("SELECT id FROM jobtrail.jobs WHERE tags = '{last}'")] == [
        found.on_done
    ]
    lost = await place.value("SELECT count(*) FROM jobtrail.transitions WHERE reason = 'rescued'")
    print(f"\n{KILLS} nodes were killed, {lost} attempts with them")


async def done_batch(services: Services, batch: Batch) -> Batch | None:
    found = await batches.read(services, batch.id)
    return found if found.done_at else None
