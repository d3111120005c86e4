"""What happens to jobs, as the client tells it, over connections that break."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobtrail import Gap, JobEvent, errors
from jobtrail.client import ApiError, AsyncClient
from jobtrail.records import LogLine, Transition
from jobtrail.task.context import Progress
from support.errands import add, fail, talk_and_wait, wait_for
from support.faces import FACES, client_at
from support.served import Served
from support.until import until
from support.wire import Wire, answer, answering


async def test_all_of_a_job_until_its_end(client: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = await client.submit(wait_for, gate=gate)
    events = []
    async for event in job.events():
        events.append(event)
        if isinstance(event.data, Progress):
            gate.touch()
    assert {event.job_id for event in events} == {job.id}
    told = [event.data for event in events]
    assert [each for each in told if isinstance(each, Transition)] == await client.transitions(job.id)
    assert [each for each in told if isinstance(each, LogLine)] == await client.log(job.id)
    assert [each.done for each in told if isinstance(each, Progress)] == [0]
    assert [event.id is None for event in events] == [event.kind != "transition" for event in events]

    born, *_, last = [event for event in events if event.kind == "transition"]
    again = [event.data async for event in client.job_events(job.id, since=born.id)]
    assert [each for each in again if isinstance(each, Transition)] == (await client.transitions(job.id))[1:]
    assert [event async for event in client.job_events(job.id, since=last.id)] == []


@pytest.mark.parametrize("face", FACES)
async def test_each_transition_once_however_often_it_is_cut(served: Served, face: str) -> None:
    port, name = served.client.base_url.port or 0, f"only:{uuid4().hex}"
    async with Wire.to(port, "closed", "busy") as wire, client_at(face, wire.url) as client:
        found: list[JobEvent] = []
        last = None
        async with aclosing(client.events(tags=name, status=("running", "succeeded"))) as events:
            ids = [(await client.options(tags=[name], delay=1).submit(add, n, 1)).id for n in range(5)]
            async for event in events:
                found.append(event)
                if len(found) in (1, 4):
                    wire.fates[:] = ["busy", "unanswered"]
                    wire.cut()
                if len(found) == 10:
                    break
        last = found[4].id
        assert len({event.id for event in found}) == 10
        assert {event.job_id for event in found} == {*ids}
        for job_id in ids:
            mine = [event.data.to_status for event in found if event.job_id == job_id]
            assert mine == ["running", "succeeded"]
        async with aclosing(client.events(tags=name, status=("running", "succeeded"), since=last)) as events:
            assert [await anext(events) for _ in range(5)] == found[5:]


async def test_nothing_is_missed_where_it_is_cut_before_the_first(client: Any, served: Served) -> None:
    port, tag = served.client.base_url.port or 0, uuid4().hex
    async with Wire.to(port) as wire, AsyncClient(wire.url) as other, aclosing(other.events(tags=tag)) as events:
        first = asyncio.create_task(anext(events))

        async def is_heard() -> bool:
            return b"event: hello" in wire.heard

        await until(is_heard)
        wire.away = True
        wire.cut()
        job = await client.options(tags=[tag]).submit(add, 1, 1)
        assert await job.wait(60) == 2
        wire.away = False
        assert [(await first).job_id, *[(await anext(events)).job_id for _ in range(2)]] == [job.id] * 3


async def test_a_job_whose_stream_is_cut_goes_on(client: Any, served: Served, tmp_path: Path) -> None:
    port, gate = served.client.base_url.port or 0, tmp_path / "gate"
    job = await client.submit(wait_for, gate=gate)
    async with Wire.to(port) as wire:
        for face in FACES:
            async with client_at(face, wire.url) as other:
                moves = []
                async for event in other.job_events(job.id):
                    moves += [event.data.to_status] if event.kind == "transition" else []
                    if moves[-1:] == ["running"]:
                        wire.cut()
                        gate.touch()
                assert moves == ["pending", "running", "succeeded"]


@pytest.mark.parametrize("face", FACES)
async def test_each_line_once_however_often_it_is_cut(client: Any, served: Served, tmp_path: Path, face: str) -> None:
    gate = tmp_path / "gate"
    job = await client.submit(talk_and_wait, gate=gate)
    async with Wire.to(served.client.base_url.port or 0) as wire, client_at(face, wire.url) as other:
        told = []
        async for event in other.job_events(job.id):
            told.append(event.data)
            if isinstance(event.data, LogLine) and event.data.message == "two":
                await until(lambda: has_progress(client, job.id))
                wire.cut()
                gate.touch()
    assert [each for each in told if isinstance(each, LogLine)] == await client.log(job.id)
    assert [each.done for each in told if isinstance(each, Progress)] == [1]


async def has_progress(client: Any, job_id: UUID) -> bool:
    return (await client.get(job_id)).progress is not None


HELLO = b'event: hello\ndata: {"since": "7-12345678-0"}\nretry: 0\n\n'
GAP = b'event: gap\ndata: {"reason": "too long ago", "since": null}\n\n'
ID = b"id: 9-12345678-0\n\n"


async def test_a_gap_is_not_lost_where_it_is_cut_before_it() -> None:
    cuts = [answer("text/event-stream", each) for each in (HELLO, HELLO + GAP, HELLO + ID)]
    async with answering(*cuts, answer("application/json", b"{}", 400)) as (url, heard), AsyncClient(url) as client:
        events = client.events(since="3-12345678-0")
        assert isinstance(await anext(events), Gap)
        with pytest.raises(ApiError):
            await anext(events)
    places = [each.lower().partition(b"last-event-id: ")[2].split(b"\r")[0] for each in heard]
    assert places == [b"3-12345678-0", b"3-12345678-0", b"7-12345678-0", b"9-12345678-0"]


async def test_what_cannot_be_followed(client: Any) -> None:
    with pytest.raises(errors.JobNotFoundError):
        await anext(client.job_events(uuid4()))
    job = await client.submit(fail, message="as asked")
    with pytest.raises(errors.JobFailedError):
        await job.wait(60)
    first, *others = [event async for event in job.events(since="1-12345678-0")]
    assert isinstance(first, Gap)
    assert [each.data.to_status for each in others if each.kind == "transition"] == ["pending", "running", "failed"]
    async with aclosing(client.events(since="no-id")) as events:
        first = await anext(events)
    assert isinstance(first, Gap)
    assert first.since is not None
