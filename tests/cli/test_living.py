"""Whether a node is alive is one answer, whichever verb is asked."""

import asyncio
from datetime import timedelta

import pytest

from support.command import Command
from support.rows import born
from support.world import Place

NODE = """
INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, lease, heartbeat_at) VALUES
    (gen_random_uuid(), 'here', 7, '0', '{mail}', '{noop}', '{"loop": 1}', $1, now() - CAST($2 AS interval))
"""

SHORT, LONG = timedelta(seconds=30), timedelta(hours=1)


@pytest.mark.parametrize(
    ("lease", "silent", "is_living"),
    [
        (SHORT, timedelta(0), True),
        (SHORT, timedelta(minutes=2), False),
        (LONG, timedelta(minutes=2), True),
        (LONG, timedelta(hours=2), False),
    ],
)
async def test_a_node_is_alive_by_its_own_lease_and_for_a_minute_at_least(
    jobtrail: Command, place: Place, lease: timedelta, silent: timedelta, is_living: bool
) -> None:
    await place.psql.execute(NODE, lease, silent)
    await born(place, "noop", queue="mail")
    doctor, stats, stuck = await asyncio.gather(
        jobtrail("doctor", "--json", JOBTRAIL_PORT="0"),
        jobtrail("stats", "--json"),
        jobtrail("audit", "stuck_jobs", "--json"),
    )
    levels = {each["check"]: each["level"] for each in doctor.json["checks"]}
    assert (levels["nodes"], levels["pending"]) == (("ok", "ok") if is_living else ("warn", "warn"))
    assert stats.json["nodes"] == is_living
    why = [] if is_living else ["no living node knows its task and has a place for it"]
    assert [each["why"] for each in stuck.json["items"]] == why


@pytest.mark.parametrize(("queue", "silent"), [("mail", timedelta(minutes=2)), ("post", timedelta(0))])
async def test_a_wait_says_that_no_living_node_serves_the_queue(
    jobtrail: Command, place: Place, queue: str, silent: timedelta
) -> None:
    await place.psql.execute(NODE, SHORT, silent)
    process = await jobtrail.start("submit", "noop", "--queue", queue, "--wait")
    assert process.stderr
    await process.stderr.readline()
    told = await asyncio.wait_for(process.stderr.readline(), 60)
    process.send_signal(2)
    await process.communicate()
    assert told.decode() == (
        f"jobtrail: waiting; no node serves the queue '{queue}' and knows 'noop': start `jobtrail serve`\n"
    )
