"""The checks of `jobtrail doctor`: each looks at one thing, and says how it is and how to mend it."""

import http.client
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from jobtrail.db.engine import GROUPS
from jobtrail.db.migrate import Schema
from jobtrail.db.rights import Lack, told
from jobtrail.durations import format_duration
from jobtrail.errors import SettingsError
from jobtrail.ops.doctor import Lapsed, Server, Stranded
from jobtrail.records import NodeRecord, Pause
from jobtrail.settings import EMBEDDED, Settings, unknown_variables
from jobtrail.task.catalog import HOW_TO_PART, Catalog, Namesakes
from jobtrail.wiring import embedded, listen

OLDEST_SERVER: Final = 15
NARROW: Final = 0.8
"""Of the server's connections; above it there is little room for psql and for one node more."""

_ON_THIS_MACHINE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not opened
"""Where a service that listens on all addresses is asked."""

_START_ONE: Final = "start `jobtrail serve` or `jobtrail work`"


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    level: Level
    detail: str
    fix: str | None = None


def ok(check: str, detail: str) -> Finding:
    return Finding(check, Level.OK, detail)


def warn(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, Level.WARN, detail, fix)


def fault(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, Level.FAULT, detail, fix)


@dataclass(frozen=True, slots=True)
class Found:
    """What the database said. `ahead`: how far its clock is before ours; the last six are empty without a schema."""

    settings: Settings
    catalog: Catalog
    shown_url: str
    server: Server
    ahead: timedelta
    schema: Schema
    revision: str | None
    lacks: Sequence[Lack] = ()
    living: Sequence[NodeRecord] = ()
    silent: Sequence[NodeRecord] = ()
    stranded: Sequence[Stranded] = ()
    lapsed: Sequence[Lapsed] = ()
    pauses: Sequence[Pause] = ()
    namesakes: Sequence[Namesakes] = ()

    @property
    def can_be_read(self) -> bool:
        return self.schema.is_usable and not any("SELECT" in each.rights for each in self.lacks)


def silence(settings: Settings) -> timedelta:
    """For how long a node must have been silent to be called dead; it beats several times in a lease."""
    return max(timedelta(minutes=1), settings.lease)


def check_variables() -> Finding:
    wrong = unknown_variables(os.environ)
    if wrong:
        return warn("variables", "; ".join(wrong), "rename or remove them: they change nothing")
    return ok("variables", "every JOBTRAIL_ variable is a setting")


def check_tasks(settings: Settings, catalog: Catalog) -> Finding:
    if not settings.tasks:
        fix = "set JOBTRAIL_TASKS to the modules of your tasks, such as app.tasks"
        return warn("tasks", "no module is named: this process knows no task", fix)
    return ok("tasks", f"{', '.join(settings.tasks)}: {', '.join(catalog.names) or 'no tasks'}")


def check_port(settings: Settings) -> Finding:
    place = f"{settings.host} port {settings.port}"
    try:
        listen(settings.host, settings.port).close()
    except SettingsError as error:
        if _is_jobtrail(settings.host, settings.port):
            return ok("port", f"a Jobtrail answers on {place}")
        detail, _, fix = str(error).partition("; ")
        return fault("port", detail, fix)
    return ok("port", f"{place} is free")


def check_folder(settings: Settings) -> Finding:
    if settings.database_url != EMBEDDED:
        if settings.data_dir is None:
            return ok("folder", "not needed: the database is a server of its own")
        fix = "remove it, or set JOBTRAIL_DATABASE_URL=embedded"
        return warn("folder", "JOBTRAIL_DATA_DIR is set, but the database is not embedded", fix)
    server = embedded(settings)
    return ok("folder", f"PostgreSQL {server.version} keeps its data in {server.folder}")


def check_server(found: Found) -> Finding:
    said = f"PostgreSQL {found.server.version} at {found.shown_url}"
    if found.server.version_num < OLDEST_SERVER * 10_000:
        return fault("server", said, f"Jobtrail needs PostgreSQL {OLDEST_SERVER} or later: upgrade it")
    if found.server.is_standby:
        return fault("server", f"{said} is a standby and read-only", "name the primary in the URL")
    if found.server.is_read_only:
        fix = "let it write again: look at default_transaction_read_only of the server, the database and the role"
        return fault("server", f"{said} is read-only", fix)
    if found.server.encoding != "UTF8":
        fix = "make a database that can, and name it: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        detail = f"{said} is in {found.server.encoding}, which cannot hold every text that a job may have"
        return fault("server", detail, fix)
    return ok("server", said)


def check_revision(found: Found) -> Finding:  # noqa: PLR0911 - one for each
    match found.schema:
        case Schema.CURRENT:
            return ok(
                "revision", f"the schema {found.settings.schema} is at {found.revision}, as this version needs it"
            )
        case Schema.LATER:
            detail = f"the schema is at {found.revision}, which this version does not know: it was made for a later one"
            return warn("revision", detail, "upgrade Jobtrail here when the rollout comes to it")
        case Schema.OLDER:
            return fault("revision", f"the schema is at {found.revision}, which is old", "run `jobtrail migrate`")
        case Schema.MISSING if found.settings.database_url == EMBEDDED:
            return ok("revision", "no schema yet: `jobtrail serve` makes it")
        case Schema.MISSING:
            detail = f"the database has no Jobtrail schema, by the name of {found.settings.schema}"
            return fault("revision", detail, "run `jobtrail migrate`")
        case Schema.CLOSED:
            return fault("revision", "which revision the schema is at may not be read", "see `rights`")
        case Schema.FOREIGN:
            detail = f"the schema {found.settings.schema} holds tables of another application"
            return fault("revision", detail, "choose another name with JOBTRAIL_SCHEMA")


def check_rights(found: Found) -> Finding:
    """All that a process needs that accepts and runs jobs."""
    if not found.lacks:
        return ok("rights", "the role may do all that jobs need")
    detail, _, fix = told(found.lacks).partition(": ")
    return fault("rights", detail, fix)


def check_clock(found: Found) -> Finding:
    seconds = found.ahead.total_seconds()
    if abs(seconds) <= 1:
        return ok("clock", f"this machine and the database differ by {abs(seconds):.2f} s")
    which = "ahead of" if seconds > 0 else "behind"
    detail = f"the database's clock is {abs(seconds):.1f} s {which} this machine's"
    return warn("clock", detail, "set both by NTP; jobs go by the database's, logs by this machine's")


def check_connections(found: Found) -> Finding:
    """A node has the three pools of its services and one connection for its leases."""
    nodes = max(1, len(found.living))
    each, limit = GROUPS + 2 * found.settings.pool_size + 1, found.server.connections
    used = found.server.connected
    detail = f"{nodes} node(s) may take {nodes * each} of {limit} connections; {used} are in use now"
    fix = "lower JOBTRAIL_POOL_SIZE, run fewer nodes, or raise max_connections in postgresql.conf"
    if nodes * each > limit:
        return fault("connections", detail, fix)
    if nodes * each > limit * NARROW:
        return warn("connections", detail, fix)
    return ok("connections", detail)


def check_nodes(found: Found) -> Finding:
    if found.silent:
        names = ", ".join(
            f"{node.host} pid {node.pid} since {node.heartbeat_at:%Y-%m-%d %H:%M:%S}" for node in found.silent
        )
        fix = "start them again if they are missed; the list forgets them after an hour"
        return warn("nodes", f"went silent: {names}; living: {len(found.living)}", fix)
    if not found.living:
        return warn("nodes", "no node is running: nothing runs jobs", _START_ONE)
    if not any(sum(node.slots.values()) for node in found.living):
        detail = f"living: {len(found.living)}, and each of them only accepts jobs: nothing runs them"
        return warn("nodes", detail, "start `jobtrail work`, or raise JOBTRAIL_SLOTS of a service")
    return ok("nodes", f"living: {len(found.living)}")


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
    jobs, since = sum(each.jobs for each in found.lapsed), min(each.since for each in found.lapsed)
    detail = f"{jobs} running jobs have no node any more; the first lease ran out at {since:%Y-%m-%d %H:%M:%S}"
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
    if unknown:
        fix = "add the modules of these tasks to JOBTRAIL_TASKS of a node, or cancel the jobs"
        return fault("pending", f"no node knows the task: {_counts(unknown)}", fix)
    if found.stranded:
        fix = (
            "start `jobtrail work` with these tasks (JOBTRAIL_TASKS), with their queues (--queue), and with places for "
            "them (--slots, --threads, --processes)"
        )
        return warn("pending", f"no living node takes: {_counts(found.stranded)}", fix)
    return ok("pending", "every pending job has a node that can run it")


def check_pauses(found: Found) -> Finding:
    """A pause is wanted, and easily forgotten."""
    if not found.pauses:
        return ok("pauses", "nothing is paused")
    told = ", ".join(
        f"{each.kind} {each.name} by {each.paused_by} since {each.paused_at:%Y-%m-%d %H:%M:%S}" for each in found.pauses
    )
    fix = "; ".join(f"`jobtrail resume --{each.kind} {shlex.quote(each.name)}`" for each in found.pauses)
    return warn("pauses", f"paused: {told}", f"when they may go on: {fix}")


def check_namesakes(found: Found) -> Finding:
    if not found.namesakes:
        return ok("namesakes", f"one app: in schema {found.settings.schema} no task is known twice")
    return warn("namesakes", "; ".join(map(str, found.namesakes)), HOW_TO_PART)


OF_DATABASE: Final[Sequence[Callable[[Found], Finding]]] = (
    check_server, check_revision, check_rights, check_clock, check_connections,
)  # fmt: skip

OF_JOBS: Final[Sequence[Callable[[Found], Finding]]] = (
    check_nodes, check_left_behind, check_rescue, check_running, check_pending, check_pauses, check_namesakes,
)  # fmt: skip
"""Only with a schema that can be read."""


def _counts(stranded: Sequence[Stranded], most: int = 5) -> str:
    told = [f"{each.jobs} of {each.task} in queue {each.queue}" for each in stranded[:most]]
    return ", ".join([*told, *(["…"] if len(stranded) > most else [])])


def _is_jobtrail(host: str, port: int) -> bool:
    """Whether what listens there answers as we do."""
    address = _ON_THIS_MACHINE.get(host, host)
    connection = http.client.HTTPConnection(address, port, timeout=2)
    try:
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        return answer.status == http.HTTPStatus.OK and answer.getheader("X-Trace-Id") is not None
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
