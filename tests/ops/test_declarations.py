"""What code declares, with nodes of two releases alive; and what an operator said stays."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobtrail import Task
from jobtrail.jobs.services import Services
from jobtrail.ops import schedules
from jobtrail.ops.declarations import declare, declared, hashes_of
from jobtrail.task.catalog import Catalog
from jobtrail.task.schedule import Schedule, ScheduleSpec
from jobtrail.task.task import task
from support import tasks
from support.schedules import put
from support.until import until
from support.world import Place, node_at

NODE = """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, declares)
          VALUES ($1, 'there', 1, '0', '{}', '{noop}', '{}', $2::jsonb)"""


def release(**said: Any) -> Mapping[str, ScheduleSpec]:
    """What the code of a release declares."""
    made: Task[..., Any] = task(schedule_name="digest", **said)(tasks.noop.function)
    return declared(Catalog([made]), ["noop"])


OLD, NEW, NONE = release(every=60), release(cron="0 7 * * *", zone="Europe/Paris"), dict[str, ScheduleSpec]()


class Nodes:
    """Living nodes, as their rows tell of them."""

    def __init__(self, place: Place) -> None:
        self.place = place

    async def join(self, says: Mapping[str, ScheduleSpec]) -> UUID:
        """It declares before its row is there."""
        await declare(self.place.database, says)
        await self.place.psql.execute(
            "UPDATE jobtrail.declarations SET first_seen = first_seen - interval '2 minutes'"
        )  # so that none is young
        node = uuid4()
        listed = ", ".join(f'"{name}": "{value}"' for name, value in hashes_of(says).items())
        await self.place.psql.execute(NODE, node, f"{{{listed}}}")
        return node

    async def leave(self, node: UUID) -> None:
        await self.place.psql.execute("DELETE FROM jobtrail.nodes WHERE id = $1", node)

    async def beat(self, says: Mapping[str, ScheduleSpec]) -> None:
        await declare(self.place.database, says)


@pytest.fixture
def nodes(place: Place) -> Nodes:
    return Nodes(place)


async def found(services: Services) -> Schedule:
    return (await schedules.read_schedule(services, "digest")).schedule


async def test_a_rollout_and_back_again(services: Services, nodes: Nodes) -> None:
    old = await nodes.join(OLD)
    first = await found(services)
    assert (first.every, first.declared, first.edited_by) == (timedelta(seconds=60), True, "code")
    await nodes.beat(OLD)
    assert await found(services) == first
    new = await nodes.join(NEW)
    assert (await found(services)).cron == "0 7 * * *"
    for says in (OLD, NEW, OLD):  # whoever looks
        await nodes.beat(says)
    assert (await found(services)).zone == "Europe/Paris"
    another = await nodes.join(OLD)  # an old node is started again
    assert (await found(services)).cron == "0 7 * * *"
    for each in (old, another):
        await nodes.leave(each)
    await nodes.beat(NEW)
    await nodes.join(OLD)  # back to the release before, which is forgotten by now: it is first seen last
    await nodes.beat(NEW)
    assert (await found(services)).every == timedelta(seconds=60)
    await nodes.leave(new)
    await nodes.beat(OLD)
    assert (await found(services)).every == timedelta(seconds=60)


async def test_what_no_living_node_declares_is_disabled_and_not_forgotten(services: Services, nodes: Nodes) -> None:
    node = await nodes.join(OLD)
    foreign = await nodes.join(NONE)
    before = await found(services)
    await nodes.beat(NONE)
    assert await found(services) == before
    await nodes.leave(node)
    await nodes.beat(NONE)
    gone = await found(services)
    assert (gone.state, gone.next_at) == ("disabled", None)
    assert gone.disabled_at is not None
    await nodes.leave(foreign)
    await nodes.join(OLD)
    assert await found(services) == before


async def test_a_silent_node_declares_nothing(place: Place, services: Services, nodes: Nodes) -> None:
    await nodes.join(OLD)
    await place.psql.execute("UPDATE jobtrail.nodes SET heartbeat_at = heartbeat_at - interval '5 minutes'")
    await nodes.beat(NONE)
    assert (await found(services)).state == "disabled"


async def test_a_fresh_declaration_counts_before_its_node_is_there(services: Services, nodes: Nodes) -> None:
    await nodes.join(OLD)
    await declare(services.database, NEW)
    await nodes.beat(OLD)
    assert (await found(services)).cron == "0 7 * * *"


async def test_a_pause_and_an_edit_outlive_a_deploy(services: Services, nodes: Nodes) -> None:
    await nodes.join(OLD)
    await schedules.pause(services, "digest", by="ann", reason="too many mails")
    await nodes.join(NEW)
    paused = await found(services)
    assert (paused.cron, paused.state, paused.paused_by) == ("0 7 * * *", "paused", "ann")
    assert paused.pause_reason == "too many mails"
    await schedules.resume(services, "digest", by="ann")
    edited = await put(services, "digest", every=7200)
    assert (edited.override_by, edited.declared, edited.edited_by) == ("ann", True, "ann")
    await nodes.join(release(every=5))
    assert await found(services) == edited
    await schedules.delete(services, "digest", by="ann")
    await nodes.beat(NONE)
    assert (await found(services)).every == timedelta(seconds=5)


async def test_an_edit_in_psql_outlives_a_deploy(place: Place, services: Services, nodes: Nodes) -> None:
    await nodes.join(OLD)
    await place.psql.execute("UPDATE jobtrail.schedules SET every = '2 hours'")
    await nodes.join(NEW)
    edited = await found(services)
    assert (edited.every, edited.override_by) == (timedelta(hours=2), await place.value("SELECT session_user"))


async def test_a_schedule_of_an_operator_is_his_whoever_declares_the_same(services: Services, nodes: Nodes) -> None:
    mine = await put(services, "digest", every=7200)
    await nodes.join(OLD)
    await nodes.beat(NONE)
    assert await found(services) == mine


@asynccontextmanager
async def running(place: Place, *known: Task[..., Any]) -> AsyncIterator[Services]:
    services = Services(place.database, Catalog(known))
    async with node_at(services, place, poll_every=timedelta(milliseconds=50)):
        yield services


async def test_a_node_declares_its_tasks_and_runs_them(place: Place) -> None:
    often: Task[..., Any] = task(every=1)(tasks.noop.function)
    async with running(place, often):
        await until(lambda: place.value("SELECT count(*) >= 2 FROM jobtrail.jobs WHERE status = 'succeeded'"))
        assert await place.value("SELECT declares ->> 'noop' IS NOT NULL FROM jobtrail.nodes")
    made = await place.rows("SELECT schedule, count(*), count(DISTINCT scheduled_for) FROM jobtrail.jobs GROUP BY 1")
    assert [row["schedule"] for row in made] == ["noop"]


async def test_a_node_without_slots_for_a_task_declares_nothing_of_it(place: Place) -> None:
    often: Task[..., Any] = task(every=1)(tasks.noop.function)
    services = Services(place.database, Catalog([often, tasks.in_thread]))
    async with node_at(services, place, slots=0) as node:
        await until(lambda: place.value("SELECT count(*) FROM jobtrail.nodes"))
        await node.maintenance.rescue_loop.ticked()
    assert await place.value("SELECT count(*) FROM jobtrail.schedules") == 0
