"""What is sent again, and what is not, where connections break and the service is busy."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from jobtrail import errors
from jobtrail.client import AsyncClient
from support.demo import free_port
from support.errands import add, nap, wait_for
from support.faces import FACES, client_at
from support.served import Served
from support.until import until
from support.wire import Fate, Wire
from support.world import Place


def port_of(served: Served) -> int:
    port = served.client.base_url.port
    assert port
    return port


async def count(place: Place, tag: str) -> int:
    return int(await place.value("SELECT count(*) FROM jobtrail.jobs WHERE tags = ARRAY[$1]", tag))


@pytest.mark.parametrize("face", FACES)
async def test_a_submit_is_sent_until_it_is_answered_and_makes_one_job(
    served: Served, kept_place: Place, face: str
) -> None:
    tag = uuid4().hex
    fates: list[Fate] = ["unanswered", "busy", "closed", "gateway", "unanswered"]
    async with Wire.to(port_of(served), *fates) as wire, client_at(face, wire.url) as client:
        job = await client.options(tags=[tag]).submit(add, 1, 2)
        assert (wire.fates, await count(kept_place, tag)) == ([], 1)
        wire.fates[:] = ["unanswered", "busy"]
        wire.cut()
        assert await job.wait(60) == 3


@pytest.mark.parametrize("face", FACES)
async def test_what_has_no_key_is_sent_again_only_if_it_did_nothing(
    served: Served, kept_place: Place, face: str
) -> None:
    tag = uuid4().hex
    for fate in ("unanswered", "gateway", "closed"):
        async with Wire.to(port_of(served), "busy", fate) as wire, client_at(face, wire.url) as client:
            with pytest.raises(errors.OutcomeUnknownError, match=f"POST {wire.url}/jobs: "):
                await client.options(tags=[tag], unique_key=f"{tag}:{fate}", delay=60).submit(nap)
            assert wire.fates == []
    assert await count(kept_place, tag) == 1


@pytest.mark.parametrize("face", FACES)
async def test_a_service_that_is_away_is_waited_for_and_then_told(face: str) -> None:
    began = time.monotonic()
    async with client_at(face, f"http://127.0.0.1:{free_port()}/v1", retry_for=1) as client:
        with pytest.raises(errors.UnavailableError, match="cannot be reached: ConnectError"):
            await client.list()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with client_at(face, f"http://127.0.0.1:{port}/v1", retry_for=0, timeout=0.2) as client:
            with pytest.raises(errors.OutcomeUnknownError, match="ReadTimeout"):
                await client.submit("add", a=1, b=1)
            with pytest.raises(errors.UnavailableError, match="ReadTimeout") as caught:
                await client.list()
    assert type(caught.value) is errors.UnavailableError
    assert time.monotonic() - began > 0.2


@pytest.mark.parametrize("face", FACES)
async def test_it_comes_back_while_one_waits(served: Served, face: str) -> None:
    async with Wire.to(port_of(served), *(["closed"] * 3)) as wire, client_at(face, wire.url, retry_for=60) as client:
        assert (await client.list(limit=1)).items is not None
        assert wire.fates == []


@pytest.mark.parametrize("face", FACES)
async def test_a_wait_that_breaks_off_late_is_sent_again(served: Served, tmp_path: Path, face: str) -> None:
    gate = tmp_path / "gate"
    async with Wire.to(port_of(served)) as wire, client_at(face, wire.url, retry_for=0.5) as client:
        job = await client.submit(wait_for, gate=gate)
        waiting = asyncio.create_task(job.wait(60))
        await asyncio.sleep(0.7)  # the wait alone has taken longer than the service may be away
        wire.cut()
        gate.touch()
        assert await waiting == "attempt 1"


@pytest.mark.parametrize("face", FACES)
async def test_a_wait_goes_from_one_process_that_stops_to_the_next(
    served: Served, url: str, tmp_path: Path, face: str
) -> None:
    gate = tmp_path / "gate"
    async with AsyncClient(url) as other:
        job = await other.submit(wait_for, gate=gate)
    async with Wire.to(port_of(served)) as wire, client_at(face, wire.url, retry_for=1, timeout=1) as client:
        waiting = asyncio.create_task(client.wait(job.id, 60))
        for number in (1, 2):

            async def is_taken(number: int = number) -> bool:
                return wire.taken >= number

            await until(is_taken)
            await asyncio.sleep(1.2)  # held for longer than an answer takes, and the service may be away
            wire.cut()
        gate.touch()
        assert await waiting == "attempt 1"


@pytest.mark.parametrize("face", FACES)
async def test_as_many_wait_as_the_service_lets(served: Served, tmp_path: Path, face: str) -> None:
    gate, many = tmp_path / "gate", 120

    async def all_wait() -> bool:
        return wire.connections >= many

    async with Wire.to(port_of(served)) as wire, client_at(face, wire.url, retry_for=0) as client:
        job = await client.submit(wait_for, gate=gate)
        with ThreadPoolExecutor(many) as threads:
            if face == "blocking":
                call, loop = partial(client.thing.wait, job.id, 60), asyncio.get_running_loop()
                waiting = [loop.run_in_executor(threads, call) for _ in range(many)]
            else:
                waiting = [asyncio.ensure_future(client.wait(job.id, 60)) for _ in range(many)]
            try:
                await until(all_wait)
                assert (await client.get(job.id)).id == job.id
            finally:
                gate.touch()
            assert await asyncio.gather(*waiting) == ["attempt 1"] * many


async def test_a_lent_client_without_a_free_connection_says_so(served: Served) -> None:
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(limits=limits) as lent, Wire.to(port_of(served)) as wire:
        client = AsyncClient(wire.url, http=lent, timeout=0.1, retry_for=0)
        waiting = asyncio.create_task(anext(client.events(task="nobody")))

        async def is_heard() -> bool:
            return b"event: hello" in wire.heard

        await until(is_heard)
        with pytest.raises(errors.UnavailableError, match="was not sent: all connections that the given httpx client"):
            await client.list()
        waiting.cancel()
        await asyncio.wait({waiting})
