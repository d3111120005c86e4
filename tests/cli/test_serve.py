import asyncio
import json
import signal
from pathlib import Path

import httpx
import pytest

from support.command import Command, ended
from support.embedded import servers_in
from support.served import CHECKOUT, Served
from support.until import until
from support.world import Place


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
async def test_it_says_where_it_serves_and_ends_well(jobtrail: Command, which: signal.Signals) -> None:
    places = {"JOBTRAIL_SLOTS": "0", "JOBTRAIL_THREADS": "0", "JOBTRAIL_PROCESSES": "0"}
    only_accepts = which is signal.SIGTERM
    variables = places if only_accepts else {}
    process = await jobtrail.start("serve", JOBTRAIL_PORT="0", JOBTRAIL_SLOT="3", **variables)
    assert process.stdout
    said = (await process.stdout.readline()).decode()
    if only_accepts:
        only = b"It only accepts jobs, since JOBTRAIL_SLOTS is 0: `jobtrail work` runs them\n"
        assert await process.stdout.readline() == only
    url = said.split()[3].rstrip(";")
    async with httpx.AsyncClient(trust_env=False) as client:
        live = await client.get(f"{url}/health/live")
    process.send_signal(which)
    done = await ended(process)
    assert said == f"Jobtrail serves at {url}; how to call it: {url}/docs\n"
    assert (live.status_code, done.code, done.out) == (200, 0, "")
    assert "JOBTRAIL_SLOT is not a setting; did you mean JOBTRAIL_SLOTS?" in done.err
    assert "Traceback" not in done.err


async def test_jobs_look_the_same_through_both_doors(jobtrail: Command, folder: Path, place: Place) -> None:
    async with Served.start(folder, place.url.libpq, **CHECKOUT) as service:
        job_id = await service.submit("fail", args={"message": "as asked"}, tags=["a"], timeout=1.5)
        over_http = await service.reached(job_id, "failed")
        shown = await jobtrail("show", job_id, "--history", "--json")
        listed = await jobtrail("ls", "--json")
        asked = await jobtrail("audit", "failures_by_task", "--json")
        assert shown.json.pop("transitions") == await service.moves(job_id)
        assert {name: value for name, value in shown.json.items() if name != "transitions"} == over_http
        assert listed.json["items"] == (await service.client.get("/v1/jobs")).json()["items"]
        assert asked.json == (await service.client.get("/v1/audit/failures_by_task")).json()


@pytest.mark.parametrize("when", ["Shutting down", "Waiting for application shutdown"])
async def test_a_second_signal_does_not_wait_and_loses_nothing(folder: Path, place: Place, when: str) -> None:
    async with Served.start(folder, place.url.libpq, **CHECKOUT, JOBTRAIL_GRACE="60s") as service:
        job_id = await service.submit("wait_for", args={"gate": str(folder / "never")})
        await service.reached(job_id, "running")
        service.signal(signal.SIGINT)
        await until(lambda: _has_said(folder, when))
        service.signal(signal.SIGINT)
        assert (await service.ended())[0] == 0
    (last,) = await place.rows("SELECT from_status, to_status FROM jobtrail.transitions ORDER BY seq DESC LIMIT 1")
    assert last["from_status"] == "running"


async def test_the_embedded_database_lives_with_its_users(folder: Path) -> None:
    variables = {"JOBTRAIL_DATABASE_URL": "embedded", "JOBTRAIL_DATA_DIR": str(folder / "data"), "JOBTRAIL_PORT": "0"}
    jobtrail = Command(folder, variables)
    before = await jobtrail("url")
    listed = await jobtrail("ls", "--json")
    assert (listed.code, listed.json) == (0, {"items": []})
    assert servers_in(folder) == []
    process = await jobtrail.start("serve", "--json")
    assert process.stdout
    assert json.loads(await process.stdout.readline())["url"].startswith("http://127.0.0.1:")
    during, doctor = await jobtrail("url"), await jobtrail("doctor", "--json")
    process.send_signal(signal.SIGTERM)
    done = await ended(process)
    after = await jobtrail("url", "--json")
    told = f"the embedded PostgreSQL in {folder / 'data'} is not running: start it with `jobtrail serve`"
    assert (before.code, before.out, before.err) == (3, "", f"jobtrail: {told}\n")
    assert (during.code, during.out.startswith("postgresql://postgres@/jobtrail?host=")) == (0, True)
    assert doctor.json["ok"] is True
    assert (after.code, json.loads(after.err)["error"]) == (3, {"type": "unavailable", "detail": told})
    assert (done.code, await asyncio.to_thread(servers_in, folder)) == (0, [])


async def _has_said(folder: Path, words: str) -> bool:
    return words in (folder / "serve.log").read_text()
