"""Jobs of an endpoint that come after others."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail import Jobs
from jobtrail.embed.handle import BatchHandle
from support.host import Host
from support.tasks import noop


async def test_jobs_of_a_request_come_after_each_other_and_after_others(host: Host) -> None:
    async def chain(jobs: Jobs) -> list[UUID]:
        first = jobs.add_task(noop, 1)
        second = jobs.options(after=[first]).add_task(noop, 2)
        third = jobs.options(after=[first.id, str(second.id)]).add_task(noop, 3)
        return [first.id, second.id, third.id]

    async def unknown(jobs: Jobs, parent: UUID) -> None:
        jobs.options(after=[parent]).add_task(noop)

    host.app.post("/chain", status_code=202)(chain)
    host.app.post("/unknown", status_code=202)(unknown)
    ids = [UUID(each) for each in (await host.client.post("/chain")).json()]
    assert await host.trail.wait(ids[2], 60) == {"ok": 3}
    jobs = [await host.trail.get(each) for each in ids]
    assert [list(each.after) for each in jobs] == [[], ids[:1], ids[:2]]
    ends = [each.finished_at for each in jobs if each.finished_at]
    begins = [each.started_at for each in jobs if each.started_at]
    assert all(end < begin for end, begin in zip(ends[:2], begins[1:], strict=True))

    refused = await host.client.post("/unknown", params={"parent": str(UUID(int=1))})
    assert (refused.status_code, refused.json()) == (
        422, {"detail": f"/after/0: no job has the id {UUID(int=1)}"}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"after": "a"}, "it takes several jobs"),
        ({"after": 5}, "it takes several jobs"),
        ({"after": [], "session": AsyncSession()}, "after= and session= do not go together"),
    ],
)
async def test_what_cannot_be_meant_by_after_is_refused(host: Host, options: dict[str, Any], words: str) -> None:
    refused: list[TypeError] = []

    async def endpoint(jobs: Jobs) -> None:
        with pytest.raises(TypeError, match=words) as found:
            jobs.options(**options).add_task(noop)
        refused.append(found.value)

    host.app.post("/refused", status_code=202)(endpoint)
    assert (await host.client.post("/refused")).status_code == 202
    assert len(refused) == 1


async def test_jobs_of_a_request_are_a_batch_with_one_at_their_end(host: Host) -> None:
    handles: list[BatchHandle] = []

    async def endpoint(jobs: Jobs) -> dict[str, UUID]:
        some = [jobs.add_task(noop, n) for n in range(3)]
        handles.append(jobs.batch(some, on_done=jobs.options(tags=["last"]).add_task(noop, 9)))
        jobs.add_task(noop, 10)
        return {"batch": handles[0].id}

    host.app.post("/batch", status_code=202)(endpoint)
    assert (await host.client.post("/batch")).json() == {"batch": str(handles[0].id)}
    done = await handles[0].wait(60)
    assert (done.total, done.succeeded, done.progress, done.created_by) == (3, 3, 1.0, "app")
    assert done.on_done is not None
    assert await host.trail.wait(done.on_done, 60) == {"ok": 9}
    assert (await host.trail.get(done.on_done)).tags == ["last"]
    assert [each.id for each in await host.trail.list(tags="last")] == [done.on_done]
    assert await handles[0].read() == done


async def test_what_cannot_be_a_batch_is_refused(host: Host) -> None:
    refused: list[bool] = []

    async def endpoint(jobs: Jobs) -> None:
        stored = jobs.add_task(noop)
        await jobs.commit()
        first, second = jobs.add_task(noop), jobs.add_task(noop)
        keyed = jobs.options(idempotency_key="k").add_task(noop)
        jobs.batch([first])
        for some, last in (([], None), ([second], second), ([first], None), ([stored], None), ([keyed], None)):
            with pytest.raises(TypeError, match="a batch takes 1 to"):
                jobs.batch(some, on_done=last)
            refused.append(True)

    host.app.post("/refused", status_code=202)(endpoint)
    assert (await host.client.post("/refused")).status_code == 202
    assert len(refused) == 5
