"""The tour of `jobtrail demo`: sample jobs are submitted and followed to their ends; then comes what to try next."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from socket import socket
from typing import Any, Final
from uuid import UUID

import typer
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import text

from jobtrail import durations, errors, ranges, wiring
from jobtrail.db import engine
from jobtrail.db.programs import installed_programs
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.query import Filter, Page, read, read_page
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit
from jobtrail.ops.nodes import read_nodes
from jobtrail.records import Job
from jobtrail.settings import EMBEDDED, Settings
from jobtrail.status import Status
from jobtrail.task.submission import Submission

BY: Final = "anonymous"
"""As a caller of the API without a key: the jobs of the tour could come from there."""

PATIENCE: Final = 60.0
"""Seconds for all sample jobs; then the tour goes on without those that some setting keeps from running."""

HELD_UP: Final = 15.0
"""Seconds that the sample jobs wait for those that an earlier process was running."""

EVERY: Final = 0.2
"""Seconds between two looks at the history."""

LATE: Final = timedelta(seconds=5)
"""How long after its time a move may be committed, and still be shown."""


@dataclass
class Tour:
    """Runs beside the service, in its loop. `since`: when this process began; `error`: why tour and service ended."""

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
        settings = self.settings
        services = wiring.open_services(settings, wiring.locate(settings), wiring.load_catalog(settings.tasks))
        try:
            async with services.session() as session:
                trail = Trail(services, self.show, await engine.clock(session))
            async with catch(self.mail, trail.note):
                await self._show_earlier(services, trail)
                typer.echo("")
                ids = [(await submit(services, each, by=BY))[0].id for each in _samples(url)]
                await _follow(services, trail, ids)
                jobs = [await read(services, each) for each in ids]
                self._show_ends(jobs)
                failed = next((job for job in jobs if job.task == "flaky" and job.status is Status.FAILED), jobs[0])
                typer.echo(f"\n{hints(url, settings, samples=self.samples, failed=failed.id)}")
                typer.echo(f"\nServing {url} (process {os.getpid()}) until Ctrl-C; what moves is shown here.\n")
                await trail.until(lambda: False)
        except Exception as error:  # noqa: BLE001 - `jobtrail demo` raises it
            self.error = error
            signal.raise_signal(signal.SIGINT)
        finally:
            await services.database.dispose()

    async def _show_earlier(self, services: Services, trail: "Trail") -> None:
        """Jobs that an earlier process was running come first: to see whether they survive is what the demo is for."""
        page = await read_page(services, Page(200))
        if page.jobs:
            counts = ", ".join(
                f"{count} {status}" for status, count in Counter(job.status for job in page.jobs).most_common()
            )
            more = "More than " if page.following else ""
            typer.echo(f"{more}{len(page.jobs)} jobs of earlier runs are still there: {counts}.")
        found = (await read_page(services, Page(20, filter=Filter(status=[Status.RUNNING])))).jobs
        running = [job for job in found if job.started_at and job.started_at < self.since]
        processes: dict[UUID | None, str] = {node.id: f"process {node.pid}" for node in await read_nodes(services)}
        lease = durations.format_duration(self.settings.lease)
        for job in running:
            ran = f"{name_of(job.id, job.task)} ran in {processes.get(job.node_id, 'another process')}"
            self.show(f"{ran}: if that is gone, it waits for the end of its lease, {lease}")
        with suppress(TimeoutError):
            async with asyncio.timeout(HELD_UP):
                await trail.until(lambda: trail.have_begun([job.id for job in running]))

    def _show_ends(self, jobs: Sequence[Job]) -> None:
        typer.echo("")
        self.show(f"{'id':<36}  {'task':<14}  {'status':<9}  {'attempts':>8}  {'seconds':>7}  what came of it")
        for job in jobs:
            took = job.finished_at - job.started_at if job.finished_at and job.started_at else None
            seconds = f"{took.total_seconds():.3f}" if took else ""
            row = f"{job.id}  {job.task:<14}  {job.status:<9}  {job.attempt:>8}  {seconds:>7}"
            self.show(f"{row}  {outcome(job.status, job.result, job.error, job.cancel_reason, 60)}")


def _samples(url: str) -> Sequence[Submission]:
    """The last one is a nap that the tour cancels, which should not begin anew if it cannot."""
    pages = [f"{url}/health/live", f"{url}/openapi.json", f"{url}/nowhere", "http://127.0.0.1:9/", "http://192.0.2.1/"]
    mail = {"to": "ada@example.org", "subject": "Welcome", "body": "This mail never leaves the machine."}
    wanted: Sequence[tuple[str, Mapping[str, Any]]] = (
        ("sum_range", {"n": 5_000_000}),
        ("index_document", {"path": "README.md"}),
        ("index_document", {"path": "python-licence.txt"}),
        ("index_document", {"path": "../../etc/passwd"}),
        ("fetch_all", {"urls": pages, "at_once": 3}),
        ("send_mail", mail),
        ("flaky", {"fail_times": 2}),
        ("flaky", {"fail_times": 3}),
        ("nap", {"seconds": 1}),
    )
    jobs = [Submission(task=task, args=args, tags=["demo"]) for task, args in wanted]
    return [*jobs, Submission(task="nap", args={"seconds": 600}, max_attempts=1, tags=["demo"])]


async def _follow(services: Services, trail: "Trail", ids: Sequence[UUID]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await trail.until(lambda: trail.have_begun(ids[-1:]))
            await cancel(services, ids[-1], by=BY, reason="the demo has seen enough of it")
            await trail.until(lambda: trail.have_ended(ids))
    except TimeoutError:
        typer.echo(f"\nNot all jobs have ended within {PATIENCE:g} s.")


@asynccontextmanager
async def catch(listening: socket, note: Callable[[EmailMessage], None]) -> AsyncIterator[None]:
    """Catches the mails that come to the socket and sends nothing on."""

    class Catcher:
        async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - SMTP's
            note(message_from_bytes(bytes(envelope.original_content or b""), policy=policy.SMTP))
            return "250 caught"

    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(Catcher(), hostname="localhost", ident="Jobtrail demo", loop=loop), sock=listening
    )
    try:
        yield
    finally:
        server.close()


# `lost` is the attempt before, where that was lost with the process of `node`, which may have signed off
_MOVES: Final = text("""
SELECT moved.job_id, moved.seq, moved.task, moved.from_status, moved.to_status, moved.attempt, moved.at, moved.reason,
       moved.error, job.result, lost.reason AS lost, node.pid,
       extract(epoch FROM moved.at - node.heartbeat_at)::float AS silent
  FROM jobtrail.transitions moved
  LEFT JOIN jobtrail.jobs job ON job.id = moved.job_id
  LEFT JOIN jobtrail.transitions lost
         ON lost.job_id = moved.job_id AND lost.attempt = moved.attempt - 1
        AND lost.from_status = 'running' AND lost.to_status = 'pending' AND lost.error ->> 'type' = 'lost'
        AND moved.to_status IN ('running', 'succeeded')
  LEFT JOIN jobtrail.transitions claim
         ON claim.job_id = lost.job_id AND claim.attempt = lost.attempt AND claim.to_status = 'running'
  LEFT JOIN jobtrail.nodes node ON node.id = claim.node_id
 WHERE moved.at >= :since
 ORDER BY moved.at, moved.job_id, moved.seq
""")


class Trail:
    """Shows a line for each move since `since`, of all jobs, in the order in which they happened."""

    def __init__(self, services: Services, show: Callable[[str], None], since: datetime) -> None:
        self._services = services
        self._show = show
        self._since = since
        self._shown: set[tuple[UUID, int]] = set()
        self._status: dict[UUID, str] = {}
        self._mails: set[str] = set()
        self._notes: list[tuple[datetime, str]] = []

    async def until(self, fact: Callable[[], bool]) -> None:
        while not fact():
            with suppress(errors.UnavailableError):
                await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        async with self._services.session() as session:
            found = (await session.execute(_MOVES, {"since": self._since})).all()
        lines, self._notes = self._notes, []
        for move in found:
            if (move.job_id, move.seq) not in self._shown:
                self._status[move.job_id] = move.to_status
                lines += [(move.at, line) for line in lines_of(move)]
        for at, line in sorted(lines, key=lambda each: each[0]):
            self._show(f"{at.astimezone().strftime('%H:%M:%S.%f')[:-3]}  {line}")
        if found:
            self._shown = {(move.job_id, move.seq) for move in found}
            self._since = max(self._since, found[-1].at - LATE)

    def have_begun(self, ids: Collection[UUID]) -> bool:
        return all(self._status.get(each, "pending") != "pending" for each in ids)

    def have_ended(self, ids: Collection[UUID]) -> bool:
        return all(self._status.get(each, "pending") not in {"pending", "running"} for each in ids)

    def note(self, mail: EmailMessage) -> None:
        """A mail that came in now is shown among the moves; a repeat has the Message-ID of one before."""
        to, subject, message_id = (str(mail[name]) for name in ("To", "Subject", "Message-ID"))
        how = "came again: known by its" if message_id in self._mails else "was caught, with the"
        self._mails.add(message_id)
        self._notes.append((datetime.now(UTC), f"the mail {subject!a} to {to!a} {how} Message-ID {message_id!a}"))


def lines_of(move: Any) -> list[str]:
    """A row of the SELECT; and whether by this move a job survives the process that ran it."""
    way = f"{move.from_status or '':>9} → {move.to_status}"
    attempt = f"attempt {move.attempt}" if move.attempt else ""
    came_of_it = outcome(move.to_status, move.result, move.error, move.reason)
    lines = [f"…{str(move.job_id)[-8:]}  {move.task:<14}  {way:<21}  {attempt:<10}  {came_of_it}".rstrip()]
    if move.lost is not None:
        survived = f"survived a {'kill' if move.lost == 'rescued' else 'stop'}: {name_of(move.job_id, move.task)}"
        silent = "" if move.pid is None else f" {move.silent:.1f} s after process {move.pid} fell silent"
        if move.to_status == "succeeded":
            lines.append(f"{survived} succeeded in attempt {move.attempt}")
        else:
            lines.append(f"{survived}, attempt {move.attempt} began{silent}")
    return lines


def outcome(status: str, result: object, error: Mapping[str, Any] | None, reason: str | None, width: int = 100) -> str:
    """What came of a job, or of its last attempt, in at most `width` characters of one line.

    With JSON's own escapes: nothing that a result holds reaches the terminal as a control character.
    """
    if status == "succeeded":
        found = json.dumps(result)
    elif status == "cancelled":
        found = json.dumps(reason) if reason else ""
    else:
        found = json.dumps(f"{error['type']}: {error['message']}")[1:-1] if error else ""
    return found if len(found) <= width else f"{found[: width - 1]}…"


def name_of(job_id: UUID, task: str) -> str:
    return f"{task} …{str(job_id)[-8:]}"


_HINTS: Final = """\
The API, to be tried in a browser: {url}/docs
The jobs: {jobs}
The documents that index_document may read: {samples}

From another terminal:

  # which jobs failed; the history of one; once more, by hand: its fourth attempt succeeds
  curl -s '{jobs}?status=failed'
  curl -s {jobs}/{failed}/transitions
  curl -s -X POST {jobs}/{failed}/retry

  # a job of your own; the same request again, with its key, is the same job
  {post} -H 'Idempotency-Key: mine' -d '{{"task": "sum_range", "args": {{"n": 1000000}}}}' {jobs}

  # a long nap, and its cancel
  job=$({post} -d '{{"task": "nap", "args": {{"seconds": 600}}}}' {jobs} | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
  curl -s -X DELETE "{jobs}/$job?reason=enough"

  # the rows by command and in SQL, and what an auditor asks
  {same_database}
  {command} ls
  {command} audit failures_by_task
  {psql} "$({command} url)" -c 'TABLE {schema}.transitions'

  # a job that survives: it takes a minute, and this process is killed in the middle of it ...
  {post} -d '{{"task": "nap", "args": {{"seconds": 60}}}}' {jobs}
  sleep 1; kill -9 {pid}
  # ... start it again as you did ({again}): once the lease, {lease}, has run out, the job runs again"""


def hints(url: str, settings: Settings, *, samples: str, failed: UUID) -> str:
    """Commands that work from another terminal as they are. `failed`: a retry by hand brings this job to success."""
    ours = Path(sys.executable).with_name("jobtrail")
    if not ours.exists():
        command = f"{shlex.quote(sys.executable)} -m jobtrail"
    else:
        command = "jobtrail" if shutil.which("jobtrail") == str(ours) else shlex.quote(str(ours))
    psql = "psql"
    if not shutil.which(psql):  # one came with the embedded PostgreSQL
        with suppress(errors.SettingsError):
            psql = shlex.quote(str(installed_programs().where / "psql"))
    same_database = "# (with the same JOBTRAIL_DATABASE_URL)"
    if settings.database_url == EMBEDDED:
        schema = "" if settings.schema == ranges.DEFAULT_SCHEMA else f" JOBTRAIL_SCHEMA={settings.schema}"
        folder = shlex.quote(str(wiring.embedded(settings).folder))
        same_database = f"export JOBTRAIL_DATABASE_URL={EMBEDDED} JOBTRAIL_DATA_DIR={folder}{schema}"
    return _HINTS.format(
        url=url,
        jobs=f"{url}/v1/jobs",
        samples=samples,
        failed=failed,
        post="curl -s -H 'Content-Type: application/json'",
        same_database=same_database,
        command=command,
        psql=psql,
        schema=settings.schema,
        pid=os.getpid(),
        again="make run" if "MAKELEVEL" in os.environ else f"{command} demo",
        lease=durations.format_duration(settings.lease),
    )
