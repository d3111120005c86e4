"""`jobtrail doctor`: checks of this set-up, each of one thing, with how it is and how to mend it."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Final

from jobtrail import wiring
from jobtrail.cli import output
from jobtrail.cli.command import Json, configured, opened
from jobtrail.cli.doctor_jobs import (
    check_alarms,
    check_feed,
    check_left_behind,
    check_namesakes,
    check_nodes,
    check_pauses,
    check_pending,
    check_rescue,
    check_running,
)
from jobtrail.cli.findings import Finding, Found, fault, ok, warn
from jobtrail.db import engine, rights
from jobtrail.db.migrate import Schema, revision, state
from jobtrail.db.url import DatabaseUrl
from jobtrail.errors import DeclarationError, SettingsError, UnavailableError
from jobtrail.ops import doctor as questions
from jobtrail.ops import nodes, pauses
from jobtrail.ops.stats import read_stats
from jobtrail.settings import EMBEDDED, Settings, unknown_variables
from jobtrail.task.catalog import Catalog, namesakes

OLDEST_SERVER: Final = 15
NARROW: Final = 0.8
"""The share of the server's connections above which there is little room for psql and for one node more."""


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
        for check in (check_pauses, check_namesakes, check_alarms, check_feed):
            yield check(found)


async def _ask(settings: Settings, url: DatabaseUrl, catalog: Catalog) -> Found:
    async with opened(settings, url, catalog) as command, command.services.database.sessions() as session:
        server = await questions.server(session)
        before = datetime.now(UTC)
        theirs = await engine.clock(session)
        ahead = theirs - (before + (datetime.now(UTC) - before) / 2)
        schema, at = await state(session), await revision(session)
        lacks = await rights.lacking(session)
        pooled = command.services.database.is_pooled
        found = Found(settings, catalog, url.shown, server, ahead, schema, at, lacks, pooled)
        if not found.can_be_read:
            return found
        known = await nodes.all_nodes(session)
        return replace(
            found,
            living=[node for node in known if node.is_living],
            silent=[node for node in known if not node.is_living],
            stranded=await questions.stranded(session, known),
            lapsed=await questions.lapsed(session),
            pauses=await pauses.all_pauses(session),
            namesakes=namesakes(await nodes.known(session)),
            stats=await read_stats(command.services.database, theirs, command.services.alarms),
            holder=await questions.holder(session),
        )


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
    """A node has the three pools of its services, one connection for its leases, and one that hears hints, unless a
    pooler would keep them from it.
    """
    running = max(1, len(found.living))
    leases, hints = 1, 0 if found.is_pooled else 1
    each = engine.GROUPS + 2 * found.settings.pool_size + leases + hints
    taken, limit = running * each, found.server.connections
    detail = f"{running} node(s) may take {taken} of {limit} connections; {found.server.connected} are in use now"
    fix = "lower JOBTRAIL_POOL_SIZE, run fewer nodes, or raise max_connections in postgresql.conf"
    if taken > limit:
        return fault("connections", detail, fix)
    if taken > limit * NARROW:
        return warn("connections", detail, fix)
    return ok("connections", detail)
