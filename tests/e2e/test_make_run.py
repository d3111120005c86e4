"""`make run` as a newcomer meets it: the demo is a process, and what it prints is taken at its word."""

import asyncio
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.demo import Demo, demo_folder
from support.embedded import servers_in, used_before
from support.servers import environment
from support.until import until

CHECKOUT = Path(__file__).parents[2]
THEIRS = "postgresql://host:secret@127.0.0.1:9/theirs"
"""The database of a host app: nothing is tried out there."""

ENDS = {
    ("sum_range", "succeeded", 1): 1,
    ("index_document", "succeeded", 1): 2,
    ("index_document", "failed", 1): 1,
    ("fetch_all", "succeeded", 1): 1,
    ("send_mail", "succeeded", 1): 1,
    ("flaky", "succeeded", 3): 1,
    ("flaky", "failed", 3): 1,
    ("nap", "succeeded", 1): 1,
    ("nap", "cancelled", 1): 1,
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with demo_folder() as folder:
        yield folder


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        yield client


async def jobs_of(client: httpx.AsyncClient, demo: Demo, **query: str) -> list[dict[str, Any]]:
    answer = await client.get(f"{demo.url}/v1/jobs", params={"limit": 200, "include": "args,result", **query})
    return list(answer.raise_for_status().json()["items"])


async def submit(client: httpx.AsyncClient, demo: Demo, task: str, **wanted: Any) -> str:
    answer = await client.post(f"{demo.url}/v1/jobs", json={"task": task, **wanted})
    return str(answer.raise_for_status().json()["id"])


async def reached(client: httpx.AsyncClient, demo: Demo, job_id: str, status: str, attempt: int) -> dict[str, Any]:
    async def job() -> dict[str, Any] | None:
        found: dict[str, Any] = (await client.get(f"{demo.url}/v1/jobs/{job_id}")).raise_for_status().json()
        return found if (found["status"], found["attempt"]) == (status, attempt) else None

    return await until(job)


async def become_idle(client: httpx.AsyncClient, demo: Demo) -> None:
    async def is_idle() -> bool:
        active = await jobs_of(client, demo, status="running") + await jobs_of(client, demo, status="pending")
        for job in active:
            if job["task"] == "nap":
                await client.delete(f"{demo.url}/v1/jobs/{job['id']}")
        return not active

    await until(is_idle, within=20, every=0.1)


async def outputs_of(commands: list[str], folder: Path) -> list[str]:
    """What each command wrote, all of them in one shell, which ends at the first that fails."""
    script = "\n".join(["set -euo pipefail", *(f"{each}\nprintf '\\n@@@\\n'" for each in commands)])
    shell = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", script], cwd=folder, check=False, capture_output=True, text=True, timeout=240
    )
    assert shell.returncode == 0, (shell.stdout, shell.stderr)
    return shell.stdout.split("\n@@@\n")[:-1]


async def test_from_the_first_start_to_the_second(folder: Path, client: httpx.AsyncClient) -> None:
    async with Demo.start(folder) as demo:
        await demo.says("until Ctrl-C")
        check_the_moves(demo)
        await check_the_ends(client, demo)
        await check_the_commands(client, demo, folder)
        before = {job["id"] for job in await jobs_of(client, demo)}
        await become_idle(client, demo)
        assert (await demo.stop())[0] == 0
        assert demo.said[-1].startswith("Stopped.")
        assert demo.complained == []
        assert servers_in(folder) == []
    await check_an_interrupted_tour(folder)
    async with Demo.start(folder) as again:
        said = await again.says("of earlier runs are still there")
        assert re.match(r"(\d+) jobs ", said)
        assert before <= {job["id"] for job in await jobs_of(client, again)}
        await again.says("until Ctrl-C")
        check_the_table(again)
        assert [line for line in again.said if "survived" in line or "is gone" in line] == []
        assert (await again.stop())[0] == 0


async def check_an_interrupted_tour(folder: Path) -> None:
    """Nothing of it begins anew at the next start."""
    async with Demo.start(folder, JOBTRAIL_GRACE="1s") as demo:
        await demo.says("nap               pending → running")
        assert (await demo.stop())[0] == 0
        assert demo.said[-1].startswith("Stopped.")
        assert demo.complained == []


def check_the_moves(demo: Demo) -> None:
    """The flaky job, one line for each of its moves, with the attempt and what came out."""
    lines = [line.split() for line in demo.said if re.match(r"\d\d:\d\d:\d\d\.\d{3}  …", line)]
    flaky = next(line[1] for line in lines if "well" in " ".join(line))
    moves = [" ".join(line[3:]).split(" attempt ")[0] for line in lines if line[1] == flaky]
    assert moves == [
        "→ pending", "pending → running", "running → pending", "pending → running", "running → pending",
        "pending → running", "running → succeeded",
    ]  # fmt: skip
    assert any("the mail 'Welcome' to 'ada@example.org' was caught" in line for line in demo.said)


def check_the_table(demo: Demo) -> None:
    table = [line.split() for line in demo.said if re.match(r"[0-9a-f]{8}-[0-9a-f]{4}-7", line)]
    assert Counter((task, status, int(attempts)) for _, task, status, attempts, *_ in table) == ENDS, demo.said


async def check_the_ends(client: httpx.AsyncClient, demo: Demo) -> None:
    check_the_table(demo)
    jobs = {job["task"]: job for job in await jobs_of(client, demo, status="succeeded")}
    assert jobs["sum_range"]["result"] == 12_499_997_500_000
    pages = jobs["fetch_all"]["result"]
    assert [page.get("status") for page in pages] == [200, 200, 404, None, None]
    assert "is not on this machine" in pages[4]["error"]
    assert jobs["send_mail"]["result"]["message_id"] == f"<{jobs['send_mail']['id']}@jobtrail.invalid>"
    refused = await jobs_of(client, demo, status="failed", task="index_document")
    assert "is not a document in the samples folder" in refused[0]["error"]["message"]


async def check_the_commands(client: httpx.AsyncClient, demo: Demo, folder: Path) -> None:
    """Each as it was printed, but for the one that kills."""
    commands = [line.strip() for line in demo.said if line.startswith("  ") and not line.startswith("  #")]
    kill = next(each for each in commands if "kill" in each)
    assert kill == f"sleep 1; kill -9 {demo.process.pid}"
    assert "jobtrail demo): once the lease, 5s, has run out" in await demo.says("start it again")
    outputs = await outputs_of([each for each in commands if each != kill], folder)
    failed, history, retried, own, _, cancelled, _, listed, audited, table, nap = outputs
    assert '"status":"failed"' in failed
    assert history.count('"to_status"') == 7
    assert '"status":"pending"' in retried
    assert '"task":"sum_range"' in own
    assert '"status":' in cancelled
    assert '"task":"nap"' in nap
    assert "fetch_all" in listed
    assert "ConnectionError" in audited
    assert "succeeded" in table
    again = re.search(r'"id":"([^"]+)"', retried)
    assert again
    assert (await reached(client, demo, again[1], "succeeded", attempt=4))["result"] == "attempt 4 went well"
    woken = re.search(r'"id":"([^"]+)"', cancelled)
    assert woken
    assert (await reached(client, demo, woken[1], "cancelled", attempt=1))["cancel_reason"] == "enough"
    await demo.says('"enough"')


async def test_what_a_killed_demo_was_doing_ends_or_begins_again(folder: Path, client: httpx.AsyncClient) -> None:
    used_before(folder / "postgres")
    async with Demo.start(folder, JOBTRAIL_LEASE="2s", DATABASE_URL=THEIRS) as demo:
        assert "the embedded PostgreSQL" in await demo.says("Jobtrail demo on")
        await demo.answers()
        once = await submit(client, demo, "nap", args={"seconds": 600}, max_attempts=1)
        twice = await submit(client, demo, "nap", args={"seconds": 3})
        for job_id in (once, twice):
            await reached(client, demo, job_id, "running", attempt=1)
        assert (await demo.stop(signal.SIGKILL))[0] == -signal.SIGKILL
        assert servers_in(folder) != []
    async with Demo.start(folder, JOBTRAIL_LEASE="2s", JOBTRAIL_GRACE="1s") as again:
        await again.answers()
        assert (await reached(client, again, once, "failed", attempt=1))["error"]["type"] == "lost"
        await reached(client, again, twice, "running", attempt=2)
        await again.says(f"…{once[-8:]}  nap               running → failed     attempt 1   lost: ")
        await again.says(f"…{twice[-8:]}  nap               running → pending    attempt 1   lost: ")
        await check_who_survived(again, demo.process.pid, twice)
        assert (await again.stop())[0] == 0


async def check_who_survived(demo: Demo, killed: int, twice: str) -> None:
    """One of the two, which began anew before anything else did, and ended well."""
    began = await demo.says(f"survived a kill: nap …{twice[-8:]}, attempt 2 began")
    silent = re.search(rf"began (\d+\.\d) s after process {killed} fell silent$", began)
    assert silent
    assert float(silent[1]) > 1
    sample = await demo.says("sum_range                 → pending")
    assert demo.said.index(began) < demo.said.index(sample)
    await demo.says(f"survived a kill: nap …{twice[-8:]} succeeded in attempt 2")


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_start_leaves_nothing(folder: Path, with_signal: signal.Signals) -> None:
    async with Demo.start(folder) as demo:
        await demo.says("Jobtrail demo on the embedded PostgreSQL")
        await until(lambda: asyncio.to_thread(servers_in, folder), every=0.005)
        code, _ = await demo.stop(with_signal)
        assert code in (0, 130)
        assert demo.complained == []
        # a program that was making the data folder may still be on its way out
        await until(lambda: asyncio.to_thread(lambda: not servers_in(folder)))
        assert list((folder / "tmp").iterdir()) == []


async def test_a_taken_port_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with Demo.start(folder, port) as demo:
            assert await demo.ended() == 2
    assert len(demo.complained) == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in demo.complained[0]
    assert "JOBTRAIL_PORT" in demo.complained[0]


async def test_a_database_that_it_may_not_try_out_is_not_shown(folder: Path) -> None:
    async with Demo.start(folder, JOBTRAIL_DATABASE_URL=THEIRS) as demo:
        assert await demo.ended() == 3
    assert "secret" not in "".join([*demo.said, *demo.complained])


def test_make_run_is_the_demo() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "run"]
    dry = subprocess.run(command, cwd=CHECKOUT, env=environment(), check=True, capture_output=True, text=True)
    assert dry.stdout.splitlines()[-1] == "exec .venv/bin/jobtrail demo"
