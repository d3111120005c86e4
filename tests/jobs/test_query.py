"""Lists: filters add up, alternatives do not, and no page skips or repeats a row."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobtrail.ids import Trace
from jobtrail.jobs.query import Cursor, Filter, Page, read_page
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit, submit_batch
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from support import world
from support.rows import born, in_status
from support.world import Place


async def test_pages_go_from_newest_to_oldest_without_a_gap(services: Services) -> None:
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


async def test_filters(services: Services, place: Place) -> None:
    async def listed(**wanted: Any) -> list[Any]:
        return [job.id for job in (await read_page(services, Page(limit=200, filter=Filter(**wanted)))).jobs]

    old = await born(place, created_at=datetime(2020, 1, 1, tzinfo=UTC))
    running, failed = [await in_status(place, status) for status in (Status.RUNNING, Status.FAILED)]
    mail = await born(place, task="mail", queue="slow", tags=["a", "b"])
    traced = (await submit(services, Submission(task="noop", tags=["a"]), by="ann", trace=Trace("ab" * 16)))[0].id
    own, _ = await submit(services, Submission(task="noop"), by="ann")
    for wanted, found in (
        ({"status": (Status.FAILED, Status.RUNNING)}, [failed, running]),
        ({"task": ("mail",)}, [mail]),
        ({"queue": ("slow",), "status": (Status.PENDING,)}, [mail]),
        ({"queue": ("slow",), "status": (Status.FAILED,)}, []),
        ({"tags": ("a",)}, [traced, mail]),
        ({"tags": ("a", "b")}, [mail]),
        ({"trace_id": ("ab" * 16,)}, [traced]),
        ({"trace_id": (own.trace_id, "ab" * 16)}, [own.id, traced]),
        ({"created_before": datetime(2021, 1, 1, tzinfo=UTC)}, [old]),
        ({"created_after": datetime.now(UTC) - timedelta(hours=1), "created_by": "ann"}, [own.id, traced]),
    ):
        assert await listed(**wanted) == found, wanted


@pytest.mark.parametrize("heavy", [True, False])
async def test_a_light_page_reads_neither_args_nor_result(services: Services, place: Place, heavy: bool) -> None:
    async with world.node_at(services, place):
        await world.ended(services, (await world.submitted(services, "noop", n=3)).id)
    (job,) = (await read_page(services, Page(limit=5, heavy=heavy))).jobs
    assert (job.args, job.result) == (({"n": 3}, {"ok": 3}) if heavy else ({}, None))
