"""Ends of jobs that a receiver is told of, while the processes that derive and send the deliveries are killed.

The receiver refuses some of them at first, and tells repeats by their ids, as receivers should.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from standardwebhooks import WebhookVerificationError

from chaos import faults
from chaos.client import Ask, Client
from chaos.fleet import Fleet
from chaos.scenario import Figure, Scenario, Size
from chaos.scenarios.processes import rescue_times, spread
from chaos.world import World
from jobtrail.outbound import new_secret
from support.receiver import OK, Receiver, receiving
from support.until import until

REFUSED = 0.1
"""The share of deliveries that are refused the first time."""

HOOK = """
INSERT INTO jobtrail.webhooks (name, url, tasks) VALUES ('naps', $1, '{nap}') RETURNING secrets[1]
"""

# What must be delivered, by the history: each end of a nap to the webhook, each end of a job with a callback to that.
WANTED = """
CREATE TEMP VIEW wanted AS
SELECT t.job_id, t.seq, 'naps' AS webhook FROM jobtrail.transitions t
 WHERE t.task = 'nap' AND t.to_status IN ('succeeded', 'failed', 'cancelled')
UNION ALL
SELECT t.job_id, t.seq, NULL FROM jobtrail.transitions t JOIN jobtrail.jobs j ON j.id = t.job_id
 WHERE j.callback_url IS NOT NULL AND t.to_status IN ('succeeded', 'failed', 'cancelled');
CREATE TEMP VIEW deliveries AS
SELECT id, status, (args #>> '{event,data,job_id}')::uuid AS job_id, (args #>> '{event,data,seq}')::int AS seq,
       args ->> 'webhook' AS webhook
  FROM jobtrail.jobs WHERE task = 'jobtrail.webhook'
"""

MISSING = """
SELECT count(*) FROM wanted w WHERE NOT EXISTS (
    SELECT FROM deliveries d
     WHERE (d.job_id, d.seq) = (w.job_id, w.seq) AND d.webhook IS NOT DISTINCT FROM w.webhook)
"""
NEEDLESS = """
SELECT count(*) FROM deliveries d WHERE NOT EXISTS (
    SELECT FROM wanted w WHERE (d.job_id, d.seq) = (w.job_id, w.seq) AND d.webhook IS NOT DISTINCT FROM w.webhook)
"""
TWICE = "SELECT count(*) - count(DISTINCT (job_id, seq, webhook)) FROM deliveries"
UNHEARD = "SELECT count(*) FROM deliveries WHERE id::text <> ALL($1::text[])"
DEAD = "SELECT count(*) FROM deliveries WHERE status <> 'succeeded'"


async def tell(world: World, size: Size) -> Sequence[Figure]:
    refused: set[str] = set()

    async def answer(number: int, writer: asyncio.StreamWriter) -> None:
        message = receiver.got[number].id
        if message not in refused and world.random.random() < REFUSED:
            refused.add(message)
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        else:
            writer.write(OK)

    own = new_secret()
    async with receiving(answer) as receiver:
        secret = await world.value(HOOK, receiver.url)
        naps = (Ask("nap", (0.02, 0.6)), Ask("nap", (0.02, 0.6), wanted={"callback_url": receiver.url}, share=0.3))
        settings = {"WEBHOOK_ALLOW": "127.0.0.1", "WEBHOOK_SECRET": own}
        async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work, **settings) as fleet:
            client = Client(world.ledger, world.random, lambda: fleet.services, naps, patience=size.lease)
            killing = asyncio.create_task(spread(faults.kill, size, size.faults)(fleet))  # type: ignore[arg-type]
            await client.load(size.jobs, rate=size.rate, during=killing)
            await fleet.settled()
            await world.execute(WANTED)
            with suppress(AssertionError):  # then it is counted below
                await until(lambda: _is_derived(world), within=60)
            await fleet.settled()
        return [*await told(world, receiver, [secret, own]), *await rescue_times(world, size.lease * 1.275)]


async def _is_derived(world: World) -> bool:
    return not await world.value(MISSING)


async def told(world: World, receiver: Receiver, secrets: Sequence[str]) -> list[Figure]:
    heard = Counter(got.id for got in receiver.got)
    forged = 0
    for got in receiver.got:
        for secret in secrets:
            with suppress(WebhookVerificationError):
                got.verified(secret)
                break
        else:
            forged += 1
    return [
        Figure("deliveries", await world.value("SELECT count(*) FROM deliveries")),
        Figure("ends without their delivery", await world.value(MISSING), 0),
        Figure("deliveries of nothing that was asked for", await world.value(NEEDLESS), 0),
        Figure("deliveries of one end made twice", await world.value(TWICE), 0),
        Figure("deliveries that never came", await world.value(UNHEARD, list(heard)), 0),
        Figure("deliveries that did not succeed", await world.value(DEAD), 0),
        Figure("requests whose signature the library refuses", forged, 0),
        Figure("requests / repeats that their ids tell", f"{heard.total()} / {heard.total() - len(heard)}"),
    ]


SCENARIOS = (
    Scenario(
        "webhooks",
        "`kill -9` of any process while a receiver is told of the end of each job, and refuses one in ten at first",
        Size(jobs=1000, faults=25, rate=15),
        Size(jobs=60, faults=3, rate=20, lease=1.0, serve=1, work=2),
        tell,
        shows=("ends without their delivery", "deliveries of one end made twice", "deliveries that never came"),
    ),
)
