"""Event streams over real connections: what a reader sees, where it goes on, and how a stream ends."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx

from jobtrail.ops import keys
from support.served import CHECKOUT, Served
from support.sse import Sent, last_id, read
from support.until import until
from support.world import Place, services_at

ENDS = ("succeeded", "failed", "cancelled")


@asynccontextmanager
async def stream(served: Served, path: str, since: str | None = None, **headers: str) -> AsyncIterator[httpx.Response]:
    said = headers if since is None else {**headers, "Last-Event-ID": since}
    async with served.client.stream("GET", path, headers=said) as answer:
        yield answer


async def whole(served: Served, path: str, since: str | None = None) -> list[Sent]:
    async with stream(served, path, since) as answer:
        assert answer.status_code == 200, await answer.aread()
        return [each async for each in read(answer)]


async def some(answer: httpx.Response, enough: Callable[[list[Sent]], bool]) -> list[Sent]:
    seen: list[Sent] = []
    async for each in read(answer):
        seen.append(each)
        if enough(seen):
            break
    return seen


def moves(seen: list[Sent]) -> list[tuple[str, int]]:
    return [(each.data["job_id"], each.data["seq"]) for each in seen if each.event == "transition"]


def ended(jobs: int) -> Callable[[list[Sent]], bool]:
    return lambda seen: sum(each.event == "transition" and each.data["to_status"] in ENDS for each in seen) >= jobs


async def test_a_job_tells_all_it_does_and_ends(tmp_path: Path, place: Place) -> None:
    async with Served.start(tmp_path, place.setting, **CHECKOUT) as served:
        job = await served.submit("talk")
        seen = await whole(served, f"/v1/jobs/{job}/events")
        assert [each.data["seq"] for each in seen if each.event == "transition"] == [1, 2, 3]
        assert seen[0].event == "hello"
        assert seen[-1] == Sent("end", {"reason": "ended"}, None)
        lines = [each for each in seen if each.event == "log"]
        assert [each.data["message"] for each in lines] == ["one", "two", "three"]
        assert [each.event for each in seen if each.id] == ["transition"] * 3
        # the lines of an attempt lie between its beginning and its end
        assert [each.data["to_status"] for each in seen if each.event == "transition"][-1] == "succeeded"
        assert seen.index(lines[-1]) < seen.index([each for each in seen if each.id][-1])

        again = await whole(served, f"/v1/jobs/{job}/events")
        assert [each for each in again if each.event != "progress"] == [
            each for each in seen if each.event != "progress"
        ]
        first, _, last = [each.id for each in seen if each.id]
        rest = await whole(served, f"/v1/jobs/{job}/events", first)
        assert moves(rest) == moves(seen)[1:]
        async with stream(served, f"/v1/jobs/{job}/events", last) as answer:
            assert answer.status_code == 204
        for other in ("no id", "7.0.0.0", "1-12345678-0"):
            gap = (await whole(served, f"/v1/jobs/{job}/events", other))[1]
            assert (gap.event, gap.data["reason"]) == ("gap", "this id is of another history")
        async with stream(served, f"/v1/jobs/{uuid4()}/events") as answer:
            assert answer.status_code == 404
            assert (await answer.aread()).startswith(b"{")


async def test_a_reader_goes_on_in_another_process_after_a_kill(tmp_path: Path, place: Place) -> None:
    """It was at an event of the first process; everything that the second one tells comes after it."""
    folders = [tmp_path / each for each in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    async with Served.start(folders[1], place.setting, **CHECKOUT) as second:
        async with Served.start(folders[0], place.setting, **CHECKOUT) as first, stream(first, "/v1/events") as answer:
            wanted = asyncio.create_task(some(answer, ended(3)))
            for _ in range(3):
                await second.submit("talk")
            seen = await wanted
            await second.submit("talk")
            first.signal(signal.SIGKILL)
        last = [each.id for each in seen if each.id][-1]
        async with stream(second, "/v1/events", last) as answer:
            jobs = {job for job, _ in moves(seen)}
            rest = await some(
                answer, lambda found: ended(1)([each for each in found if each.data.get("job_id") not in jobs])
            )
        history = await place.rows("SELECT job_id::text AS job, seq FROM jobtrail.transitions")
        both = moves(seen) + moves(rest)
        assert len(both) == len(set(both))
        assert set(both) == {(row["job"], row["seq"]) for row in history}


async def test_filters(tmp_path: Path, place: Place) -> None:
    async with Served.start(tmp_path, place.setting, **CHECKOUT) as served:
        async with stream(served, "/v1/events?status=succeeded&queue=a&queue=b&tag=x") as answer:
            for queue, tags in (("a", ["x", "y"]), ("b", ["x"]), ("c", ["x"]), ("a", ["y"])):
                await served.submit("talk", queue=queue, tags=tags)
            seen = await some(answer, lambda found: len(moves(found)) == 2)
        assert {each.data["to_status"] for each in seen if each.id} == {"succeeded"}
        for wrong in ("stat=failed", "status=done", "status=", "task=" + "x" * 201):
            assert (await served.client.get(f"/v1/events?{wrong}")).status_code == 422
        async with stream(served, "/v1/events", "7-12345678-0") as answer:
            [_, gap] = await some(answer, lambda found: len(found) == 2)
        assert gap.event == "gap"


async def test_a_reader_that_gets_nothing_knows_how_far_it_has_read(tmp_path: Path, place: Place) -> None:
    quiet = "/v1/events?status=cancelled"
    async with Served.start(tmp_path, place.setting, **CHECKOUT, JOBTRAIL_STREAM_MAX="1s") as served:
        async with stream(served, quiet, "1-00000000-0") as answer:
            began = await last_id(answer)  # after a gap
        job = await served.submit("talk")
        await whole(served, f"/v1/jobs/{job}/events")
        async with stream(served, quiet, began) as answer:
            reached = await last_id(answer)
        for since in (began, reached):
            assert [each.event for each in await whole(served, quiet, since)] == ["hello", "end"]
        assert moves(await whole(served, "/v1/events", began)) == [(job, 1), (job, 2), (job, 3)]
        assert moves(await whole(served, "/v1/events", reached)) == []


async def test_who_may_only_submit_sees_its_own_jobs(tmp_path: Path, place: Place) -> None:
    services = services_at(place)
    texts = {}
    for name in ("ann", "bob"):
        _, texts[name] = await keys.create_key(services, name, ["submit"], by="test")
    async with Served.start(tmp_path, place.setting, **CHECKOUT) as served:
        ids = {}
        said = {name: {"Authorization": f"Bearer {text}"} for name, text in texts.items()}
        async with stream(served, "/v1/events", **said["ann"]) as answer:
            for name in ("bob", "ann"):
                sent = await served.client.post("/v1/jobs", json={"task": "talk"}, headers=said[name])
                ids[name] = sent.json()["id"]
            seen = await some(answer, ended(1))
        assert {job for job, _ in moves(seen)} == {ids["ann"]}
        async with stream(served, f"/v1/jobs/{ids['bob']}/events", **said["ann"]) as answer:
            assert answer.status_code == 404


async def test_there_are_so_many_streams_and_no_more(tmp_path: Path, place: Place) -> None:
    async with Served.start(
        tmp_path, place.setting, **CHECKOUT, JOBTRAIL_STREAMS="2", JOBTRAIL_STREAM_MAX="1s"
    ) as served:
        async with stream(served, "/v1/events") as one, stream(served, "/v1/events"):
            async with stream(served, "/v1/events") as refused:
                problem = await refused.aread()
            assert refused.status_code == 503
            assert refused.headers["Retry-After"]
            assert b"too-many-streams" in problem
            seen = [each async for each in read(one)]
        assert seen[-1] == Sent("end", {"reason": "renew"}, None)
        head = await served.client.head("/v1/events")
        assert head.headers["Content-Type"].startswith("text/event-stream")

        async def room() -> bool:
            async with stream(served, "/v1/events") as answer:
                return answer.status_code == 200

        await until(room)


async def test_it_stops_while_streams_are_open_one_of_which_is_never_read(tmp_path: Path, place: Place) -> None:
    async with Served.start(tmp_path, place.setting, **CHECKOUT) as served:
        jobs, url = 20_000, served.client.base_url
        unread = socket.create_connection((url.host, url.port))
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with stream(served, "/v1/events") as answer:
            has_read = asyncio.Event()

            def is_over(found: list[Sent]) -> bool:
                if len(found) > jobs:
                    has_read.set()
                return found[-1].event == "end"

            reader = asyncio.create_task(some(answer, is_over))
            unread.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await asyncio.to_thread(unread.recv, 1)
            # far more than what the sockets between hold
            await place.psql.execute(
                "INSERT INTO jobtrail.jobs (id, task)"
                " SELECT gen_random_uuid(), repeat('x', 200) FROM generate_series(1, $1)",
                jobs,
            )
            await has_read.wait()
            served.signal(signal.SIGTERM)
            code, seconds = await served.ended()
            seen = await reader
        unread.close()
    assert code == 0
    assert seen[-1] == Sent("end", {"reason": "shutdown"}, None)
    assert seconds < 20, "the grace of the service"


async def test_a_request_waits_for_the_end(tmp_path: Path, place: Place) -> None:
    async with Served.start(tmp_path, place.setting, **CHECKOUT) as served:
        nap = {"task": "nap", "args": {"seconds": 60}}
        quick = await served.client.post(
            "/v1/jobs", json={"task": "talk"}, headers={"Prefer": "respond-async, Wait = 20"}
        )
        assert (quick.status_code, quick.json()["status"]) == (200, "succeeded")
        assert quick.headers["Preference-Applied"] == "wait=20"
        slow = await served.client.post("/v1/jobs", json=nap, headers={"Prefer": "wait=1"})
        assert (slow.status_code, slow.json()["status"]) == (202, "running")
        assert slow.headers["Preference-Applied"] == "wait=1"
        job = slow.json()["id"]
        for said in ("wait=abc", "wait=0", "wait=-1", "wait", "handling=strict", ""):
            answer = await served.client.get(f"/v1/jobs/{job}", headers={"Prefer": said})
            assert answer.status_code == 200
            assert "Preference-Applied" not in answer.headers
        waits = asyncio.create_task(served.client.get(f"/v1/jobs/{job}", headers={"Prefer": "wait=99"}))
        await asyncio.sleep(0)
        await served.client.post(f"/v1/jobs/{job}/cancel")
        answer = await waits
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert answer.headers["Preference-Applied"] == "wait=30"
        tag = answer.headers["ETag"]
        answer = await served.client.get(f"/v1/jobs/{job}", headers={"Prefer": "wait=5", "If-None-Match": tag})
        assert (answer.status_code, answer.headers["Preference-Applied"]) == (304, "wait=5")


async def test_a_service_that_stops_lets_nobody_wait(tmp_path: Path, place: Place) -> None:
    async with Served.start(tmp_path, place.setting, **CHECKOUT) as served:
        job = await served.submit("nap", args={"seconds": 60})
        await served.reached(job, "running")
        waits = asyncio.create_task(served.client.get(f"/v1/jobs/{job}", headers={"Prefer": "wait=30"}))
        await asyncio.sleep(0.5)
        served.signal(signal.SIGTERM)
        assert (await waits).status_code == 202
        served.signal(signal.SIGTERM)
        await served.ended()
