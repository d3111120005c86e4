"""What a node says of itself with each beat."""

from datetime import timedelta

from jobtrail.jobs.services import Services
from jobtrail.ops import doctor
from jobtrail.ops.nodes import read_nodes
from jobtrail.records import NodeRecord
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import stubborn, tasks
from support.rows import born, taken_away
from support.until import until
from support.world import Place, node_at, reached, services_at, submitted


async def test_it_counts_what_it_left_behind_until_that_ends(place: Place) -> None:
    services = Services(place.database, Catalog.from_modules([stubborn]))
    async with node_at(services, place, slots=1, cancel_grace=timedelta(0)):
        await submitted(services, "never_ends", seconds=1.2, timeout=0.05)
        found = await until(lambda: counted(services, left_behind=1))
        assert (found.running, found.stale_ends) == (0, 0)
        await until(lambda: counted(services, left_behind=0))


async def test_it_counts_the_ends_that_were_refused(place: Place) -> None:
    services = services_at(place)
    async with node_at(services, place):
        job = await submitted(services, "hold")
        await reached(services, job.id, Status.RUNNING)
        await taken_away(place, job.id)
        tasks.GATE.set()
        found = await until(lambda: counted(services, stale_ends=1))
    assert (found.running, found.left_behind) == (0, 0)


async def test_it_names_the_tasks_that_it_has_places_for(place: Place) -> None:
    services = services_at(place)
    await born(place)
    async with node_at(services, place, slots=0, threads=1, processes=0) as node:
        (found,) = await until(lambda: read_nodes(services))
        async with services.session() as session:
            stranded = await doctor.stranded(session, timedelta(minutes=1))
    assert found.slots == {"loop": 0, "thread": 1, "process": 0}
    assert list(found.tasks) == node.tasks
    assert "in_thread" in node.tasks
    assert "noop" not in node.tasks
    assert [(each.task, each.jobs) for each in stranded] == [("noop", 1)]


async def counted(services: Services, **counts: int) -> NodeRecord | None:
    """The node, once it says so of itself."""
    nodes = await read_nodes(services)
    return next((node for node in nodes if all(getattr(node, name) == count for name, count in counts.items())), None)
