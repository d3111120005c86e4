"""Several nodes on one database: they are replaced while jobs come, and they share queues without mixing them up."""

import asyncio
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobtrail import task
from jobtrail.jobs.services import Services
from jobtrail.task.catalog import Catalog
from support.served import CHECKOUT, Served, Working
from support.until import until
from support.world import Place, node_at

NODES = 3

SHARES = (("red", "green"), ("green", "blue"), ("green", "blue"))
"""The queues that each node takes: red has a node of its own, blue two, green all three."""

PLACES = {"on_loop": 4, "in_thread": 2}
"""How many of each task a node runs at once."""

# released: a claim whose answer came to a node that was stopping already; its attempt never began
STARTS = """
SELECT job_id AS id, array_agg(DISTINCT node_id) FILTER (WHERE to_status = 'running') AS nodes,
       count(*) FILTER (WHERE to_status = 'running') - count(*) FILTER (WHERE reason = 'released') AS starts
  FROM jobtrail.transitions GROUP BY job_id
"""

MANY = """
INSERT INTO jobtrail.jobs (id, task, args, queue, priority, run_at)
SELECT gen_random_uuid(), (ARRAY['on_loop', 'on_loop', 'in_thread'])[ceil(random() * 3)], '{"n": 1}',
       (ARRAY['red', 'green', 'blue'])[1 + n % 3], floor(random() * 10), now() - random() * interval '1 h'
  FROM generate_series(1, 3000) n
"""

# A claim locks what it takes, in order, and passes by what another claim has in hand. So a job may start after a less
# urgent one of its queue only if its own claim had begun before the other's was through.
ORDER = """
SELECT j.queue, j.started_at > min(t.at) OVER later AS overtaken,
       t.xact::text::bigint > min(t.xact::text::bigint) OVER later AS claimed_later
  FROM jobtrail.jobs j JOIN jobtrail.transitions t ON t.job_id = j.id AND t.to_status = 'running'
WINDOW later AS (PARTITION BY j.queue, j.task ORDER BY j.priority DESC, j.run_at, j.id
                 ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
"""

RUNNING: Counter[str] = Counter()
PEAKS: Counter[str] = Counter()
"""How many of each task ran at once, on all nodes: they are in this process."""


COUNTING = threading.Lock()


def count(name: str, more: int) -> None:
    with COUNTING:
        RUNNING[name] += more
        PEAKS[name] = max(PEAKS[name], RUNNING[name])


@task
async def on_loop(n: int) -> int:
    count("on_loop", 1)
    await asyncio.sleep(0.001)
    count("on_loop", -1)
    return n


@task
def in_thread(n: int) -> int:
    count("in_thread", 1)
    time.sleep(0.001)
    count("in_thread", -1)
    return n


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_nodes_are_replaced_one_after_another_while_jobs_come(
    stack: AsyncExitStack, folder: Path, place: Place
) -> None:
    settings = {**CHECKOUT, "JOBTRAIL_POLL_EVERY": "100ms", "JOBTRAIL_LOG_LEVEL": "WARNING"}

    async def node() -> Working:
        return await stack.enter_async_context(
            Working.start(folder, place.url.libpq, "--slots", "4", "--processes", "0", **settings)
        )

    service = await stack.enter_async_context(Served.start(folder, place.url.libpq, **settings, JOBTRAIL_SLOTS="0"))
    began = time.monotonic()
    nodes = list(await asyncio.gather(*(node() for _ in range(NODES))))
    accepted: list[str] = []
    enough = asyncio.Event()
    feeding = asyncio.create_task(feed(service, accepted, enough))
    for old in tuple(nodes):
        await until(lambda old=old: works(place, old))  # type: ignore[misc]
        old.signal(signal.SIGTERM)
        assert (await old.ended())[0] == 0
        nodes.append(await node())
    for new in nodes[NODES:]:
        await until(lambda new=new: works(place, new))  # type: ignore[misc]
    listed = (await service.client.get("/v1/nodes")).json()["items"]
    enough.set()
    await feeding
    await until(lambda: nothing_is_unfinished(place))

    assert {tuple(each["slots"].items()) for each in listed if not each["tasks"]} == {
        (("loop", 0), ("thread", 0), ("process", 0))
    }
    assert {UUID(each["id"]) for each in listed if each["tasks"]} == {new.node for new in nodes[NODES:]}
    jobs = await place.rows("SELECT id::text, status, error FROM jobtrail.jobs")
    assert {each["id"] for each in jobs} == set(accepted)
    assert {(each["status"], each["error"]) for each in jobs} == {("succeeded", None)}
    starts = await place.rows(STARTS)
    assert {each["starts"] for each in starts} == {1}
    assert {node_id for each in starts for node_id in each["nodes"]} == {each.node for each in nodes}
    longest = await place.value("SELECT max(started_at - created_at) FROM jobtrail.jobs")
    told = f"{len(jobs)} jobs in {time.monotonic() - began:.1f} s while {NODES} nodes were replaced"
    print(f"\n{told}; the longest wait was {longest / timedelta(milliseconds=1):.0f} ms")


async def test_three_nodes_keep_the_order_of_three_queues(stack: AsyncExitStack, place: Place) -> None:
    await place.psql.execute("SELECT setseed(0.5)")
    await place.psql.execute(MANY)
    terms = {"slots": PLACES["on_loop"], "threads": PLACES["in_thread"], "processes": 0}
    began = time.monotonic()
    services = Services(place.database, Catalog.of([on_loop, in_thread]))
    nodes = [await stack.enter_async_context(node_at(services, place, queues=share, **terms)) for share in SHARES]
    await until(lambda: nothing_is_unfinished(place), within=300)
    seconds = time.monotonic() - began

    order = await place.rows(ORDER)
    assert [each for each in order if each["overtaken"]] == []
    assert [each for each in order if each["claimed_later"] and each["queue"] == "red"] == []
    # counted where they run: what SQL shows as running has ended, where its outcome is on its way
    for name, most in PLACES.items():
        assert 1 < PEAKS[name] <= len(nodes) * most
    ran = await place.rows("SELECT DISTINCT queue, node_id FROM jobtrail.jobs WHERE status = 'succeeded'")
    assert {(each["queue"], each["node_id"]) for each in ran} == {
        (queue, node.id) for node, share in zip(nodes, SHARES, strict=True) for queue in share
    }
    assert await place.value("SELECT count(*) FROM jobtrail.jobs WHERE attempt = 1") == len(order) == 3000
    beside = sum(bool(each["claimed_later"]) for each in order)
    print(f"\n3 nodes, 3 queues, 3,000 jobs: {seconds:.1f} s; {beside} of them claimed beside a less urgent one")


async def feed(service: Served, accepted: list[str], enough: asyncio.Event) -> None:
    while not enough.is_set():
        accepted.append(await service.submit("nap"))


async def works(place: Place, node: Working) -> Any:
    return await place.value(
        "SELECT true FROM jobtrail.jobs WHERE status = 'running' AND node_id = $1 LIMIT 1", node.node
    )


async def nothing_is_unfinished(place: Place) -> bool:
    return not await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status IN ('pending', 'running')")
