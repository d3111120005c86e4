import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from jobtrail.cli import doctor as checks
from jobtrail.cli.doctor import Finding, Found
from jobtrail.db.migrate import Schema
from jobtrail.db.rights import Lack
from jobtrail.ops.doctor import Holder, Lapsed, Server, Stranded, holder
from jobtrail.ops.nodes import NodeRecord
from jobtrail.ops.pauses import Pause
from jobtrail.records import Stats
from jobtrail.settings import Settings
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog, Namesakes
from support import tasks
from support.command import Command
from support.rows import born, in_status
from support.served import CHECKOUT, Served
from support.until import until
from support.world import Place, node_at, services_at

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SETTINGS = Settings(database_url="postgresql://127.0.0.1:1/app", tasks=("support.tasks",))
CATALOG = Catalog.from_modules([tasks])
THERE = Server(180000, "18.0", 97, 3, False)
WELL = Found(SETTINGS, CATALOG, "postgresql://there", THERE, timedelta(0), Schema.CURRENT, "1")


def node(**more: Any) -> NodeRecord:
    return NodeRecord(
        uuid4(), "host", 42, "0.1.0", (), (), **{"slots": {"loop": 1}, "started_at": NOW, "heartbeat_at": NOW, **more}
    )


def server(version: int = 180000, text: str = "18.0", **more: Any) -> dict[str, Server]:
    return {"server": Server(version, text, 97, 3, **{"is_standby": False, **more})}


def behind(numbers: float, webhooks: float) -> Stats:
    return Stats(NOW, NOW, NOW, 0, False, None, 0, None, 0, 0, 0, {}, 0.0, numbers, webhooks, (), (), ())


LACKS = [Lack("jobtrail.jobs", "UPDATE", "app"), Lack("SCHEMA jobtrail", "USAGE", "app")]
LAPSED = {"lapsed": [Lapsed(uuid4(), 3, NOW)]}
MAIL, GONE = Stranded("noop", "mail", 2), Stranded("gone", "mail", 1)
OWN = Stranded("jobtrail.webhook", "jobtrail.webhooks", 7)
NAMESAKES = {"namesakes": [Namesakes("buy", "shop.tasks", "a", "mail.tasks", "b")]}
PAUSES = {"pauses": [Pause("queue", "mail", NOW, "ann", "why"), Pause("task", "a b", NOW, "bob", None)]}
MINUTE = {"living": [node(), node(lease=timedelta(minutes=1))]}
ALIVE = {"living": [node()]}
HOLDER = Holder(7, "psql", None)
EMBEDDED = {"schema": Schema.MISSING, "settings": Settings(database_url="embedded")}

CASES: list[tuple[Any, dict[str, Any], str, str]] = [
    (checks.check_server, {}, "ok", "PostgreSQL 18.0 at postgresql://there"),
    (checks.check_server, server(140011, "14.11"), "fault", "15 or later: upgrade"),
    (checks.check_server, server(is_standby=True), "fault", "name the primary"),
    (checks.check_server, server(is_read_only=True), "fault", "is read-only let it write again"),
    (checks.check_server, server(encoding="LATIN1"), "fault", "is in LATIN1, which cannot hold every text"),
    (checks.check_rights, {}, "ok", "may do all"),
    (checks.check_rights, {"lacks": LACKS}, "fault", "the role app lacks UPDATE on jobtrail.jobs; USAGE on jobtrail "),
    (checks.check_rights, {"lacks": LACKS}, "fault", " GRANT UPDATE ON jobtrail.jobs TO app; GRANT"),
    (checks.check_revision, {}, "ok", "is at 1, as this version needs it"),
    (checks.check_revision, {"schema": Schema.CLOSED}, "fault", "may not be read see `rights`"),
    (checks.check_revision, {"schema": Schema.LATER}, "warn", "made for a later one"),
    (checks.check_revision, {"schema": Schema.OLDER}, "fault", "run `jobtrail migrate`"),
    (checks.check_revision, {"schema": Schema.MISSING}, "fault", "run `jobtrail migrate`"),
    (checks.check_revision, EMBEDDED, "ok", "`jobtrail serve` makes it"),
    (checks.check_clock, {"ahead": timedelta(seconds=-1)}, "ok", "differ by 1.00 s"),
    (checks.check_clock, {"ahead": timedelta(seconds=90)}, "warn", "90.0 s ahead of this machine's"),
    (checks.check_clock, {"ahead": timedelta(seconds=-90)}, "warn", "90.0 s behind this machine's"),
    (checks.check_connections, {"living": [node()] * 3}, "ok", "3 node(s) may take 66 of 97 connections"),
    (checks.check_connections, {"living": [node()] * 4}, "warn", "4 node(s) may take 88 of 97 connections"),
    (checks.check_connections, {"living": [node()] * 4, "is_pooled": True}, "warn", "may take 84 of 97 connections"),
    (checks.check_connections, {"living": [node()] * 5}, "fault", "JOBTRAIL_POOL_SIZE"),
    (checks.check_nodes, {}, "warn", "start `jobtrail serve` or `jobtrail work`"),
    (checks.check_nodes, {"living": [node(slots={"loop": 0}), node()]}, "ok", "living: 2"),
    (checks.check_nodes, {"living": [node(slots={"loop": 0})]}, "warn", "only accepts jobs: nothing runs them"),
    (checks.check_nodes, {"silent": [node()]}, "warn", "went silent: host pid 42 since 2026-01-02 00:00:00"),
    (checks.check_left_behind, {"living": [node()]}, "ok", "every task ended when it was told to"),
    (checks.check_left_behind, {"living": [node(left_behind=2)]}, "warn", "keeps its slot: 2 on host pid 42 find them"),
    (checks.check_rescue, {}, "ok", "running again, or ended, within 39.35s: by its lease of 30s; up to"),
    (checks.check_rescue, MINUTE, "ok", "within 77.6s: by its lease of 1m"),
    (checks.check_running, {}, "ok", "every running job"),
    (checks.check_running, LAPSED, "fault", "3 running jobs have no node"),
    (checks.check_running, {**LAPSED, "living": [node()]}, "warn", "a living node rescues them"),
    (checks.check_pending, {}, "ok", "every pending job"),
    (checks.check_pending, {"stranded": [MAIL]}, "warn", "2 of noop in queue mail"),
    (checks.check_pending, {"stranded": [OWN]}, "warn", " 7 of jobtrail.webhook in queue jobtrail.webhooks start "),
    (checks.check_pending, {"stranded": [OWN]}, "warn", "webhooks start `jobtrail work --queue jobtrail.webhooks`"),
    (checks.check_pending, {"stranded": [MAIL, OWN]}, "warn", "own start `jobtrail work --queue jobtrail.webhooks`"),
    (checks.check_pending, {"stranded": [OWN, GONE]}, "fault", "no node knows the task: 1 of gone in queue mail"),
    (checks.check_pending, {"stranded": [MAIL, GONE]}, "fault", "no node knows the task: 1 of gone in queue mail"),
    (checks.check_pending, {"stranded": [GONE] * 6}, "fault", "1 of gone in queue mail, …"),
    (checks.check_namesakes, {}, "ok", "one app: in schema jobtrail"),
    (checks.check_namesakes, NAMESAKES, "warn", "task 'buy' is shop.tasks on a and mail.tasks on b: if these are two"),
    (checks.check_feed, {}, "ok", "webhooks and numbers keep up"),
    (checks.check_feed, {"stats": behind(300, 300)}, "ok", "webhooks and numbers keep up"),
    (checks.check_feed, {"stats": behind(1, 301)}, "warn", "webhooks are 301s behind: no node is running start"),
    (
        checks.check_feed,
        {"stats": behind(7200, 600), **ALIVE},
        "warn",
        "webhooks are 10m behind, numbers are 2h behind",
    ),
    (
        checks.check_feed,
        {"stats": behind(7200, 600), **ALIVE},
        "warn",
        "in the lines with background loop 'webhooks' and background loop 'numbers'",
    ),
    (checks.check_feed, {"stats": behind(600, 0), **ALIVE, "holder": HOLDER}, "warn", "backend 7 (psql) has locked"),
    (checks.check_feed, {"stats": behind(600, 0), **ALIVE, "holder": HOLDER}, "warn", "pg_terminate_backend(7)"),
    (checks.check_pauses, {}, "ok", "nothing is paused"),
    (checks.check_pauses, PAUSES, "warn", "`jobtrail resume --queue mail`; `jobtrail resume --task 'a b'`"),
]


@pytest.mark.parametrize(("check", "change", "level", "words"), CASES)
def test_what_is_told_of_what_the_database_said(check: Any, change: dict[str, Any], level: str, words: str) -> None:
    finding = check(replace(WELL, **change))
    assert finding.level == level
    assert words in f"{finding.detail} {finding.fix}"
    assert (finding.fix is None) == (level == "ok")


def test_a_folder_that_is_not_used_is_told() -> None:
    unused = checks.check_folder(Settings(database_url="postgresql://there/app", data_dir=Path("/srv/jobs")))
    used = checks.check_folder(Settings(database_url="embedded", data_dir=Path("/srv/jobs")))
    assert (unused.level, used.level) == ("warn", "ok")
    assert used.detail.endswith("keeps its data in /srv/jobs")


async def test_a_set_up_that_is_well(jobtrail: Command, place: Place) -> None:
    async with node_at(services_at(place), place):
        await until(lambda: place.rows("SELECT FROM jobtrail.nodes"))
        words, document = (
            await jobtrail("doctor", JOBTRAIL_PORT="0"),
            await jobtrail("doctor", "--json", JOBTRAIL_PORT="0"),
        )
    told = found(document.json["checks"])
    assert (words.code, words.err, document.code, document.json["ok"]) == (0, "", 0, True)
    assert set(told) == {
        "settings", "variables", "tasks", "port", "folder", "server", "revision", "rights", "clock",
        "connections",
        "nodes", "left behind", "rescue", "running", "pending", "pauses", "namesakes",
        "alarms", "feed",
    }  # fmt: skip
    assert {each.level for each in told.values()} == {"ok"}
    assert [line.split()[0] for line in words.out.splitlines()] == ["LEVEL", *["ok"] * 19]


async def test_who_holds_the_cursors_of_the_feed_is_found(place: Place) -> None:
    services = services_at(place)
    async with place.psql.transaction():
        await place.psql.execute("SELECT FROM jobtrail.feed_cursors WHERE name = 'webhooks' FOR UPDATE")
        async with services.database.sessions() as session:
            found = await holder(session, timedelta(0))
            assert found is not None
            assert (found.pid, found.since) == tuple(
                (await place.rows("SELECT pg_backend_pid() AS pid, now() AS since"))[0].values()
            )
            assert await holder(session) is None
    async with services.database.sessions() as session:
        assert await holder(session, timedelta(0)) is None


async def test_what_is_left_behind(jobtrail: Command, place: Place) -> None:
    await born(place, "noop", queue="mail")
    await born(place, "forgotten")
    await in_status(place, Status.RUNNING)
    await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() - interval '1 h' WHERE status = 'running'")
    await place.psql.execute(
        """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, heartbeat_at) VALUES
           (gen_random_uuid(), 'old', 7, '0', '{}', '{forgotten}', '{}', now() - interval '2 min'),
           (gen_random_uuid(), 'new', 8, '0', '{other}', '{noop,forgotten}', '{}', now())"""
    )
    done = await jobtrail("doctor", "--json", JOBTRAIL_PORT="0")
    told = found(done.json["checks"])
    assert (done.code, done.json["ok"]) == (1, False)
    assert (told["nodes"].level, told["running"].level, told["pending"].level) == ("warn", "warn", "fault")
    assert told["nodes"].detail.startswith("went silent: old pid 7 since ")
    assert told["running"].detail.startswith("1 running jobs have no node any more")
    assert told["pending"].detail == "no node knows the task: 1 of forgotten in queue default"
    assert told["pauses"].level == "ok"
    await place.psql.execute("INSERT INTO jobtrail.pauses (kind, name) VALUES ('queue', 'mail')")
    known = found((await jobtrail("doctor", "--json", JOBTRAIL_QUEUES="mail")).json["checks"])
    assert (known["pending"].level, known["pauses"].level) == ("fault", "warn")


async def test_a_port_that_is_taken_by_a_jobtrail_or_by_another(jobtrail: Command, folder: Path, place: Place) -> None:
    async with Served.start(folder, place.url.libpq, **CHECKOUT) as service:
        port = str(service.client.base_url.port)
        ours = found((await jobtrail("doctor", "--json", JOBTRAIL_PORT=port)).json["checks"])
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        done = await jobtrail("doctor", JOBTRAIL_PORT=taken)
    assert (ours["port"].level, ours["port"].detail) == ("ok", f"a Jobtrail answers on 127.0.0.1 port {port}")
    assert done.code == 1
    told = f"cannot listen on 127.0.0.1 port {taken}: Address already in use"
    assert f"fault  port         JOBTRAIL_HOST, JOBTRAIL_PORT: {told}\n" in done.out
    assert "fix: choose another with JOBTRAIL_PORT, or stop what listens there\n" in done.out


@pytest.mark.parametrize(
    ("variables", "check", "level", "words"),
    [
        ({}, "database", "fault", "JOBTRAIL_DATABASE_URL is not set"),
        ({"JOBTRAIL_DATABASE_URL": "postgresql://127.0.0.1:1/a"}, "database", "fault", "nothing answers at"),
        ({"JOBTRAIL_LEASE": "soon"}, "settings", "fault", "JOBTRAIL_LEASE: 'soon' is not a duration"),
        ({"JOBTRAIL_LEASES": "5s"}, "variables", "warn", "did you mean JOBTRAIL_LEASE?"),
        ({}, "tasks", "warn", "no module is named"),
        ({"JOBTRAIL_TASKS": "nowhere"}, "tasks", "fault", "the module 'nowhere' cannot be imported"),
    ],
)
async def test_what_can_be_said_without_a_database(
    bare: Command, variables: dict[str, str], check: str, level: str, words: str
) -> None:
    done = await bare("doctor", "--json", **variables)
    told = found(done.json["checks"])
    assert (done.code, done.err, done.json["ok"]) == (1, "", False)
    assert told[check].level == level
    assert words in told[check].detail
    assert told[check].fix


def found(told: Sequence[dict[str, Any]]) -> dict[str, Finding]:
    return {each["check"]: Finding(**each) for each in told}
