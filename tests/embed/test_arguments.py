"""An argument is the same wherever it is seen: where it is given, in the row, in each attempt."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, Field, model_validator

from jobtrail import JobContext, Retry, task
from support.host import Host
from support.until import until
from support.world import Place

BERLIN = ZoneInfo("Europe/Berlin")
NEXT = count()


@dataclass
class Line:
    token: UUID = field(default_factory=uuid4)


class Order(BaseModel):
    number: UUID = Field(default_factory=uuid4)
    lines: list[Line] = Field(default_factory=list)
    turn: int | None = None
    note: str = ""

    @model_validator(mode="after")
    def _take_a_turn(self) -> "Order":
        self.turn = next(NEXT) if self.turn is None else self.turn
        return self


@dataclass
class Stay:
    at: datetime


class Meeting(BaseModel):
    at: datetime
    stay: Stay


@task
async def utc(moment: datetime, many: set[datetime], named: dict[datetime, int], meeting: Meeting) -> list[str]:
    found = [moment, *many, *named, meeting.at, meeting.stay.at]
    return [each.isoformat() for each in {each.astimezone(UTC) for each in found}]


@task
async def same(moment: datetime) -> datetime:
    return moment


@task(max_attempts=2, retry=Retry(base=0.001))
async def take(context: JobContext, orders: list[Order]) -> dict[str, Any]:
    context.log.warning("%s", [order.model_dump_json() for order in orders])
    if context.attempt < 3:
        raise OSError("not yet")
    return orders[0].model_dump(mode="json")


@pytest.fixture
async def host(place: Place) -> AsyncIterator[Host]:
    async with Host.at(place, tasks=[utc, same, take], said={"poll_every": 0.05}) as made:
        made.app.include_router(made.trail.router(read="open", submit="open", operate="open"), prefix="/trail")
        yield made


async def test_a_zoned_datetime_arrives_as_the_same_instant(host: Host) -> None:
    """The hour that is there twice, before and after; the one that is not there; any other."""
    for given, instant in (
        (datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        (datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        (datetime(2026, 7, 1, 2, 30, tzinfo=BERLIN), datetime(2026, 7, 1, 0, 30, tzinfo=UTC)),
    ):
        job = await host.trail.submit(utc, given, {given}, {given: 1}, Meeting(at=given, stay=Stay(given)))
        assert await job.wait(timeout=60) == [instant.isoformat()]
        later = await host.trail.options(run_at=given).submit(same, given)
        assert (await later.read()).run_at == instant
        back = await later.wait(timeout=60)
        assert (back, back.utcoffset()) == (instant, given.utcoffset())


@pytest.mark.parametrize("way", ["HTTP", "batch", "Python"])
async def test_each_attempt_sees_the_values_that_were_made_at_submit(host: Host, place: Place, way: str) -> None:
    """And a client that repeats its request finds the first job."""
    body: dict[str, Any] = {"task": "take", "args": {"orders": [{"lines": [{}], "note": "n"}, {}]}}
    match way:
        case "HTTP":
            job_id = (await host.post("/trail/jobs", 202, json=body))["id"]
            later = {**body, "run_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
            sent: dict[str, Any] = {"json": later, "headers": {"Idempotency-Key": "k"}}
            assert await host.post("/trail/jobs", 202, **sent) == await host.post("/trail/jobs", 202, **sent)
        case "batch":
            job_id = (await host.post("/trail/jobs/batch", 202, json={"jobs": [body]}))["items"][0]["id"]
        case _:
            job_id = str((await host.trail.submit(take, [Order(lines=[Line()], note="n"), Order()])).id)
    await until(lambda: host.trail.list(status="failed"))
    await host.trail.retry(job_id)
    result = await host.trail.wait(job_id, timeout=30)
    stored = (await host.trail.get(job_id)).args["orders"]
    assert result == stored[0]
    assert set(stored[0]) == {"number", "lines", "turn", "note"}
    query = "SELECT count(*) FROM jobtrail.log_lines WHERE job_id = $1 AND logger = 'jobtrail.task.take'"
    assert await place.value(query, UUID(job_id)) == 3
    assert await place.value(query.replace("count(*)", "count(DISTINCT message)"), UUID(job_id)) == 1
