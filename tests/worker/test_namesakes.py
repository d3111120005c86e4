"""Two apps in one schema are told of each other: in the log of both, and by `jobtrail doctor`."""

import socket
from uuid import uuid4

import pytest

from jobtrail.task.catalog import Known, modules_of, namesakes
from jobtrail.task.task import Task
from support import tasks, world
from support.until import until
from support.world import Place

JOIN = """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, modules)
    VALUES ($1, 'there', 1, '1', '{}', '{}', '{}', $2)"""


@pytest.mark.parametrize("comes", ["before", "later"])
async def test_a_task_that_a_living_node_knows_by_another_module(
    place: Place, caplog: pytest.LogCaptureFixture, comes: str
) -> None:
    joined = (JOIN, uuid4(), '{"noop": "shop.tasks", "nothing": "support.tasks", "buy": "shop.tasks"}')
    await place.psql.execute(JOIN, uuid4(), None)  # a node of the release before
    if comes == "before":
        await place.psql.execute(*joined)
    async with world.node_at(world.services_at(place), place) as node:
        await node.neighbours.loop.ticked()
        if comes == "later":
            await place.psql.execute(*joined)
        for _ in range(2):
            node.neighbours.loop.wake()
            await node.neighbours.loop.ticked()
    [said] = [each.getMessage() for each in caplog.records if each.name == "jobtrail.worker.periodic"]
    assert f"task 'noop' is support.tasks on {socket.gethostname()} and shop.tasks on there" in said
    assert "JOBTRAIL_SCHEMA" in said
    assert "@task(name=…)" in said


async def test_the_modules_are_in_the_row_of_the_node(place: Place) -> None:
    async with world.node_at(world.services_at(place), place):
        read = "SELECT modules ->> 'noop' FROM jobtrail.nodes"
        assert await until(lambda: place.value(read)) == "support.tasks"


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
    assert modules_of([Task(buy), tasks.noop]) == {"buy": "test_namesakes.py", "noop": "support.tasks"}
