"""The service as an operator runs it: a process, a socket, signals, and a database that may go away."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from jobtrail.db.migrate import migrate
from jobtrail.db.url import normalize
from support.embedded import servers_in, used_before
from support.served import CHECKOUT, Served
from support.until import until
from support.world import Place


@asynccontextmanager
async def served(folder: Path, place: Place, **settings: str) -> AsyncIterator[Served]:
    async with Served.start(folder, place.setting, **CHECKOUT, **settings) as service:
        yield service


async def test_the_whole_way_and_an_idle_end(folder: Path, place: Place) -> None:
    async with served(folder, place) as service:
        answer = await service.client.post("/v1/jobs", json={"task": "add", "args": {"a": 2, "b": 3}})
        assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
        job_id = answer.json()["id"]
        assert answer.headers["Location"] == f"{service.client.base_url}/v1/jobs/{job_id}".replace("//v1", "/v1")
        job = await service.reached(job_id, "succeeded")
        assert (job["result"], job["attempt"]) == (5, 1)
        assert [move["to_status"] for move in await service.moves(job_id)] == ["pending", "running", "succeeded"]

        failed = await service.reached(await service.submit("fail", args={"message": "as asked"}), "failed")
        assert (failed["error"]["type"], failed["error"]["message"]) == ("ValueError", "as asked")
        later = await service.submit("add", args={"a": 1, "b": 1}, run_at="2100-01-01T00:00:00Z")
        assert (await service.client.delete(f"/v1/jobs/{later}")).json()["status"] == "cancelled"
        listed = (await service.client.get("/v1/jobs")).json()["items"]
        assert [each["id"] for each in listed] == [later, failed["id"], job_id]

        service.signal(signal.SIGINT)
        code, seconds = await service.ended()
        print(f"\nan idle service stopped after {seconds:.2f} s")
        assert code == 0
    assert await place.rows("SELECT FROM jobtrail.nodes") == []


async def test_kill_9_in_the_middle_of_a_job(folder: Path, place: Place) -> None:
    gate = folder / "gate"
    async with served(folder, place, JOBTRAIL_LEASE="2s", JOBTRAIL_SLOTS="2") as service:
        once = await service.submit("wait_for", args={"gate": str(gate)})
        twice = await service.submit("wait_for", args={"gate": str(gate)}, max_attempts=2)
        for job_id in (once, twice):
            await service.reached(job_id, "running")
        waiting = await service.submit("wait_for", args={"gate": str(gate)})
        service.signal(signal.SIGKILL)
        assert (await service.ended())[0] == -signal.SIGKILL
    assert await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status = 'running'") == 2
    gate.touch()
    async with served(folder, place, JOBTRAIL_LEASE="2s") as again:
        lost = await again.reached(once, "failed")
        assert (lost["error"]["type"], lost["attempt"], lost["result"]) == ("lost", 1, None)
        assert (await again.reached(twice, "succeeded"))["result"] == "attempt 2"
        assert (await again.reached(waiting, "succeeded"))["result"] == "attempt 1"
        assert [move["to_status"] for move in await again.moves(waiting)] == ["pending", "running", "succeeded"]
        for job_id in (once, twice):
            left = next(move for move in await again.moves(job_id) if move["from_status"] == "running")
            assert left["error"]["type"] == "lost"
    assert await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status = 'running'") == 0


async def test_a_database_that_goes_away_and_comes_back(folder: Path) -> None:
    gate, server = folder / "gate", used_before(folder / "postgres")
    try:
        await migrate(normalize(await asyncio.to_thread(server.start)).sqlalchemy)
        async with Served.start(folder, server.url, **CHECKOUT) as service:
            running = await service.submit("wait_for", args={"gate": str(gate)})
            await service.reached(running, "running")
            await asyncio.to_thread(server.stop)
            assert servers_in(folder) == []
            await check_an_outage(service, gate)
            await asyncio.to_thread(server.start)
            await until(lambda: is_ready(service))
            kept = await service.reached(running, "succeeded")
            assert (kept["attempt"], kept["result"]) == (1, "attempt 1")
            fresh = await service.submit("add", args={"a": 20, "b": 22})
            assert (await service.reached(fresh, "succeeded"))["result"] == 42
            service.signal(signal.SIGTERM)
            assert (await service.ended())[0] == 0
    finally:
        await asyncio.to_thread(server.stop)
    assert servers_in(folder) == []


async def check_an_outage(service: Served, gate: Path) -> None:
    """It is said, and the job that runs ends meanwhile."""
    await asyncio.to_thread(gate.touch)
    assert (await service.client.get("/health/live")).status_code == 200
    ready = service.client.get("/health/ready")
    submit = service.client.post("/v1/jobs", json={"task": "add", "args": {"a": 1, "b": 1}})
    for answer in await asyncio.gather(ready, submit):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["type"] == "/v1/problems/unavailable"


async def is_ready(service: Served) -> bool:
    return (await service.client.get("/health/ready")).status_code == 200
