"""The clock of one node is an hour fast, that of another an hour slow; the database's is the only one that counts."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from chaos import faults, witness
from chaos.checks import nodes_of
from chaos.client import Ask, Client
from chaos.clocked import WRONG_BY
from chaos.fleet import Fleet, Member
from chaos.scenario import Figure, Scenario, Size
from chaos.world import World
from support.until import until

HOUR = 3600

ENDED_BY = "SELECT count(*) FROM jobtrail.transitions WHERE from_status = 'running' AND node_id = ANY($1::uuid[])"
RESCUED_ALIVE = "SELECT count(*) FROM rescues WHERE node = ANY($1::uuid[])"

EARLY_START = """
SELECT count(*) FROM jobtrail.transitions t JOIN due d ON d.id = t.job_id AND t.at < d.run_at
 WHERE t.to_status = 'running'
"""
LATE = """
SELECT percentile_disc(ARRAY[0.5, 1.0]) WITHIN GROUP (ORDER BY extract(epoch FROM first - run_at)::float)
  FROM (SELECT d.run_at, min(t.at) AS first FROM due d JOIN jobtrail.transitions t ON t.job_id = d.id
         WHERE t.to_status = 'running' AND d.waits GROUP BY d.id, d.run_at) started
"""

# Kept apart from the row, whose run_at a retry changes.
DUE = """
CREATE TABLE due (id uuid PRIMARY KEY, run_at timestamptz, waits boolean);
CREATE FUNCTION note_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO due VALUES (NEW.id, NEW.run_at, NEW.run_at > NEW.created_at);
    RETURN NULL;
END $$;
CREATE TRIGGER note_due AFTER INSERT ON jobtrail.jobs FOR EACH ROW EXECUTE FUNCTION note_due();
"""


async def be_wrong(world: World, size: Size) -> Sequence[Figure]:
    """Those with the wrong clocks live all the time; others are killed, so that there is something to rescue."""
    await witness.watch(world)
    await world.execute(DUE)
    seconds = size.jobs / size.rate
    async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work, PURGE_EVERY="500ms") as fleet:
        wrong = [_wrong(fleet, "fast", HOUR), _wrong(fleet, "slow", -HOUR)]
        victims = list(fleet.members)
        fleet.members += wrong
        await asyncio.gather(*(member.start() for member in wrong))
        for member in wrong:
            _prove(world, member)
        now: datetime = await world.value("SELECT clock_timestamp()")
        client = Client(world.ledger, world.random, lambda: fleet.services, _asks(now, seconds), patience=12)
        killing = asyncio.create_task(_kill(fleet, victims, size.faults - len(wrong), seconds))
        await client.load(size.jobs, rate=size.rate, during=killing)
        await fleet.settled()
        await until(lambda: _purged(world), within=30)
    nodes = {member.name: list(nodes_of(world.folder, f"{member.name}.*.log")) for member in wrong}
    ended = {name: await world.value(ENDED_BY, found) for name, found in nodes.items()}
    late = await world.value(LATE)
    return [
        *await witness.rescues(world),
        Figure(
            "rescued though alive",
            await world.value(RESCUED_ALIVE, [each for found in nodes.values() for each in found]),
            0,
        ),
        *await witness.purges(world),
        Figure("started before run_at", await world.value(EARLY_START), 0),
        Figure("began after run_at: median, longest (s)", ", ".join(f"{each:.2f}" for each in late)),
        Figure("nodes with a wrong clock that ran nothing", list(ended.values()).count(0), 0),
        Figure("ended by the fast node / by the slow", f"{ended['fast']} / {ended['slow']}"),
    ]


def _wrong(fleet: Fleet, name: str, seconds: int) -> Member:
    """It serves too: its clock must not be asked when a job is taken, either."""
    settings = {**fleet.environment(PURGE_EVERY="500ms"), WRONG_BY: str(seconds)}
    module = None if fleet.world.nursery else "chaos.clocked"  # the nursery knows what to do with the setting
    return Member(name, "serve", fleet.world, settings, module=module)


def _prove(world: World, member: Member) -> None:
    said = json.loads(member.process.log.read_text().partition("\n")[0])
    by = HOUR if member.name == "fast" else -HOUR
    assert abs(said["wrong_by"] - by) <= 1, said
    world.note(
        f"the clock of {member.name} is wrong", f"it says {said['believes']}, which is wrong by {said['wrong_by']} s"
    )


def _asks(now: datetime, seconds: float) -> Sequence[Ask]:
    """A third waits for some moment of the load's time; half goes as it ends, or a little later."""
    moments = [(now + timedelta(seconds=seconds * part)).isoformat() for part in (0.3, 0.6, 0.9)]
    return [
        Ask("nap", (0.02, 0.5), wanted={"ttl": 1}),
        Ask("nap", (0.5, 1.5), wanted={"ttl": 1800}),
        Ask("write_inside", (0.02, 0.5), wanted={"ttl": 0}),
        *(Ask("nap", (0.02, 0.2), wanted={"run_at": moment, "ttl": 1800}, share=0.5) for moment in moments),
    ]


async def _kill(fleet: Fleet, victims: Sequence[Member], times: int, seconds: float) -> None:
    for number in range(times):
        await asyncio.sleep(0.7 * seconds / times)
        member = victims[number % len(victims)]
        await until(lambda member=member: _is_up(member), within=60)  # type: ignore[misc]
        await faults.kill(fleet, member)


async def _is_up(member: Member) -> bool:
    return member.up


async def _purged(world: World) -> bool:
    return not await world.value("SELECT count(*) FROM jobtrail.jobs WHERE expires_at < clock_timestamp()")


SCENARIOS = (
    Scenario(
        "clock",
        "the clock of one node an hour fast, of another an hour slow",
        Size(jobs=500, faults=8, rate=15, serve=1, work=1),
        Size(jobs=60, faults=3, rate=25, lease=1.0, serve=0, work=1),
        be_wrong,
        shows=("rescued before the lease was over", "wrong deletes", "started before run_at"),
    ),
)
