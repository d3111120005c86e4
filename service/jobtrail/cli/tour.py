"""The tour of `jobtrail demo`: sample jobs are submitted, watched to their ends, and followed by what to try next."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from socket import socket
from typing import Any, Final

import httpx
import typer

from jobtrail.cli.hints import hints
from jobtrail.cli.watch import Watch, outcome
from jobtrail.demo.mail import Caught, catch
from jobtrail.job.duration import format_duration
from jobtrail.job.errors import UnavailableError
from jobtrail.settings import Settings

PATIENCE: Final = 60.0
"""Seconds for all sample jobs; then the tour goes on without those that some setting keeps from running."""


@dataclass
class Tour:
    """One visit to the service that this process serves. `error`: why the tour ended, and the service with it."""

    settings: Settings
    mail: socket
    error: Exception | None = None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _going: asyncio.Task[None] | None = field(default=None, init=False)

    @property
    def has_begun(self) -> bool:
        return self._going is not None

    def begin(self, url: str) -> None:
        """Call on the service's loop, when it answers at `url`."""
        self._going = asyncio.create_task(self._go(url))
        self._going.add_done_callback(self._stop)

    def _stop(self, going: asyncio.Task[None]) -> None:
        error = None if going.cancelled() else going.exception()
        if isinstance(error, Exception):
            self.error = error
            signal.raise_signal(signal.SIGINT)

    async def _go(self, url: str) -> None:
        here = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        service = httpx.AsyncClient(base_url=f"{here}/v1", trust_env=False, timeout=30)
        watch = Watch(service, typer.echo)
        try:
            async with service, catch(self.mail, lambda caught: watch.note(_tell_mail(caught))):
                await _tell_earlier(service)
                await watch.begin(self.since)
                jobs = await _submit(service, here)
                await self._show(service, watch, jobs, here)
                await watch.until(lambda: False)
        except httpx.TransportError:
            self._tell_stopping(watch.count("running"))
        except httpx.HTTPStatusError as error:
            answer = error.response
            raise UnavailableError(f"the demo's own service answered {answer.status_code}: {answer.text}") from error

    async def _show(self, service: httpx.AsyncClient, watch: Watch, jobs: Sequence[str], url: str) -> None:
        long_nap = jobs[-1]
        try:
            async with asyncio.timeout(PATIENCE):
                await watch.until(lambda: watch.status(long_nap) == "running")
                await service.post(f"/jobs/{long_nap}/cancel", json={"reason": "the demo has seen enough of it"})
                await watch.until(lambda: watch.have_ended(jobs))
        except TimeoutError:
            typer.echo(f"\nNot all jobs have ended within {PATIENCE:g} s.")
        found = [(await service.get(f"/jobs/{each}")).raise_for_status().json() for each in jobs]
        typer.echo(f"\n{_table(found)}\n")
        failed = next((job["id"] for job in found if job["task"] == "flaky" and job["status"] == "failed"), jobs[0])
        typer.echo(hints(url, self.settings, samples=os.environ["JOBTRAIL_DEMO_SAMPLES"], failed=failed))
        typer.echo(f"\nServing {url} (process {os.getpid()}) until Ctrl-C; what moves is shown here.\n")

    def _tell_stopping(self, running: int) -> None:
        """The service's socket is closed: it is on its way out."""
        if running:
            grace = format_duration(self.settings.grace)
            typer.echo(f"Stopping: what runs ({running}) has {grace} to end (JOBTRAIL_GRACE); Ctrl-C again: none.")


async def _tell_earlier(service: httpx.AsyncClient) -> None:
    answer = (await service.get("/jobs", params={"limit": 200})).raise_for_status().json()
    if not answer["items"]:
        return
    more = "More than " if answer["next_cursor"] else ""
    counts = Counter(job["status"] for job in answer["items"])
    said = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    typer.echo(f"{more}{len(answer['items'])} jobs of earlier runs are still there: {said}.")


async def _submit(service: httpx.AsyncClient, url: str) -> list[str]:
    typer.echo("")
    found = []
    for task, args in _samples(url):
        answer = await service.post("/jobs", json={"task": task, "args": args, "tags": ["demo"]})
        found.append(answer.raise_for_status().json()["id"])
    return found


def _samples(url: str) -> Sequence[tuple[str, Mapping[str, object]]]:
    """What the tour shows; the last one is a nap that it cancels."""
    pages = [f"{url}/health/ready", f"{url}/openapi.json", f"{url}/nowhere", "http://127.0.0.1:9/", "http://192.0.2.1/"]
    mail = {"to": "ada@example.org", "subject": "Welcome", "body": "This mail never leaves the machine."}
    return (
        ("sum_range", {"n": 5_000_000}),
        ("index_document", {"path": "README.md"}),
        ("index_document", {"path": "python-licence.txt"}),
        ("index_document", {"path": "../../etc/passwd"}),
        ("fetch_all", {"urls": pages, "at_once": 3}),
        ("send_mail", mail),
        ("flaky", {"fail_times": 2}),
        ("flaky", {"fail_times": 3}),
        ("nap", {"seconds": 1}),
        ("nap", {"seconds": 600}),
    )


def _tell_mail(caught: Caught) -> str:
    how = "came again: known by its" if caught.is_repeat else "was caught, with the"
    return f"the mail {caught.subject!a} to {caught.to!a} {how} Message-ID {caught.message_id!a}"


def _table(jobs: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{'id':<36}  {'task':<14}  {'status':<9}  {'attempts':>8}  {'seconds':>7}  what came of it"]
    for job in jobs:
        row = f"{job['id']}  {job['task']:<14}  {job['status']:<9}  {job['attempt']:>8}  {_seconds(job):>7}"
        lines.append(f"{row}  {outcome(job, 60)}")
    return "\n".join(lines)


def _seconds(job: Mapping[str, Any]) -> str:
    """Of the last attempt."""
    if not (job["started_at"] and job["finished_at"]):
        return ""
    took = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])
    return f"{took.total_seconds():.3f}"
