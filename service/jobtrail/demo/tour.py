"""The tour of `jobtrail demo`: sample jobs are submitted, followed to their ends, and followed by what to try next."""

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
from uuid import UUID

import typer

from jobtrail.db import engine
from jobtrail.demo.hints import hints
from jobtrail.demo.mail import catch
from jobtrail.demo.trail import Trail, name_of, outcome
from jobtrail.durations import format_duration
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.query import Filter, Page, read, read_page
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit
from jobtrail.ops.nodes import read_nodes
from jobtrail.records import Job
from jobtrail.settings import Settings
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from jobtrail.wiring import load_catalog, locate, open_desk

BY: Final = "anonymous"
"""As a caller of the API without a key: what the tour submits could come from there."""

PATIENCE: Final = 60.0
"""Seconds for all sample jobs; then the tour goes on without those that some setting keeps from running."""

HELD_UP: Final = 15.0
"""Seconds that the sample jobs wait for those that an earlier process was running."""


@dataclass
class Tour:
    """Task beside the service, in its loop. `since`: when this process began; `error`: why the tour ended, and with it
    the service.
    """

    settings: Settings
    samples: str
    mail: socket
    show: Callable[[str], None]
    since: datetime = field(default_factory=lambda: datetime.now(UTC), init=False)
    error: Exception | None = field(default=None, init=False)
    going: asyncio.Task[None] | None = field(default=None, init=False)

    def begin(self, url: str) -> None:
        """Call on the service's loop, when it answers at `url`."""
        here = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        self.going = asyncio.create_task(self._go(here))

    async def _go(self, url: str) -> None:
        services = open_desk(self.settings, locate(self.settings), load_catalog(self.settings.tasks))
        try:
            async with services.session() as session:
                trail = Trail(services, self.show, await engine.clock(session))
            async with catch(self.mail, trail.note):
                await self._show_earlier(services, trail)
                typer.echo("")
                ids = [(await submit(services, each, by=BY)).id for each in _samples(url)]
                await self._follow(services, trail, ids)
                self._show_ends([await read(services, each) for each in ids], url)
                await trail.until(lambda: False)
        except Exception as error:  # noqa: BLE001 - `jobtrail demo` raises it
            self.error = error
            signal.raise_signal(signal.SIGINT)
        finally:
            await services.database.dispose()

    async def _show_earlier(self, services: Services, trail: Trail) -> None:
        """Jobs that an earlier process was running come first: to see whether they survive is what the demo is for."""
        page = await read_page(services, Page(200))
        if page.jobs:
            counts = Counter(job.status for job in page.jobs)
            said = ", ".join(f"{count} {status}" for status, count in counts.most_common())
            more = "More than " if page.following else ""
            typer.echo(f"{more}{len(page.jobs)} jobs of earlier runs are still there: {said}.")
        found = (await read_page(services, Page(20, filter=Filter(status=[Status.RUNNING])))).jobs
        running = [job for job in found if job.started_at and job.started_at < self.since]
        processes: dict[UUID | None, str] = {node.id: f"process {node.pid}" for node in await read_nodes(services)}
        lease = format_duration(self.settings.lease)
        for job in running:
            ran = f"{name_of(job.id, job.task)} ran in {processes.get(job.node_id, 'another process')}"
            self.show(f"{ran}: if that is gone, it waits for the end of its lease, {lease}")
        with suppress(TimeoutError):
            async with asyncio.timeout(HELD_UP):
                await trail.until(lambda: trail.have_begun([job.id for job in running]))

    async def _follow(self, services: Services, trail: Trail, ids: Sequence[UUID]) -> None:
        long_nap = ids[-1]
        try:
            async with asyncio.timeout(PATIENCE):
                await trail.until(lambda: trail.have_begun([long_nap]))
                await cancel(services, long_nap, by=BY, reason="the demo has seen enough of it")
                await trail.until(lambda: trail.have_ended(ids))
        except TimeoutError:
            typer.echo(f"\nNot all jobs have ended within {PATIENCE:g} s.")

    def _show_ends(self, jobs: Sequence[Job], url: str) -> None:
        typer.echo("")
        self.show(f"{'id':<36}  {'task':<14}  {'status':<9}  {'attempts':>8}  {'seconds':>7}  what came of it")
        for job in jobs:
            took = job.finished_at - job.started_at if job.finished_at and job.started_at else None
            seconds = f"{took.total_seconds():.3f}" if took else ""
            row = f"{job.id}  {job.task:<14}  {job.status:<9}  {job.attempt:>8}  {seconds:>7}"
            self.show(f"{row}  {outcome(job.status, job.result, job.error, job.cancel_reason, 60)}")
        failed = next((job for job in jobs if job.task == "flaky" and job.status is Status.FAILED), jobs[0])
        typer.echo(f"\n{hints(url, self.settings, samples=self.samples, failed=str(failed.id))}")
        typer.echo(f"\nServing {url} (process {os.getpid()}) until Ctrl-C; what moves is shown here.\n")


def _samples(url: str) -> Sequence[Submission]:
    """The last one is a nap that the tour cancels, which should not begin anew if it cannot."""
    pages = [f"{url}/health/live", f"{url}/openapi.json", f"{url}/nowhere", "http://127.0.0.1:9/", "http://192.0.2.1/"]
    mail = {"to": "ada@example.org", "subject": "Welcome", "body": "This mail never leaves the machine."}
    wanted: Sequence[Mapping[str, Any]] = (
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
    return [Submission(**each, tags=["demo"]) for each in wanted]
