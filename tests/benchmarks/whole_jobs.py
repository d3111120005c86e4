"""Whole jobs over HTTP, beside FastAPI doing nothing: the ratio of medians, both on this machine and in turn.

    python tests/benchmarks/whole_jobs.py [ROUNDS]

It needs `wrk` (a Debian package) and the embedded PostgreSQL. Load goes to loopback only. Each round prints JSON:
`accepted` are answers 202 a second; `whole` are jobs from the first request to the last recorded end, a second; both by
the stand-alone service, and by an endpoint of a host app.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS, CONNECTIONS = 8, 32
BODY = '{"task":"noop","args":{"a":1}}'
TASKS = """
from jobtrail import task

@task
async def noop(a: int = 0) -> dict[str, int]:
    return {"ok": 1}
"""
NOTHING = """
from typing import Any
from fastapi import BackgroundTasks, FastAPI
from pydantic import BaseModel

class Submit(BaseModel):
    task: str
    args: dict[str, Any] = {}

app = FastAPI()

async def run() -> None: ...

@app.post("/jobs", status_code=202)
async def submit(body: Submit, background: BackgroundTasks) -> Submit:
    background.add_task(run)
    return body
"""
HOST = """
from typing import Any
from uuid import UUID
from bench_tasks import noop
from fastapi import FastAPI
from jobtrail import Jobs, Jobtrail
from pydantic import BaseModel

class Submit(BaseModel):
    task: str
    args: dict[str, Any] = {}

trail = Jobtrail()
app = FastAPI(lifespan=trail.lifespan)

@app.post("/jobs", status_code=202)
async def submit(body: Submit, jobs: Jobs) -> dict[str, UUID]:
    return {"job": jobs.add_task(noop, **body.args).id}
"""
BIN = Path(sys.executable).parent


@contextmanager
def served(command: list[str], folder: Path, answers: str, **settings: str) -> Iterator[dict[str, str]]:
    environ = {**{name: value for name, value in os.environ.items() if not name.startswith("JOBTRAIL_")}, **settings}
    server = subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(answers).close()  # noqa: S310 - our own loopback address
                break
            except OSError:
                time.sleep(0.1)
        yield environ
    finally:
        server.terminate()
        server.wait()


def load(url: str, folder: Path, seconds: int = SECONDS) -> float:
    """Requests a second. An answer that is no success is an error here."""
    script = folder / "post.lua"
    script.write_text(f"wrk.method='POST'\nwrk.body='{BODY}'\nwrk.headers['Content-Type']='application/json'\n")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said:
        sys.exit(said)
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    return float(found.group(1)) if found else sys.exit(said)


def nothing(folder: Path) -> dict[str, float]:
    (folder / "nothing.py").write_text(NOTHING)
    command = [str(BIN / "uvicorn"), "nothing:app", "--port", "8392", "--no-access-log", "--log-level", "warning"]
    with served(command, folder, "http://127.0.0.1:8392/openapi.json"):
        load("http://127.0.0.1:8392/jobs", folder, 2)
        return {"nothing": load("http://127.0.0.1:8392/jobs", folder)}


def alone(folder: Path) -> dict[str, float]:
    """By the stand-alone service."""
    environ = {"JOBTRAIL_PORT": "8391", "JOBTRAIL_TASKS": "bench_tasks"}
    accepted, whole = measure([str(BIN / "jobtrail"), "serve"], folder, "/health/ready", "/v1/jobs", environ)
    return {"accepted": accepted, "whole": whole}


def host(folder: Path) -> dict[str, float]:
    """By an endpoint of a host app."""
    (folder / "host.py").write_text(HOST)
    command = [str(BIN / "uvicorn"), "host:app", "--port", "8391", "--no-access-log", "--log-level", "warning"]
    accepted, whole = measure(command, folder, "/openapi.json", "/jobs", {})
    return {"host_accepted": accepted, "host_whole": whole}


def measure(command: list[str], folder: Path, ready: str, submit: str, more: dict[str, str]) -> tuple[float, float]:
    (folder / "bench_tasks.py").write_text(TASKS)
    settings = {
        "JOBTRAIL_DATABASE_URL": "embedded", "JOBTRAIL_DATA_DIR": str(folder / "postgres"),
        "JOBTRAIL_LOG_LEVEL": "WARNING", **more,
    }  # fmt: skip
    jobtrail, at = str(BIN / "jobtrail"), "http://127.0.0.1:8391"
    with served(command, folder, at + ready, **settings) as environ:

        def audited(status: str) -> bool:
            listing = [jobtrail, "ls", "--json", "--limit", "1", *status.split()]
            done = subprocess.run(listing, cwd=folder, env=environ, capture_output=True, text=True, check=True)
            return bool(json.loads(done.stdout)["items"])

        load(at + submit, folder, 2)
        while audited("--status pending --status running"):
            time.sleep(0.1)
        began = time.monotonic()
        accepted = load(at + submit, folder)
        while audited("--status pending --status running"):
            time.sleep(0.1)
        ended = accepted * SECONDS / (time.monotonic() - began)
        if audited("--status failed"):
            sys.exit("a job failed")
        return accepted, ended


def main() -> None:
    rounds = []
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            Path(folder).chmod(0o755)  # for the account that PostgreSQL runs as when root starts it
            rounds.append(nothing(Path(folder)) | alone(Path(folder)) | host(Path(folder)))
        print(json.dumps({name: round(value) for name, value in rounds[-1].items()}), flush=True)
    median = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    ratios = {name: round(value / median["nothing"], 2) for name, value in median.items() if name != "nothing"}
    print(f"of {median['nothing']:.0f}/s: {json.dumps(ratios)}")


if __name__ == "__main__":
    main()
