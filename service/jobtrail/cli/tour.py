"""The tour of `jobtrail demo`: sample jobs are submitted, watched to their ends, and followed by what to try next."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from socket import socket
from typing import Any, Final

import httpx
import typer

from jobtrail.cli.hints import hints
from jobtrail.cli.screen import screen
from jobtrail.cli.survivors import Survivors
from jobtrail.cli.watch import Watch, outcome
from jobtrail.demo.mail import Caught, catch
from jobtrail.job.duration import format_duration
from jobtrail.job.errors import UnavailableError
from jobtrail.settings import Settings

PATIENCE: Final = 60.0
"""Seconds for all sample jobs; then the tour goes on without those that some setting keeps from running."""

HELD_UP: Final = 15
"""Seconds that the tour waits for jobs whose process was killed; longer than that they go on beside it."""


@dataclass
class Tour:
    """One visit to the service that this process serves. `error`: why the tour ended, and the service with it."""

    settings: Settings
    mail: socket
    error: Exception | None = None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    _show_line: Callable[[str], None] = field(default_factory=screen, init=False)
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
        survivors = Survivors(service, self.settings.lease, self.settings.poll_every)
        watch = Watch(service, self._show_line, survivors.remark)
        try:
            async with service, catch(self.mail, lambda caught: watch.note(_tell_mail(caught))):
                await _tell_earlier(service)
                await watch.begin(self.since)
                await self._wait_for(survivors, watch)
                jobs = await _submit(service, here)
                await self._show(service, watch, jobs, here)
                await watch.until(lambda: False)
        except httpx.TransportError:
            self._tell_stopping(watch.count("running"))
        except httpx.HTTPStatusError as error:
            answer = error.response
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                typer.echo(f"\nThis service asks for an access key now, so the demo shows no more.\n{_serving(here)}.")
                return
            raise UnavailableError(f"the demo's own service answered {answer.status_code}: {answer.text}") from error

    async def _wait_for(self, survivors: Survivors, watch: Watch) -> None:
        for line in await survivors.find(self.since):
            self._show_line(line)
        if survivors.patience <= HELD_UP:
            with suppress(TimeoutError):
                async with asyncio.timeout(survivors.patience + 1):
                    await watch.until(lambda: not survivors.waiting)

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
        typer.echo("")
        for line in _table(found):
            self._show_line(line)
        typer.echo("")
        failed = next((job["id"] for job in found if job["task"] == "flaky" and job["status"] == "failed"), jobs[0])
        typer.echo(hints(url, self.settings, samples=os.environ["JOBTRAIL_DEMO_SAMPLES"], failed=failed))
        typer.echo(f"\n{_serving(url)}; what moves is shown here.\n")

    def _tell_stopping(self, running: int) -> None:
        """The service's socket is closed: it is on its way out."""
        if running:
            grace = format_duration(self.settings.grace)
            typer.echo(f"Stopping: what runs ({running}) has {grace} to end (JOBTRAIL_GRACE); Ctrl-C again: none.")


def _serving(url: str) -> str:
    return f"Serving {url} (process {os.getpid()}) until Ctrl-C"


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
    for wanted in _samples(url):
        answer = await service.post("/jobs", json={**wanted, "tags": ["demo"]})
        found.append(answer.raise_for_status().json()["id"])
    return found


def _samples(url: str) -> Sequence[Mapping[str, object]]:
    """What the tour shows; the last one is a nap that it cancels, which should not begin anew if it cannot."""
    pages = [f"{url}/health/ready", f"{url}/openapi.json", f"{url}/nowhere", "http://127.0.0.1:9/", "http://192.0.2.1/"]
    mail = {"to": "ada@example.org", "subject": "Welcome", "body": "This mail never leaves the machine."}
    return (
        {"task": "sum_range", "args": {"n": 5_000_000}},
        {"task": "index_document", "args": {"path": "README.md"}},
        {"task": "index_document", "args": {"path": "python-licence.txt"}},
        {"task": "index_document", "args": {"path": "../../etc/passwd"}},
        {"task": "fetch_all", "args": {"urls": pages, "at_once": 3}},
        {"task": "send_mail", "args": mail},
        {"task": "flaky", "args": {"fail_times": 2}},
        {"task": "flaky", "args": {"fail_times": 3}},
        {"task": "nap", "args": {"seconds": 1}},
        {"task": "nap", "args": {"seconds": 600}, "max_attempts": 1},
    )


def _tell_mail(caught: Caught) -> str:
    how = "came again: known by its" if caught.is_repeat else "was caught, with the"
    return f"the mail {caught.subject!a} to {caught.to!a} {how} Message-ID {caught.message_id!a}"


def _table(jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [f"{'id':<36}  {'task':<14}  {'status':<9}  {'attempts':>8}  {'seconds':>7}  what came of it"]
    for job in jobs:
        row = f"{job['id']}  {job['task']:<14}  {job['status']:<9}  {job['attempt']:>8}  {_seconds(job):>7}"
        lines.append(f"{row}  {outcome(job, 60)}")
    return lines


def _seconds(job: Mapping[str, Any]) -> str:
    """Of the last attempt."""
    if not (job["started_at"] and job["finished_at"]):
        return ""
    took = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])
    return f"{took.total_seconds():.3f}"
