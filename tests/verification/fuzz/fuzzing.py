"""Every call of the service, and chains of them, with what schemathesis makes of the OpenAPI document."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg

from support.served import CHECKOUT, Served
from support.servers import environment

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")

# Rows end and go while the calls come in; an outcome that is slow to come would only make the run longer.
SETTINGS: Final = {
    **CHECKOUT, "JOBTRAIL_TASKS": "fuzz.errands", "JOBTRAIL_TTL": "20s", "JOBTRAIL_TTL_FAILED": "20s",
    "JOBTRAIL_PURGE_EVERY": "1s", "JOBTRAIL_PROCESSES": "1", "JOBTRAIL_STREAM_MAX": "1s",
    "JOBTRAIL_WEBHOOK_ALLOW": "127.0.0.1", "JOBTRAIL_WEBHOOK_SECRET": "whsec_" + "A" * 44,
}  # fmt: skip


@dataclass
class Figures:
    """What came of a run. `let_pass`: failures known to be none; `accepted`: calls that did their work."""

    cases: int = 0
    rounds: int = 0
    let_pass: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)
    reached: dict[str, int] = field(default_factory=dict)
    said: str = ""
    logged: list[str] = field(default_factory=list)

    def add(self, report: dict[str, Any], said: str) -> None:
        self.rounds += 1
        self.cases += report["test_cases"]["generated"]
        self.let_pass += report["filtered"]
        self.errors += [json.dumps(each) for each in report["errors"]]
        for each in report["failures"]:
            for operation in each["operations"]:
                self.failures[f"{each['title']}: {operation}"] += 1
        for operation, phases in report["valid_rates"].items():
            self.accepted[operation] += sum(rates["accepted"] for rates in phases.values())
        if report["exit_code"]:
            self.said += said


async def fuzz(folder: Path, url: str, *, cases: int, seed: int, examples: int, phases: Sequence[str]) -> Figures:
    """At least `cases`, in rounds with one seed after the other; only the first does what is the same with any seed.

    `url` is that of an empty, migrated database; `examples`: cases for each call and phase of a round.
    """
    figures, log = Figures(), folder / "serve.log"
    log.write_text("")
    async with Served.start(folder, url, **SETTINGS) as served:
        made = await served.client.post("/v1/keys", json={"name": "fuzz", "scopes": ["submit", "operate"]})
        key = made.raise_for_status().json()
        served.client.headers["Authorization"] = f"Bearer {key['key']}"
        variables = {
            "FUZZ_KEY": key["key"], "FUZZ_KEY_ID": key["id"], "FUZZ_TASKS": (await served.client.get("/v1/tasks")).text,
        }  # fmt: skip
        resuming = asyncio.create_task(_resume(served))
        while figures.cases < cases and not figures.failures and not figures.errors:
            words = (
                "--seed",
                str(seed + figures.rounds),
                "--max-examples",
                str(examples),
                "--phases",
                ",".join(phases),
            )
            figures.add(*await _round(folder, str(served.client.base_url), words, variables))
            phases = [each for each in phases if each not in {"examples", "coverage"}]
        resuming.cancel()
        with suppress(asyncio.CancelledError):
            await resuming
        (await served.client.get("/health/ready")).raise_for_status()
        # the key works to the end: else all that was refused was refused for that
        (await served.client.get("/v1/jobs")).raise_for_status()
    # a job that failed, as a made-up one may, is an error of its task
    figures.logged = [
        line for line in log.read_text().splitlines() if " ERROR " in line and " ERROR jobtrail.task " not in line
    ]
    figures.reached = await _reached(url)
    return figures


async def _round(folder: Path, url: str, words: Sequence[str], variables: dict[str, str]) -> tuple[dict[str, Any], str]:
    report = folder / "report.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json", *words,
        "--checks", "all", "--report", "json", "--report-json-path", str(report), "--no-color",
        cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=environment(PYTHONPATH=os.pathsep.join(sys.path), SCHEMATHESIS_HOOKS="fuzz.hooks", **variables),
    )  # fmt: skip
    said, _ = await process.communicate()
    assert report.exists(), said.decode()
    found = json.loads(report.read_text())
    report.unlink()
    return found, said.decode()


async def _resume(served: Served) -> None:
    """What was paused is resumed soon after, or no job would be run any more."""
    while True:
        for each in (await served.client.get("/v1/pauses")).raise_for_status().json()["items"]:
            await served.client.delete(f"/v1/pauses/{each['kind']}/{each['name']}")
        await asyncio.sleep(0.5)


async def _reached(url: str) -> dict[str, int]:
    """How many moves there were to each status."""
    connection = await asyncpg.connect(url)
    try:
        return dict(
            await connection.fetch("SELECT to_status, count(*) FROM jobtrail.transitions GROUP BY 1 ORDER BY 1")
        )
    finally:
        await connection.close()
