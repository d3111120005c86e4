"""`jobtrail doctor`: what stands between this set-up and a job that runs."""

import asyncio
import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime

import typer

from jobtrail.cli import checks, exits, output
from jobtrail.cli.checks import Finding, Found, Level
from jobtrail.cli.command import Json, configured
from jobtrail.db import engine, migrate, rights
from jobtrail.db.url import DatabaseUrl
from jobtrail.errors import DeclarationError, SettingsError, UnavailableError
from jobtrail.ops import doctor as doctor_module
from jobtrail.ops import nodes, pauses
from jobtrail.settings import Settings
from jobtrail.task.catalog import Catalog, namesakes
from jobtrail.wiring import answering, load_catalog, open_desk, reach


def doctor(as_json: Json = False) -> None:
    """Say what is wrong with this set-up, and how to mend it. Exit 1 if anything is.

    An embedded database is started for the time of the checks.
    """
    findings = list(_examine())
    is_well = all(each.level is not Level.FAULT for each in findings)
    if as_json:
        output.print_json({"ok": is_well, "checks": [dataclasses.asdict(each) for each in findings]})
    else:
        output.print_table(("level", "check", "finding"), [line for each in findings for line in _lines(each)])
    if not is_well:
        raise typer.Exit(exits.FAILED)


def _lines(finding: Finding) -> Iterator[tuple[str, str, str]]:
    yield finding.level, finding.check, finding.detail
    if finding.fix:
        yield "", "", f"fix: {finding.fix}"


def _examine() -> Iterator[Finding]:
    try:
        settings = configured()
    except SettingsError as error:
        yield checks.fault("settings", str(error), "correct them in the environment or in .env")
        return
    yield checks.ok("settings", "every setting can be read")
    yield checks.check_variables()
    catalog = Catalog()
    try:
        catalog = load_catalog(settings.tasks)
        yield checks.check_tasks(settings, catalog)
    except (SettingsError, DeclarationError) as error:
        yield checks.fault("tasks", str(error), "correct the module, or JOBTRAIL_TASKS")
    yield checks.check_port(settings)
    yield from _examine_database(settings, catalog)


def _examine_database(settings: Settings, catalog: Catalog) -> Iterator[Finding]:
    try:
        with reach(settings) as url:
            found = asyncio.run(_ask(settings, url, catalog))
        yield checks.check_folder(settings)
    except (SettingsError, UnavailableError) as error:
        yield checks.fault("database", str(error), "set JOBTRAIL_DATABASE_URL to a database that answers")
        return
    for check in checks.OF_DATABASE:
        yield check(found)
    if found.can_be_read:
        for check in checks.OF_JOBS:
            yield check(found)


async def _ask(settings: Settings, url: DatabaseUrl, catalog: Catalog) -> Found:
    services = open_desk(settings, url, catalog)
    try:
        with answering(url):
            async with services.database.sessions() as session:
                server = await doctor_module.server(session)
                before = datetime.now(UTC)
                theirs = await engine.clock(session)
                ours = before + (datetime.now(UTC) - before) / 2
                state = await migrate.state(session)
                revision, lacks = await migrate.revision(session), await rights.lacking(session)
                found = Found(settings, catalog, url.shown, server, theirs - ours, state, revision, lacks)
                if not found.can_be_read:
                    return found
                since = theirs - checks.silence(settings)
                known = await nodes.all_nodes(session)
                return dataclasses.replace(
                    found,
                    living=[node for node in known if node.heartbeat_at >= since],
                    silent=[node for node in known if node.heartbeat_at < since],
                    stranded=await doctor_module.stranded(session, checks.silence(settings)),
                    lapsed=await doctor_module.lapsed(session),
                    pauses=await pauses.all_pauses(session),
                    namesakes=namesakes(await nodes.known(session)),
                )
    finally:
        await services.database.dispose()
