"""docs/security.md taken at its word: three roles with the GRANTs as written, and what each can do with them."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from alembic import command

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.engine import connect_once, open_database, open_single
from jobtrail.db.migrate import config
from jobtrail.db.rights import to_run
from jobtrail.db.url import normalize
from jobtrail.jobs.purge import purge
from jobtrail.jobs.rescue import rescue
from jobtrail.jobs.services import Services
from jobtrail.ops.audit import ask, questions
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import tasks, world
from support.command import Command
from support.readme import blocks
from support.rows import in_status, passed
from support.served import CHECKOUT, Served
from support.service import Service, install
from support.until import until
from support.world import Place, create, judge

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "security.md"
FIRST, APP, AUDITOR = (block.text for block in blocks(PAGE.read_text()) if block.language == "sql")
ROLES = ("jobtrail_auditor", "jobtrail_app", "jobtrail_owner")


@dataclass(frozen=True)
class Roles:
    """A database that was set up as the page says; `place` is the app's, and its `psql` a superuser's."""

    place: Place
    command: Command

    @property
    def services(self) -> Services:
        return Services(self.place.database, Catalog.from_modules([tasks]))

    async def run(self, role: str, *words: str, **more: str) -> Any:
        settings = {"JOBTRAIL_DATABASE_URL": _as(self.place.url.libpq, role), "JOBTRAIL_PORT": "0"}
        return await self.command(*words, **settings | more)


def _as(url: str, role: str) -> str:
    return re.sub(r"//[^@]*@", f"//{role}@", url)


@pytest.fixture(scope="module")
async def roles(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Roles]:
    there, folder = await create(postgres), tmp_path_factory.mktemp("roles")
    psql, owner = await asyncpg.connect(there), None
    await psql.execute(FIRST)
    url = normalize(_as(there, "jobtrail_app"))
    database = open_database(url.sqlalchemy)
    try:
        command = Command(folder, {"JOBTRAIL_TASKS": "support.tasks"})
        made = Roles(Place(url, database, psql, None), command)  # type: ignore[arg-type]
        for words in (("migrate",), ("migrate",)):
            done = await made.run("jobtrail_owner", *words)
            assert (done.code, done.err) == (0, "")
        owner = await asyncpg.connect(_as(there, "jobtrail_owner"))
        await owner.execute(APP)
        await owner.execute(AUDITOR)
        yield made
    finally:
        await database.dispose()
        if owner is not None:
            await owner.close()
        for role in ROLES:
            await psql.execute(f"DROP OWNED BY {role} CASCADE")
            await psql.execute(f"DROP ROLE {role}")
        await psql.close()


async def test_a_whole_life_by_a_role_that_only_runs(roles: Roles) -> None:
    place, services = roles.place, roles.services
    served = Service(services)
    install(served.app, served.context)
    async with world.node_at(services, place, connect=partial(open_single, place.url.sqlalchemy)):
        told = await served.ended((await served.submitted("tell"))["id"])
        failed = await served.ended((await served.submitted("fail", args={"how": "error"}, ttl=3600))["id"])
        answers = [await served.client.post(f"/v1/jobs/{failed['id']}/retry")]
        await served.ended(failed["id"])
        gone = (await served.submitted("noop", ttl=0))["id"]
        await until(lambda: place.value("SELECT NOT EXISTS (SELECT FROM jobtrail.jobs WHERE id = $1)", UUID(gone)))
        answers.append(await served.client.put("/v1/pauses/queue/default", json={"reason": "why"}))
        waiting = (await served.submitted("noop"))["id"]
        answers.append(await served.client.delete(f"/v1/jobs/{waiting}"))
        answers.append(await served.client.delete("/v1/pauses/queue/default"))
        answers.append(await served.client.post("/v1/keys", json={"name": "ann", "scopes": ["read"]}))
        answers.append(await served.client.delete(f"/v1/keys/{answers[-1].json()['id']}"))
        answers.append(await served.client.patch(f"/v1/jobs/{failed['id']}", json={"tags": ["seen"]}))
        answers.append(await served.client.get("/health/ready"))
    assert told["progress"]["note"] == "all"
    assert (await served.client.get(f"/v1/jobs/{told['id']}/log")).json()["items"]
    assert [each.status_code for each in answers] == [202, 200, 200, 204, 201, 204, 200, 200]
    await place.psql.execute("DELETE FROM jobtrail.nodes")
    lost = await in_status(place, Status.RUNNING)
    await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() - interval '1 h' WHERE id = $1", lost)
    assert [each.id for each in await rescue(place.database, node=await judge(place), by="node x")] == [lost]
    await place.psql.execute("DELETE FROM jobtrail.nodes")
    await place.psql.execute("UPDATE jobtrail.jobs SET expires_at = now() WHERE id = $1", lost)
    await purge(place.database, by="me", history_ttl=None)
    await passed(place)
    await purge(place.database, by="me", history_ttl=timedelta(0))
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE job_id = $1", lost) == 0
    histories = await place.rows(
        "SELECT to_status FROM jobtrail.transitions WHERE job_id = $1 ORDER BY seq", failed["id"]
    )
    assert [each["to_status"] for each in histories] == ["pending", "running", "failed"] * 2


async def test_a_role_that_runs_cannot_write_the_history(roles: Roles) -> None:
    place = roles.place
    job_id = await in_status(place, Status.FAILED)
    app = await asyncpg.connect(place.url.libpq)
    try:
        for statement in (
            "UPDATE jobtrail.transitions SET actor = 'nobody'",
            "INSERT INTO jobtrail.transitions SELECT * FROM jobtrail.transitions",
            "TRUNCATE jobtrail.transitions",
            "ALTER TABLE jobtrail.transitions DISABLE TRIGGER USER",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await app.execute(statement)
        with pytest.raises(asyncpg.CheckViolationError, match="stays as long as its row"):
            await app.execute("DELETE FROM jobtrail.transitions")
        await app.execute("UPDATE jobtrail.jobs SET status = 'pending' WHERE id = $1", job_id)
    finally:
        await app.close()
    actor = await place.value("SELECT actor FROM jobtrail.transitions WHERE job_id = $1 ORDER BY seq DESC", job_id)
    assert actor == "jobtrail_app"


async def test_an_auditor_asks_everything_and_changes_nothing(roles: Roles) -> None:
    job_id = await in_status(roles.place, Status.FAILED)
    given = {"history_of_job": {"id": str(job_id)}, "by_trace": {"trace_id": job_id.hex}}
    database = open_database(normalize(_as(roles.place.url.libpq, "jobtrail_auditor")).sqlalchemy)
    async with database.reading() as session:
        for name, question in questions().items():
            assert (await ask(session, question, given.get(name, {}))).columns
    await database.dispose()
    shown = await roles.run("jobtrail_auditor", "show", str(job_id), "--json")
    changed = await roles.run("jobtrail_auditor", "retry", str(job_id))
    assert (shown.code, shown.json["status"], changed.code, changed.out) == (0, "failed", 3, "")
    assert changed.err.startswith("jobtrail: the database refuses: permission denied for table jobs; `jobtrail doctor`")


RIGHTS = [(f"jobtrail.{table}" if table else "SCHEMA jobtrail", right) for table, right in to_run()]


async def test_each_right_that_is_missing_is_named_until_it_is_granted(roles: Roles) -> None:
    """The page has no more than it takes, and no less: without any one of them nothing is accepted."""
    place = roles.place
    served = Service(roles.services)
    install(served.app, served.context)
    for where, right in RIGHTS:
        await place.psql.execute(f"REVOKE {right} ON {where} FROM jobtrail_app")
        fix = f"GRANT {right} ON {where} TO jobtrail_app"
        missing = f"the role jobtrail_app lacks {right} on {where.removeprefix('SCHEMA ')}: {fix}"
        for call in (served.client.get("/health/ready"), served.client.post("/v1/jobs", json={"task": "noop"})):
            answer = await call
            assert (answer.status_code, answer.json()["detail"]) == (503, missing)
        if (where, right) in (RIGHTS[0], RIGHTS[-1]):
            (found,) = [each for each in (await _doctor(roles)) if each["check"] == "rights"]
            assert (found["level"], found["fix"]) == ("fault", fix)
        await place.psql.execute(fix)
        assert (await served.client.post("/v1/jobs", json={"task": "noop"})).status_code == 202
    assert (await served.client.get("/health/ready")).status_code == 200
    (found,) = [each for each in (await _doctor(roles)) if each["check"] == "rights"]
    assert found["level"] == "ok"


async def test_row_level_security_without_a_policy_is_named(roles: Roles) -> None:
    psql = roles.place.psql
    fix = "CREATE POLICY jobtrail_role ON jobtrail.jobs TO jobtrail_app USING (true)"
    await psql.execute("ALTER TABLE jobtrail.jobs ENABLE ROW LEVEL SECURITY")
    try:
        done = await roles.run("jobtrail_app", "doctor")
        assert done.code == 1
        assert "a policy for row level security on jobtrail.jobs" in done.out
        assert fix in done.out
        await psql.execute(fix)
        assert (await roles.run("jobtrail_app", "doctor")).code == 0
    finally:
        await psql.execute(
            "DROP POLICY IF EXISTS jobtrail_role ON jobtrail.jobs; ALTER TABLE jobtrail.jobs DISABLE ROW LEVEL SECURITY"
        )


async def test_who_starts_without_a_right(roles: Roles, tmp_path: Path) -> None:
    """A service is not ready until the GRANT; a node that nobody can ask does not start."""
    place = roles.place
    await place.psql.execute("REVOKE UPDATE ON jobtrail.jobs FROM jobtrail_app")
    missing = "the role jobtrail_app lacks UPDATE on jobtrail.jobs: GRANT UPDATE ON jobtrail.jobs TO jobtrail_app"
    working = await roles.run("jobtrail_app", "work")
    assert (working.code, working.err) == (2, f"jobtrail: JOBTRAIL_DATABASE_URL: {missing}\n")
    async with Served.start(tmp_path, place.url.libpq, **CHECKOUT) as service:
        first = await service.client.get("/health/ready")
        assert (first.status_code, first.json()["detail"]) == (503, missing)
        assert missing in (tmp_path / "serve.log").read_text()
        await place.psql.execute("GRANT UPDATE ON jobtrail.jobs TO jobtrail_app")
        assert (await service.client.get("/health/ready")).status_code == 200


async def test_only_what_is_missing_is_asked_of_who_migrates(roles: Roles, empty_url: str) -> None:
    """With nothing to do a right to read is enough; else the role, the right and the GRANT are named."""
    done = await roles.run("jobtrail_app", "migrate")
    assert (done.code, done.out.endswith(": nothing to do\n")) == (0, True)
    await _downgrade(roles.place)
    done = await roles.run("jobtrail_app", "migrate")
    assert done.code == 2
    assert (
        "the tables belong to jobtrail_owner: run `jobtrail migrate` as jobtrail_owner, not as jobtrail_app" in done.err
    )
    assert (await roles.run("jobtrail_owner", "migrate")).code == 0
    other = await asyncpg.connect(empty_url)
    done = await roles.run("jobtrail_owner", "migrate", JOBTRAIL_DATABASE_URL=_as(empty_url, "jobtrail_owner"))
    assert done.code == 2
    assert (
        "let who may run CREATE SCHEMA jobtrail AUTHORIZATION jobtrail_owner, or GRANT CREATE ON DATABASE" in done.err
    )
    await other.execute("CREATE SCHEMA jobtrail")
    await other.close()
    done = await roles.run("jobtrail_owner", "migrate", JOBTRAIL_DATABASE_URL=_as(empty_url, "jobtrail_owner"))
    assert (done.code, "GRANT USAGE, CREATE ON SCHEMA jobtrail TO jobtrail_owner" in done.err) == (2, True)


async def _downgrade(place: Place) -> None:
    """As the last migration found it."""
    settings = config()
    settings.attributes["connection"] = connect_once(_as(place.url.sqlalchemy, "jobtrail_owner"))
    await asyncio.to_thread(command.downgrade, settings, "-1")


async def _doctor(roles: Roles) -> Any:
    done = await roles.run("jobtrail_app", "doctor", "--json")
    assert done.err == ""
    return done.json["checks"]
