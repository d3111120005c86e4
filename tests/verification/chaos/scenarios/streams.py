"""Readers of the event stream that are cut off at random, while every process is killed and started again."""

import asyncio
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

import asyncpg

from chaos import faults
from chaos.client import Client
from chaos.fleet import Fleet
from chaos.scenario import Figure, Scenario, Size
from chaos.scenarios.processes import MIXED, rescue_times, spread
from chaos.world import World

LATE = 10.0
"""Seconds for which a transaction stays open that has written transitions."""

PATIENCE = 120.0
"""Seconds that readers have to read the rest, when all has come to rest."""

HISTORY = "SELECT job_id::text AS job, seq FROM jobtrail.transitions"


@dataclass(frozen=True)
class Streams(Size):
    """`readers` at once, each cut off after `cut_after` seconds in the mean; `late` transactions."""

    readers: int = 200
    cut_after: float = 10.0
    late: int = 3


@dataclass
class Numbers:
    """Each transition by a number, so that what all readers have seen fits into memory."""

    by_event: dict[bytes, int] = field(default_factory=dict)

    def of(self, event: bytes) -> int:
        return self.by_event.setdefault(event, len(self.by_event))


@dataclass
class Reader:
    """A connection after the other, each to any service, and each after the last id of the one before."""

    fleet: Fleet
    numbers: Numbers
    random: Random
    cut_after: float
    last_id: bytes
    seen: "array[int]" = field(default_factory=lambda: array("I"))
    connections: int = 0
    gaps: int = 0

    async def read(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.random.expovariate(1 / self.cut_after)):
                    await self._read_one()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(self.random.random() * 0.2)

    async def _read_one(self) -> None:
        services = self.fleet.services
        if not services:
            return
        url = urlsplit(self.random.choice(services))
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=2**20)
        try:
            writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: %b\r\n\r\n" % self.last_id)
            self.connections += 1
            event = b""
            while line := await reader.readline():
                if line.startswith(b'data: {"job_id":"'):
                    event = line[17:53] + b" " + line[61:].partition(b",")[0]
                elif line.startswith(b"id: "):
                    if event:  # else it is an id alone
                        self.seen.append(self.numbers.of(event))
                    self.last_id, event = line[4:].strip(), b""
                elif line.startswith(b"event: gap"):
                    self.gaps += 1
        finally:
            writer.close()


async def follow_all(world: World, size: Size) -> Sequence[Figure]:
    assert isinstance(size, Streams)
    numbers = Numbers()
    async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work) as fleet:
        begin = await _begin(fleet)
        readers = [Reader(fleet, numbers, world.random, size.cut_after, begin) for _ in range(size.readers)]
        reading = [asyncio.create_task(each.read()) for each in readers]
        late = [asyncio.create_task(_write_late(world, number)) for number in range(size.late)]
        client = Client(world.ledger, world.random, lambda: fleet.services, MIXED, patience=size.lease * 2)
        killing = asyncio.create_task(spread(faults.kill, size, size.faults)(fleet))
        await client.load(size.jobs, rate=size.rate, during=killing)
        await asyncio.gather(*late)
        await fleet.settled()
        history = {f"{row['job']} {row['seq']}".encode() for row in await world.rows(HISTORY)}
        for _ in range(int(PATIENCE)):
            if all(len(each.seen) >= len(history) for each in readers):
                break
            await asyncio.sleep(1)
        for each in reading:
            each.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return [*_judge(readers, numbers, history), *await rescue_times(world, fleet.bound)]


def _judge(readers: Sequence[Reader], numbers: Numbers, history: set[bytes]) -> list[Figure]:
    of_history = {numbers.of(each) for each in history}
    names = {number: event.rpartition(b" ") for event, number in numbers.by_event.items()}
    missing = sum(len(of_history.difference(each.seen)) for each in readers)
    doubled = sum(len(each.seen) - len(set(each.seen)) for each in readers)
    unknown = len(set().union(*(each.seen for each in readers)) - of_history)
    disordered = 0
    last = dict[bytes, int]()
    for number in readers[0].seen:
        job, _, seq = names[number]
        disordered += int(seq) != last.get(job, 0) + 1
        last[job] = int(seq)
    return [
        Figure("readers / their connections", f"{len(readers)} / {sum(each.connections for each in readers)}"),
        Figure("transitions / read in all", f"{len(history)} / {sum(len(each.seen) for each in readers)}"),
        Figure("missing", missing, 0),
        Figure("doubled", doubled, 0),
        Figure("that are not in the history", unknown, 0),
        Figure("out of order within a job", disordered, 0),
        Figure(
            "readers with another sequence than the first", sum(each.seen != readers[0].seen for each in readers), 0
        ),
        Figure("gaps", sum(each.gaps for each in readers), 0),
    ]


async def _begin(fleet: Fleet) -> bytes:
    """Where all of them begin: the place that a stream tells first."""
    url = urlsplit(fleet.services[0])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while not (line := await reader.readline()).startswith(b'data: {"since":"'):
        assert line
    writer.close()
    return line[16:].partition(b'"')[0]


async def _write_late(world: World, number: int) -> None:
    """Transitions that are committed long after their transaction began; cancelled, so that nobody runs them."""
    connection = await asyncpg.connect(world.url.libpq)
    await asyncio.sleep(number * 2.0)
    async with connection.transaction():
        jobs = await connection.fetch(
            "INSERT INTO jobtrail.jobs (id, task) SELECT gen_random_uuid(), 'late' FROM generate_series(1, 20)"
            " RETURNING id"
        )
        await connection.execute(
            "UPDATE jobtrail.jobs SET status = 'cancelled' WHERE id = ANY($1)", [row["id"] for row in jobs]
        )
        await asyncio.sleep(LATE)
    await connection.close()


SCENARIOS = (
    Scenario(
        "streams",
        "readers of `/v1/events` cut off at random, `kill -9` of any process, transactions open for 10 s",
        Streams(jobs=5000, faults=30, rate=40, serve=3, work=0),
        Streams(jobs=40, faults=3, rate=10, lease=1.0, serve=2, work=0, readers=10, cut_after=2.0, late=1),
        follow_all,
        shows=("missing", "doubled", "out of order within a job", "readers with another sequence than the first"),
    ),
)
