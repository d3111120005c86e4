"""What a node says of itself with each beat, and what it notices of the others."""

import socket
from datetime import timedelta
from uuid import uuid4

import pytest

from jobtrail.jobs.services import Services
from jobtrail.ops import doctor
from jobtrail.ops.nodes import NodeRecord, read_nodes
from jobtrail.task.catalog import Catalog, Known, modules_of, namesakes
from jobtrail.task.task import Task
from support import stubborn, tasks, world
from support.rows import born, taken_away
from support.until import until
from support.world import Place


async def counted(services: Services, **counts: int) -> NodeRecord | None:
    """The node, once it says so of itself."""
    nodes = await read_nodes(services)
    return next((node for node in nodes if all(getattr(node, name) == count for name, count in counts.items())), None)


async def test_it_counts_what_it_left_behind_until_that_ends(place: Place) -> None:
    services = Services(place.database, Catalog.from_modules([stubborn]))
    async with world.node_at(services, place, slots=1, cancel_grace=timedelta(0)):
        await world.submitted(services, "never_ends", seconds=1.2, timeout=0.05)
        found = await until(lambda: counted(services, left_behind=1))
        assert (found.running, found.stale_ends) == (0, 0)
        await until(lambda: counted(services, left_behind=0))


async def test_it_counts_the_ends_that_were_refused(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        job = await world.running(services, "hold")
        await taken_away(place, job.id)
        tasks.GATE.set()
        found = await until(lambda: counted(services, stale_ends=1))
    assert (found.running, found.left_behind) == (0, 0)


async def test_it_names_the_tasks_that_it_has_places_for(place: Place, services: Services) -> None:
    await born(place)
    async with world.node_at(services, place, slots=0, threads=1, processes=0) as node:
        (found,) = await until(lambda: read_nodes(services))
        async with services.session() as session:
            stranded = await doctor.stranded(session, [found])
    assert found.slots == {"loop": 0, "thread": 1, "process": 0}
    assert list(found.tasks) == node.tasks
    assert "in_thread" in node.tasks
    assert "noop" not in node.tasks
    assert [(each.task, each.jobs) for each in stranded] == [("noop", 1)]


JOIN = """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, modules)
    VALUES ($1, 'there', 1, '1', '{}', '{}', '{}', $2)"""


@pytest.mark.parametrize("comes", ["before", "later"])
async def test_two_apps_in_one_schema_are_told_of_each_other(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture, comes: str
) -> None:
    joined = (JOIN, uuid4(), '{"noop": "shop.tasks", "nothing": "support.tasks", "buy": "shop.tasks"}')
    await place.psql.execute(JOIN, uuid4(), None)  # a node of the release before
    if comes == "before":
        await place.psql.execute(*joined)
    async with world.node_at(services, place, lease=timedelta(seconds=0.8)) as node:
        own = "SELECT modules ->> 'noop' FROM jobtrail.nodes WHERE id = $1"
        assert await until(lambda: place.value(own, node.id)) == "support.tasks"
        await node.neighbours.loop.ticked()
        if comes == "later":
            await place.psql.execute(*joined)
        for _ in range(2):
            node.neighbours.loop.wake()
            await node.neighbours.loop.ticked()
    [said] = [each.getMessage() for each in caplog.records if each.name == "jobtrail.worker.maintenance"]
    assert f"task 'noop' is support.tasks on {socket.gethostname()} and shop.tasks on there" in said
    assert "JOBTRAIL_SCHEMA" in said
    assert "@task(name=…)" in said


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("shop.tasks", "shop.tasks", True),
        ("shop.tasks", "tasks", False),
        ("main", "mail", False),
        ("main.py", "main", True),
        ("shop.main", "main.py", True),
        ("main.py", "main.py", True),
        ("main.py", "mail.py", False),
    ],
)
def test_a_script_is_the_module_of_its_file(one: str, other: str, alike: bool) -> None:
    nodes = [Known("a", {"t": one}), Known("b", {"t": other}), Known("c", {"t": other, "u": one})]
    assert len(namesakes(nodes)) == (not alike)


async def buy() -> None: ...


@pytest.mark.parametrize("module", ["__main__", "__mp_main__"])
def test_a_script_is_known_by_its_file(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setattr(buy, "__module__", module)
    assert modules_of([Task(buy), tasks.noop]) == {"buy": "test_beats.py", "noop": "support.tasks"}
