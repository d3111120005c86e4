"""A rollout: the database is migrated first, then the service of the revision before is replaced, one by one."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import httpx

from chaos.alive import RESCUED
from chaos.checks import nodes_of
from chaos.client import Ask, Client
from chaos.fleet import Fleet, Member, Verb
from chaos.process import SERVICE, TESTS, TOP
from chaos.scenario import Figure, Scenario, Size
from chaos.world import World
from support.until import until

OLD = "c9a101a"
"""The last commit whose code asks for an older revision of the schema than ours does."""

ASKS = (Ask("nap", (0.02, 0.4)), Ask("nap_in_thread", (0.01, 0.05), share=0.3), Ask("write_inside", (0.02, 0.4)))

ROTATION = 0.2
"""Seconds for requests that are on their way when a service is taken out of the balancer's list."""

ENDED_BY = "SELECT count(*) FROM jobtrail.transitions WHERE from_status = 'running' AND node_id = ANY($1::uuid[])"
HEARD = "SELECT {} FROM jobtrail.nodes WHERE pid = $1"

READS = ("jobs/{}", "jobs/{}/transitions", "jobs?limit=5", "nodes")


async def roll_out(world: World, size: Size) -> Sequence[Figure]:
    """To the new revision, and, for as long as there are faults to come, back again and on again."""
    trees = {"old": await _old_tree(world.folder / "old-tree"), "new": SERVICE}
    async with Fleet.started(world, lease=size.lease, serve=0, work=0) as fleet:
        verbs: list[Verb] = ["serve"] * size.serve + ["work"] * size.work  # type: ignore[assignment]
        fleet.members += [_member(fleet, trees, f"old-{verb}-{number}", verb) for number, verb in enumerate(verbs)]
        await asyncio.gather(*(member.start() for member in fleet.members))
        client = Client(world.ledger, world.random, lambda: fleet.services, ASKS, keyed=0.2)
        rolling = asyncio.create_task(_roll(fleet, trees, size.faults))
        reading = asyncio.create_task(_read(fleet, rolling))
        await client.load(size.jobs, rate=size.rate, during=rolling)
        read, failed = await reading
        await fleet.settled()
    ended = [await world.value(ENDED_BY, list(nodes_of(world.folder, f"{which}-*.log"))) for which in trees]
    return [
        Figure("submits with an error", len(world.ledger.refused) + world.ledger.unknown.total() + client.nobody, 0),
        Figure("reads with an error", failed, 0),
        Figure("rescued, though nobody died", await world.value(RESCUED), 0),
        Figure("revisions that ran nothing", ended.count(0), 0),
        Figure("reads; ended by the old revision / by the new", f"{read}; {ended[0]} / {ended[1]}"),
    ]


async def _roll(fleet: Fleet, trees: dict[str, Path], times: int) -> None:
    """Each member in its turn is taken out of the balancer's list, ends, and comes back in the other revision."""
    for number in range(times):
        index = number % len(fleet.members)
        before = fleet.members[index]
        was, _, rest = before.name.partition("-")
        await _prove(fleet, before, was)
        before.url = None
        await asyncio.sleep(ROTATION)
        before.signal(signal.SIGTERM)
        code = await before.ended()
        assert code == 0, f"{before.name} ended with {code}"
        after = _member(fleet, trees, f"{'new' if was == 'old' else 'old'}-{rest}.{number}", before.verb)
        fleet.members[index] = after
        await after.start()


async def _prove(fleet: Fleet, member: Member, which: str) -> None:
    """Only the new revision tells how long its event loop let somebody wait; of others the column has 0."""
    await until(lambda: fleet.world.value(HEARD.format("true"), member.pid), within=20)
    if which == "new":
        await until(lambda: fleet.world.value(HEARD.format("loop_lag > 0"), member.pid), within=20)
    told = await fleet.world.value(HEARD.format("loop_lag > 0"), member.pid)
    assert told == (which == "new"), f"{member.name} is of the other revision"
    fleet.world.note(f"{member.name} replaced", f"it tells the lag of its event loop: {told}")


async def _read(fleet: Fleet, during: "asyncio.Task[None]") -> tuple[int, int]:
    """How often somebody read jobs meanwhile, whichever service had taken them; how often that failed."""
    world, read, failed = fleet.world, 0, 0
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        while not during.done():
            await asyncio.sleep(0.02)
            if world.ledger.acknowledged:
                promise = world.random.choice(world.ledger.acknowledged)
                answer = await http.get(
                    f"{world.random.choice(fleet.services)}/v1/{world.random.choice(READS)}".format(promise.id)
                )
                read, failed = read + 1, failed + (not answer.is_success)
    return read, failed


def _member(fleet: Fleet, trees: dict[str, Path], name: str, verb: Verb) -> Member:
    which = name.partition("-")[0]
    settings = {**fleet.environment(), "PYTHONPATH": f"{trees[which]}:{TESTS}"}
    # by itself: the nursery has imported the new one
    return Member(name, verb, fleet.world, settings, module="jobtrail" if which == "old" else None)


async def _old_tree(folder: Path) -> Path:
    """The package as it was then. Fails where there is no history of it."""
    folder.mkdir()
    script = f"git -C '{TOP}' archive {OLD} service migrations | tar -x -C '{folder}'"
    process = await asyncio.create_subprocess_exec(
        "bash", "-o", "pipefail", "-c", script, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 0, f"{TOP} must be a clone with its history, which has {OLD}: {said.decode()}"
    return folder / "service"


SCENARIOS = (
    Scenario(
        "revisions",
        "old and new revision of the service on one migrated database, and a rollout from the one to the other",
        Size(jobs=1000, faults=12, rate=20),
        Size(jobs=60, faults=2, rate=25, lease=2.0, serve=2, work=0),
        roll_out,
        shows=("submits with an error", "reads with an error", "acknowledged and lost"),
    ),
)
