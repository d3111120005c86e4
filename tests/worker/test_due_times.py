"""The loop of the schedules wakes for a due time that it has seen, once, however often it looks before."""

from jobtrail.jobs.services import Services
from support.schedules import put
from support.until import until
from support.world import Place, node_at


async def test_many_looks_before_a_due_time_leave_one_alarm(place: Place, services: Services) -> None:
    """Between two due times there is then one tick; with an alarm from each look there would be many, for good."""
    await put(services, every=1, overlap="allow")

    async def jobs() -> int:
        found: int = await place.value("SELECT count(*) FROM jobtrail.jobs WHERE schedule = 'often'")
        return found

    async with node_at(services, place) as node:
        loop = node.maintenance.due_loop
        for _ in range(30):
            before = loop.ticks
            loop.wake()
            await loop.ticked(before)
        fired, ticks = await jobs(), loop.ticks

        async def three_more() -> int:
            found = await jobs()
            return found if found >= fired + 3 else 0

        more_jobs = await until(three_more) - fired
        assert loop.ticks - ticks <= more_jobs + 1
        assert loop.errors == 0
