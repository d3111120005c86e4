"""Clients that others generate from the OpenAPI description, as it is served: made, compiled, and driven through a
submit and a wait. `make generated` installs what makes them.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.served import CHECKOUT, Served
from support.servers import environment
from support.world import Place

TOP = Path(__file__).parents[2]
MADE = TOP / ".venv-generated"
BIN = MADE / "bin"
NODE = MADE / "node_modules" / ".bin"

pytestmark = pytest.mark.skipif(not (MADE / "made").exists(), reason="`make generated` installs the generators")

PYTHON = """
import sys, time
from jobs_client import AuthenticatedClient
from jobs_client.api.jobs import get_job, move_jobs, submit_job
from jobs_client.models import Bulk, BulkBody, BulkBodyAction, BulkFilter, Job, Submission, SubmissionArgs

client = AuthenticatedClient(sys.argv[1], token="none")
body = Submission(task="add", args=SubmissionArgs.from_dict({"a": 2, "b": 3}))
job = submit_job.sync(client=client, body=body, idempotency_key="of-python")
again = submit_job.sync(client=client, body=body, idempotency_key="of-python")
assert isinstance(job, Job) and isinstance(again, Job), job
assert job.id == again.id
while isinstance(job, Job) and job.status not in ("succeeded", "failed"):
    time.sleep(0.05)
    job = get_job.sync(job.id, client=client)
assert isinstance(job, Job), job
print(job.status, job.result)
retry = BulkBody(action=BulkBodyAction.RETRY, filter_=BulkFilter(task=["add"]), dry_run=True)
moved = move_jobs.sync(client=client, body=retry)
assert isinstance(moved, Bulk), moved
print(moved.matched)
"""

TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };
const address: string = process.argv[2]!;
const client = createClient<paths>({ baseUrl: address });
type Job = components["schemas"]["JobtrailJob"];

async function main(): Promise<void> {
  const { data, error } = await client.POST("/v1/jobs", { body: { task: "add", args: { a: 20, b: 30 } } });
  if (error || !data) throw new Error(JSON.stringify(error));
  let job: Job = data;
  while (job.status === "pending" || job.status === "running") {
    await new Promise((done) => setTimeout(done, 50));
    const found = await client.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job.id } } });
    if (!found.data) throw new Error(JSON.stringify(found.error));
    job = found.data;
  }
  console.log(job.status, job.result);
  const moved = await client.POST("/v1/jobs/bulk", {
    body: { action: "retry", filter: { task: ["add"] }, dry_run: true },
  });
  console.log(moved.data?.matched);
}

main();
"""


@pytest.fixture
async def served(folder: Path, place: Place) -> AsyncIterator[Served]:
    async with Served.start(folder, place.setting, **CHECKOUT) as served:
        described = (await served.client.get("/openapi.json")).raise_for_status()
        (folder / "openapi.json").write_bytes(described.content)
        yield served


async def run(folder: Path, *command: str | Path) -> str:
    running = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={**environment(), "PATH": f"{BIN}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await running.communicate()
    assert running.returncode == 0, said.decode()
    return said.decode()


async def test_openapi_python_client(folder: Path, served: Served) -> None:
    options = ("--path", "openapi.json", "--meta", "none", "--output-path", "jobs_client", "--fail-on-warning")
    await run(folder, BIN / "openapi-python-client", "generate", *options)
    (folder / "drive.py").write_text(PYTHON)
    await run(folder, BIN / "python", "-W", "error", "-m", "compileall", "-q", "jobs_client")
    # of their client.py mypy takes `__exit__` amiss, whatever the description says
    own = (
        "--config-file=",
        "--follow-imports=silent",
        f"--python-executable={BIN / 'python'}",
        f"--cache-dir={TOP}/.mypy_cache/generated",
    )
    await run(folder, sys.executable, "-m", "mypy", "--strict", *own, "drive.py")
    said = await run(folder, BIN / "python", "drive.py", str(served.client.base_url).rstrip("/"))
    assert said.split() == ["succeeded", "5", "0"]


async def test_openapi_typescript(folder: Path, served: Served) -> None:
    (folder / "node_modules").symlink_to(MADE / "node_modules")
    options = ("openapi.json", "--output", "schema.d.ts", "--default-non-nullable=false")
    await run(folder, BIN / "node", NODE / "openapi-typescript", *options)
    (folder / "drive.mts").write_text(TYPESCRIPT)
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom")
    await run(folder, BIN / "node", NODE / "tsc", *options, "drive.mts")
    said = await run(folder, BIN / "node", "drive.mjs", str(served.client.base_url).rstrip("/"))
    assert said.split() == ["succeeded", "50", "0"]
