"""`jobtrail doctor`: checks of this set-up, each of one thing, with how it is and how to mend it."""

import asyncio
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Final, Literal

from jobtrail import wiring
from jobtrail.cli import output
from jobtrail.cli.command import Json, configured, opened
from jobtrail.db import engine, rights
from jobtrail.db.migrate import Schema, revision, state
from jobtrail.db.url import DatabaseUrl
from jobtrail.durations import format_duration
from jobtrail.errors import DeclarationError, SettingsError, UnavailableError
from jobtrail.ops import doctor as questions
from jobtrail.ops import nodes, pauses
from jobtrail.ops.nodes import NodeRecord
from jobtrail.ops.pauses import Pause
from jobtrail.settings import EMBEDDED, Settings, unknown_variables
from jobtrail.task.catalog import HOW_TO_PART, Catalog, Namesakes, namesakes

OLDEST_SERVER: Final = 15
NARROW: Final = 0.8
"""Of the server's connections; above it there is little room for psql and for one node more."""

_NAMED: Final = 5
"""Tasks of stranded jobs that are listed."""

_START_ONE: Final = "start `jobtrail serve` or `jobtrail work`"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    level: Literal["ok", "warn", "fault"]
    detail: str
    fix: str | None = None


def ok(check: str, detail: str) -> Finding:
    return Finding(check, "ok", detail)


def warn(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, "warn", detail, fix)


def fault(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, "fault", detail, fix)


def doctor(as_json: Json = False) -> bool:
    """Say what is wrong with this set-up, and how to mend it. Exit 1 if anything is.

    An embedded database is started for the time of the checks.
    """
    findings = list(_examine())
    is_well = all(each.level != "fault" for each in findings)
    if as_json:
        output.print_json({"ok": is_well, "checks": [asdict(each) for each in findings]})
        return is_well
    rows: list[tuple[str, str, str]] = []
    for each in findings:
        rows.append((each.level, each.check, each.detail))
        rows += [("", "", f"fix: {each.fix}")] if each.fix else []
    output.print_table(("level", "check", "finding"), rows)
    return is_well


def _examine() -> Iterator[Finding]:
    try:
        settings = configured()
    except SettingsError as error:
        yield fault("settings", str(error), "correct them in the environment or in .env")
        return
    yield ok("settings", "every setting can be read")
    if wrong := unknown_variables(os.environ):
        yield warn("variables", "; ".join(wrong), "rename or remove them: they change nothing")
    else:
        yield ok("variables", "every JOBTRAIL_ variable is a setting")
    catalog = Catalog()
    try:
        catalog = wiring.load_catalog(settings.tasks)
    except (SettingsError, DeclarationError) as error:
        yield fault("tasks", str(error), "correct the module, or JOBTRAIL_TASKS")
    else:
        known = f"{', '.join(settings.tasks)}: {', '.join(catalog.names) or 'no tasks'}"
        fix = "set JOBTRAIL_TASKS to the modules of your tasks, such as app.tasks"
        nothing = warn("tasks", "no module is named: this process knows no task", fix)
        yield ok("tasks", known) if settings.tasks else nothing
    yield check_port(settings)
    try:
        with wiring.reach(settings) as url, wiring.answering(url):
            found = asyncio.run(_ask(settings, url, catalog))
        yield check_folder(settings)
    except (SettingsError, UnavailableError) as error:
        yield fault("database", str(error), "set JOBTRAIL_DATABASE_URL to a database that answers")
        return
    for check in (check_server, check_revision, check_rights, check_clock, check_connections):
        yield check(found)
    if found.can_be_read:
        for check in (check_nodes, check_left_behind, check_rescue, check_running, check_pending):
            yield check(found)
        yield check_pauses(found)
        yield check_namesakes(found)


@dataclass(frozen=True, slots=True)
class Found:
    """Answers of the database. `ahead`: how far its clock is before ours; the last six are empty without a schema."""

    settings: Settings
    catalog: Catalog
    shown_url: str
    server: questions.Server
    ahead: timedelta
    schema: Schema
    revision: str | None
    lacks: Sequence[rights.Lack] = ()
    living: Sequence[NodeRecord] = ()
    silent: Sequence[NodeRecord] = ()
    stranded: Sequence[questions.Stranded] = ()
    lapsed: Sequence[questions.Lapsed] = ()
    pauses: Sequence[Pause] = ()
    namesakes: Sequence[Namesakes] = ()

    @property
    def can_be_read(self) -> bool:
        return self.schema.is_usable and not any("SELECT" in each.rights for each in self.lacks)


async def _ask(settings: Settings, url: DatabaseUrl, catalog: Catalog) -> Found:
    async with opened(settings, url, catalog) as command, command.services.database.sessions() as session:
        server = await questions.server(session)
        before = datetime.now(UTC)
        theirs = await engine.clock(session)
        ahead = theirs - (before + (datetime.now(UTC) - before) / 2)
        schema, at = await state(session), await revision(session)
        lacks = await rights.lacking(session)
        found = Found(settings, catalog, url.shown, server, ahead, schema, at, lacks)
        if not found.can_be_read:
            return found
        since = theirs - silence(settings)
        known = await nodes.all_nodes(session)
        return replace(
            found,
            living=[node for node in known if node.heartbeat_at >= since],
            silent=[node for node in known if node.heartbeat_at < since],
            stranded=await questions.stranded(session, silence(settings)),
            lapsed=await questions.lapsed(session),
            pauses=await pauses.all_pauses(session),
            namesakes=namesakes(await nodes.known(session)),
        )


def silence(settings: Settings) -> timedelta:
    """For how long a node must have been silent to be called dead; it beats several times in a lease."""
    return max(timedelta(minutes=1), settings.lease)


def check_port(settings: Settings) -> Finding:
    place = f"{settings.host} port {settings.port}"
    try:
        wiring.listen(settings.host, settings.port).close()
    except SettingsError as error:
        if _is_jobtrail(settings.host, settings.port):
            return ok("port", f"a Jobtrail answers on {place}")
        detail, _, fix = str(error).partition("; ")
        return fault("port", detail, fix)
    return ok("port", f"{place} is free")


def _is_jobtrail(host: str, port: int) -> bool:
    """Whether what listens there answers as we do."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - of all addresses, one that is ours
    with closing(HTTPConnection(address, port, timeout=2)) as connection, suppress(OSError, HTTPException):
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        return answer.status == HTTPStatus.OK and answer.getheader("X-Trace-Id") is not None
    return False


def check_folder(settings: Settings) -> Finding:
    if settings.database_url == EMBEDDED:
        server = wiring.embedded(settings)
        return ok("folder", f"PostgreSQL {server.version} keeps its data in {server.folder}")
    if settings.data_dir is None:
        return ok("folder", "not needed: the database is a server of its own")
    fix = "remove it, or set JOBTRAIL_DATABASE_URL=embedded"
    return warn("folder", "JOBTRAIL_DATA_DIR is set, but the database is not embedded", fix)


def check_server(found: Found) -> Finding:
    server = found.server
    detail = f"PostgreSQL {server.version} at {found.shown_url}"
    if server.version_num < OLDEST_SERVER * 10_000:
        return fault("server", detail, f"Jobtrail needs PostgreSQL {OLDEST_SERVER} or later: upgrade it")
    if server.is_standby:
        return fault("server", f"{detail} is a standby and read-only", "name the primary in the URL")
    if server.is_read_only:
        fix = "let it write again: look at default_transaction_read_only of the server, the database and the role"
        return fault("server", f"{detail} is read-only", fix)
    if server.encoding != "UTF8":
        fix = "make a database that can, and name it: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        detail = f"{detail} is in {server.encoding}, which cannot hold every text that a job may have"
        return fault("server", detail, fix)
    return ok("server", detail)


def check_revision(found: Found) -> Finding:  # noqa: PLR0911 - one for each
    name, at = found.settings.schema, found.revision
    match found.schema:
        case Schema.CURRENT:
            return ok("revision", f"the schema {name} is at {at}, as this version needs it")
        case Schema.LATER:
            detail = f"the schema is at {at}, which this version does not know: it was made for a later one"
            return warn("revision", detail, "upgrade Jobtrail here when the rollout comes to it")
        case Schema.OLDER:
            return fault("revision", f"the schema is at {at}, which is old", "run `jobtrail migrate`")
        case Schema.MISSING if found.settings.database_url == EMBEDDED:
            return ok("revision", "no schema yet: `jobtrail serve` makes it")
        case Schema.MISSING:
            detail = f"the database has no Jobtrail schema, by the name of {name}"
            return fault("revision", detail, "run `jobtrail migrate`")
        case Schema.CLOSED:
            return fault("revision", "which revision the schema is at may not be read", "see `rights`")
        case Schema.FOREIGN:
            detail = f"the schema {name} holds tables of another application"
            return fault("revision", detail, "choose another name with JOBTRAIL_SCHEMA")


def check_rights(found: Found) -> Finding:
    """All that a process needs that accepts and runs jobs."""
    if not found.lacks:
        return ok("rights", "the role may do all that jobs need")
    detail, _, fix = rights.told(found.lacks).partition(": ")
    return fault("rights", detail, fix)


def check_clock(found: Found) -> Finding:
    seconds = found.ahead.total_seconds()
    if abs(seconds) <= 1:
        return ok("clock", f"this machine and the database differ by {abs(seconds):.2f} s")
    detail = f"the database's clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
    return warn("clock", detail, "set both by NTP; jobs go by the database's, logs by this machine's")


def check_connections(found: Found) -> Finding:
    """A node has the three pools of its services and one connection for its leases."""
    running = max(1, len(found.living))
    taken, limit = running * (engine.GROUPS + 2 * found.settings.pool_size + 1), found.server.connections
    detail = f"{running} node(s) may take {taken} of {limit} connections; {found.server.connected} are in use now"
    fix = "lower JOBTRAIL_POOL_SIZE, run fewer nodes, or raise max_connections in postgresql.conf"
    if taken > limit:
        return fault("connections", detail, fix)
    if taken > limit * NARROW:
        return warn("connections", detail, fix)
    return ok("connections", detail)


def check_nodes(found: Found) -> Finding:
    living = f"living: {len(found.living)}"
    if found.silent:
        names = ", ".join(f"{node.host} pid {node.pid} since {_second(node.heartbeat_at)}" for node in found.silent)
        fix = "start them again if they are missed; the list forgets them after an hour"
        return warn("nodes", f"went silent: {names}; {living}", fix)
    if not found.living:
        return warn("nodes", "no node is running: nothing runs jobs", _START_ONE)
    if not any(sum(node.slots.values()) for node in found.living):
        detail = f"{living}, and each of them only accepts jobs: nothing runs them"
        return warn("nodes", detail, "start `jobtrail work`, or raise JOBTRAIL_SLOTS of a service")
    return ok("nodes", living)


def check_left_behind(found: Found) -> Finding:
    """A slot that is not given back makes its node smaller, for as long as it lives."""
    holding = [node for node in found.living if node.left_behind]
    if not holding:
        return ok("left behind", "every task ended when it was told to")
    counts = ", ".join(f"{node.left_behind} on {node.host} pid {node.pid}" for node in holding)
    detail = f"tasks go on although they were told to end, and each keeps its slot: {counts}"
    fix = 'find them in the log ("left behind"), let them look at context.cancelled; to free the slots restart the node'
    return warn("left behind", detail, fix)


def check_running(found: Found) -> Finding:
    if not found.lapsed:
        return ok("running", "every running job has a node that vouches for it")
    jobs, since = sum(each.jobs for each in found.lapsed), _second(min(each.since for each in found.lapsed))
    detail = f"{jobs} running jobs have no node any more; the first lease ran out at {since}"
    if found.living:
        return warn("running", detail, "none, a living node rescues them within seconds")
    return fault("running", detail, f"{_START_ONE}: any node rescues them")


def check_rescue(found: Found) -> Finding:
    """How long a job of a node that died waits at most: its lease, which was renewed just before, then the next look of
    a living node, which comes each quarter of a lease give or take a tenth, then the next poll.
    """
    lease = max((node.lease for node in found.living), default=found.settings.lease)
    bound = format_duration(lease * 1.275 + found.settings.poll_every * 1.1)
    detail = (
        f"jobs of a node that dies are running again, or ended, within {bound}: by its lease of "
        f"{format_duration(lease)}; up to a lease later when the database was away, or every node"
    )
    return ok("rescue", detail)


def check_pending(found: Found) -> Finding:
    """A fault only for tasks that this process does not know either."""
    unknown = [each for each in found.stranded if each.task not in found.catalog]
    first, more = (unknown or found.stranded)[:_NAMED], (unknown or found.stranded)[_NAMED:]
    counts = ", ".join([f"{each.jobs} of {each.task} in queue {each.queue}" for each in first] + ["…"] * bool(more))
    if unknown:
        fix = "add the modules of these tasks to JOBTRAIL_TASKS of a node, or cancel the jobs"
        return fault("pending", f"no node knows the task: {counts}", fix)
    if found.stranded:
        fix = (
            "start `jobtrail work` with these tasks (JOBTRAIL_TASKS), with their queues (--queue), and with places for "
            "them (--slots, --threads, --processes)"
        )
        return warn("pending", f"no living node takes: {counts}", fix)
    return ok("pending", "every pending job has a node that can run it")


def check_pauses(found: Found) -> Finding:
    """A pause is wanted, and easily forgotten."""
    if not found.pauses:
        return ok("pauses", "nothing is paused")
    names = [f"{each.kind} {each.name} by {each.paused_by} since {_second(each.paused_at)}" for each in found.pauses]
    fix = "; ".join(f"`jobtrail resume --{each.kind} {shlex.quote(each.name)}`" for each in found.pauses)
    return warn("pauses", f"paused: {', '.join(names)}", f"when they may go on: {fix}")


def check_namesakes(found: Found) -> Finding:
    if not found.namesakes:
        return ok("namesakes", f"one app: in schema {found.settings.schema} no task is known twice")
    return warn("namesakes", "; ".join(map(str, found.namesakes)), HOW_TO_PART)


def _second(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"
