"""Lists: filters add up, alternatives do not, and no page skips or repeats a row."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobtrail.jobs.query import Cursor, Filter, Page, read_page
from jobtrail.jobs.submit import submit, submit_batch
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from support import world
from support.rows import born, in_status
from support.world import Place


async def listed(place: Place, **wanted: Any) -> list[Any]:
    page = await read_page(world.services_at(place), Page(limit=200, filter=Filter(**wanted)))
    return [job.id for job in page.jobs]


async def test_pages_go_from_newest_to_oldest_without_a_gap(place: Place) -> None:
    services = world.services_at(place)
    jobs = await submit_batch(
        services, [Submission(task="noop") for _ in range(25)], by="ann"
    )  # one birth time for all
    jobs = [*jobs, await world.submitted(services, "noop")]
    found: list[Any] = []
    after: Cursor | None = None
    while not found or after:
        page = await read_page(services, Page(limit=7, after=after))
        found += page.jobs
        after = page.following
        await world.submitted(services, "noop")  # what comes in meanwhile does not move the rest
    assert [job.id for job in found] == [job.id for job in reversed(jobs)]


async def test_filters(place: Place) -> None:
    services = world.services_at(place)
    by_status = {status: await in_status(place, status) for status in Status}
    mail = await born(place, task="mail", queue="slow", tags=["a", "b"])
    traced = (await submit(services, Submission(task="noop", tags=["a"]), by="ann", trace_id="ab" * 16)).id
    assert await listed(place, status=(Status.FAILED, Status.RUNNING)) == [
        by_status[Status.FAILED], by_status[Status.RUNNING]
    ]  # fmt: skip
    assert await listed(place, task=("mail",)) == [mail]
    assert await listed(place, queue=("slow",), status=(Status.PENDING,)) == [mail]
    assert await listed(place, queue=("slow",), status=(Status.FAILED,)) == []
    assert await listed(place, tags=("a",)) == [traced, mail]
    assert await listed(place, tags=("a", "b")) == [mail]
    assert await listed(place, trace_id=("ab" * 16,)) == [traced]
    own = await submit(services, Submission(task="noop"), by="ann")
    assert await listed(place, trace_id=(own.trace_id, "ab" * 16)) == [own.id, traced]


async def test_times(place: Place) -> None:
    old = await born(place, created_at=datetime(2020, 1, 1, tzinfo=UTC))
    new = await born(place)
    assert await listed(place, created_before=datetime(2021, 1, 1, tzinfo=UTC)) == [old]
    assert await listed(place, created_after=datetime.now(UTC) - timedelta(hours=1)) == [new]


@pytest.mark.parametrize("heavy", [True, False])
async def test_a_light_page_reads_neither_args_nor_result(place: Place, heavy: bool) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        await world.ended(services, (await world.submitted(services, "noop", n=3)).id)
    (job,) = (await read_page(services, Page(limit=5, heavy=heavy))).jobs
    assert (job.args, job.result) == (({"n": 3}, {"ok": 3}) if heavy else ({}, None))
