"""GET /stats and the metrics: what they say is what happened, and what Prometheus can read."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobtrail.db.direct import Statement
from jobtrail.db.errors import FAILURES
from jobtrail.events import feed
from jobtrail.jobs.meters import BOUNDS, TaskMeter
from jobtrail.status import Status
from support.rows import in_status, passed
from support.service import Service
from support.until import until
from support.world import Place, ended, submitted

PROCESS = "/v1/metrics"
DATABASE = "/v1/metrics/database"


async def metrics(client: httpx.AsyncClient, path: str) -> dict[tuple[str, ...], float]:
    """The value of each sample, by its name and labels."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        for sample in family.samples:
            assert not sample.name.endswith("_created")
            found[sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))] = sample.value
    return found


async def test_stats_of_nothing(service: Service) -> None:
    found: Mapping[str, Any] = (await service.client.get("/v1/stats")).json()
    assert {name: found[name] for name in ("pending", "more", "running", "ended", "failed", "nodes", "slots")} == {
        "pending": 0, "more": False, "running": 0, "ended": 0, "failed": 0, "nodes": 0, "slots": {},
    }  # fmt: skip
    assert (found["oldest_pending_at"], found["queues"], found["tasks"]) == (None, [], [])
    assert found["numbers_lag"] == 0
    assert found["alarms"] == [
        {"name": "pending", "value": 0, "limit": 1000, "rings": False},
        {"name": "running", "value": 0.0, "limit": 300.0, "rings": False},
        {"name": "failures", "value": 0.0, "limit": 0.05, "rings": False},
    ]


async def test_what_is_told_is_a_second_old_at_most(service: Service, place: Place) -> None:
    """Also where no node runs that could have counted."""

    async def failures() -> int:
        return int((await service.client.get("/v1/stats")).json()["failed"])

    before = await failures()
    await in_status(place, Status.FAILED)
    await until(lambda: is_one_more(failures, before))


async def is_one_more(count: Any, before: int) -> bool:
    return bool(await count() == before + 1)


async def test_a_process_counts_what_it_does(running: Service, place: Place) -> None:
    before = await metrics(running.client, PROCESS)
    services = running.services
    jobs = [await submitted(services, task, **args) for task, args in (
        ("noop", {}), ("noop", {}), ("fail", {"how": "plain"}), ("flaky", {"succeed_at": 2, "max_attempts": 2}),
    )]  # fmt: skip
    for job in jobs:
        await ended(services, job.id)

    async def counted() -> dict[tuple[str, ...], float] | None:
        found = await metrics(running.client, PROCESS)
        return found if found.get(("jobtrail_attempts_ended_total", "status=succeeded", "task=noop")) == 2 else None

    found = await until(counted)
    grown = {key: value - before.get(key, 0) for key, value in found.items() if value != before.get(key, 0)}
    assert grown["jobtrail_jobs_accepted_total", "task=noop"] == 2
    assert grown["jobtrail_attempts_started_total", "task=noop"] == 2
    assert grown["jobtrail_attempts_ended_total", "status=failed", "task=fail"] == 1
    assert grown["jobtrail_attempts_ended_total", "status=pending", "task=flaky"] == 1
    for name in ("wait", "run"):
        assert grown[f"jobtrail_{name}_seconds_count", "task=noop"] == 2
        assert grown[f"jobtrail_{name}_seconds_bucket", "le=+Inf", "task=noop"] == 2
        assert grown[f"jobtrail_{name}_seconds_sum", "task=noop"] > 0
    attempts = "SELECT task, count(*) AS n FROM jobtrail.transitions WHERE to_status = 'running' GROUP BY task"
    for row in await place.rows(attempts):
        assert found["jobtrail_attempts_started_total", f"task={row['task']}"] == row["n"]
    ends = """
        SELECT task, to_status, count(*) AS n FROM jobtrail.transitions WHERE from_status = 'running' GROUP BY 1, 2
    """
    for row in await place.rows(ends):
        key = ("jobtrail_attempts_ended_total", f"status={row['to_status']}", f"task={row['task']}")
        assert found[key] == row["n"]
    slots = {key: value for key, value in found.items() if key[0] in ("jobtrail_slots", "jobtrail_slots_busy")}
    assert slots["jobtrail_slots", "executor=loop"] == 100
    assert slots["jobtrail_slots_busy", "executor=loop"] == 0
    node = await place.value("SELECT id FROM jobtrail.nodes")
    assert any(key[0] == "jobtrail_node_info" and f"node={node}" in key for key in found)
    assert ("jobtrail_loop_lag_seconds",) in found


async def test_a_running_job_takes_a_slot(running: Service) -> None:
    job = await running.submitted("hold")
    await running.until_status(job["id"], "running")
    busy = ("jobtrail_slots_busy", "executor=loop")

    async def is_busy() -> bool:
        return (await metrics(running.client, PROCESS))[busy] == 1

    await until(is_busy)


async def test_no_name_from_outside_becomes_a_label(service: Service) -> None:
    await service.client.post("/v1/jobs", json={"task": "evil\nname"})
    found = await metrics(service.client, PROCESS)
    known = {f"task={name}" for name in service.services.catalog.names}
    assert {label for _, *labels in found for label in labels if label.startswith("task=")} <= known


async def test_errors_of_the_database_are_counted(service: Service) -> None:
    database = service.services.database
    before = (await metrics(service.client, PROCESS)).get(("jobtrail_database_errors_total", "fault=data"), 0)
    with pytest.raises(DBAPIError):
        async with database.autocommit() as connection:
            await connection.execute(text("SELECT 1 / 0"))
    with pytest.raises(FAILURES):
        await database.fetch(Statement("SELECT 1 / 0"))

    async def counted() -> bool:
        found = await metrics(service.client, PROCESS)
        return found.get(("jobtrail_database_errors_total", "fault=data"), 0) == before + 2

    await until(counted)


async def test_the_database_is_told_as_plain_sql_tells_it(service: Service, place: Place) -> None:
    for status in Status:
        await in_status(place, status, queue="mail")
    await place.psql.execute(
        """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, stale_ends, loop_lag) VALUES
           (gen_random_uuid(), 'a', 7, '0', '{}', '{noop}', '{"loop": 3}', 2, 0.5),
           (gen_random_uuid(), 'b', 8, '0', '{}', '{noop}', '{"loop": 4, "thread": 1}', 3, 0.25)"""
    )
    await place.psql.execute("UPDATE jobtrail.jobs SET ttl = '0', expires_at = finished_at WHERE status = 'succeeded'")

    async def fresh() -> dict[tuple[str, ...], float] | None:
        found = await metrics(service.client, DATABASE)
        return found if found[("jobtrail_db_nodes",)] == 2 and found[("jobtrail_db_purge_lag_seconds",)] > 0 else None

    found = await until(fresh)
    for row in await place.rows("SELECT task, kind, n FROM jobtrail.totals"):
        assert found["jobtrail_db_jobs_total", f"kind={row['kind']}", f"task={row['task']}"] == row["n"]
    assert found["jobtrail_db_pending_jobs", "queue=mail"] == 1
    assert found["jobtrail_db_running_jobs", "queue=mail"] == 1
    assert found["jobtrail_db_task_running_jobs", "task=noop"] == 1
    assert found["jobtrail_db_oldest_pending_seconds", "queue=mail"] > 0
    assert found[("jobtrail_db_oldest_running_seconds",)] > 0
    assert (found["jobtrail_db_slots", "executor=loop"], found["jobtrail_db_slots", "executor=thread"]) == (7, 1)
    assert found[("jobtrail_db_loop_lag_seconds",)] == 0.5
    assert found[("jobtrail_db_refused_writes",)] == 5
    assert found["jobtrail_db_alarm", "alarm=failures"] == 1
    assert (found[("jobtrail_db_schedules_late",)], found[("jobtrail_db_limits_full",)]) == (0, 0)


async def test_what_stands_still_is_told(service: Service, place: Place) -> None:
    """No node runs here that makes deliveries; the numbers count who asks."""
    await passed(place)
    await in_status(place, Status.SUCCEEDED)
    made = await feed.mark(place.database)
    await place.psql.execute("UPDATE jobtrail.feed_marks SET at = at - interval '1 hour' WHERE no = $1", made.no)

    async def both() -> bool:
        found = await metrics(service.client, DATABASE)
        stats = (await service.client.get("/v1/stats")).json()
        lags = {label: found["jobtrail_db_feed_lag_seconds", f"derived={label}"] for label in ("numbers", "webhooks")}
        return 3600 <= lags["webhooks"] <= stats["webhooks_lag"] < 7200 and (lags["numbers"], stats["numbers_lag"]) == (
            0,
            0,
        )

    await until(both)


async def test_a_job_grows_old_while_the_counting_stands_still(service: Service, place: Place) -> None:
    """Since when it runs, or waits, is a row of now: no time of the counting is beside it."""
    await in_status(place, Status.RUNNING, queue="mail")
    await in_status(place, Status.PENDING, queue="mail", run_at=await place.value("SELECT now() - interval '1 h'"))
    await place.psql.execute("UPDATE jobtrail.jobs SET started_at = now() - interval '1 h' WHERE status = 'running'")
    await passed(place)
    await place.psql.execute("UPDATE jobtrail.feed_marks SET at = at - interval '1 day'")
    await in_status(place, Status.SUCCEEDED)
    async with place.psql.transaction():
        await place.psql.execute("SELECT FROM jobtrail.feed_cursors WHERE name = 'minutes' FOR UPDATE")

        async def stands_still() -> Mapping[str, Any] | None:
            stats: Mapping[str, Any] = (await service.client.get("/v1/stats")).json()
            return stats if stats["numbers_lag"] and stats["running"] == 1 else None

        stats = await until(stands_still)
        found = await metrics(service.client, DATABASE)
    assert datetime.fromisoformat(stats["read_at"]) - datetime.fromisoformat(stats["as_of"]) > timedelta(hours=23)
    (alarm,) = [each for each in stats["alarms"] if each["name"] == "running"]
    assert alarm["rings"]
    assert 3600 <= alarm["value"] < 7200
    for name in (("jobtrail_db_oldest_running_seconds",), ("jobtrail_db_oldest_pending_seconds", "queue=mail")):
        assert 3600 <= found[name] < 7200


async def test_counters_and_slots_begin_at_0(service: Service, place: Place) -> None:
    """A rule sees neither what appears at 100 nor what is not there. The task is that of a process that runs none."""
    await place.psql.execute(
        """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, modules) VALUES
           (gen_random_uuid(), 'a', 7, '0', '{}', '{}', '{"loop": 0}', '{"mail": "app.tasks"}'),
           (gen_random_uuid(), 'b', 8, '0', '{}', '{report}', '{"loop": 0}', NULL)"""
    )

    async def known() -> dict[tuple[str, ...], float] | None:
        found = await metrics(service.client, DATABASE)
        return found if found[("jobtrail_db_nodes",)] == 2 else None

    found = await until(known)
    assert {
        name: value for name, value in found.items() if name[0] in ("jobtrail_db_jobs_total", "jobtrail_db_slots")
    } == {
        **{
            ("jobtrail_db_jobs_total", f"kind={kind}", f"task={task}"): 0
            for task in ("mail", "report")
            for kind in ("succeeded", "failed", "cancelled", "lost")
        },
        **{("jobtrail_db_slots", f"executor={executor}"): 0 for executor in ("loop", "thread", "process")},
    }


async def test_full_limits_and_late_schedules_are_counted(service: Service, place: Place) -> None:
    await in_status(place, Status.RUNNING, limit_keys=["k"], limit_terms="""[{"template": "t", "number": 1}]""")
    await place.psql.execute(
        "INSERT INTO jobtrail.schedules (name, task, every) VALUES ('late', 'noop', interval '1 hour')"
    )
    await place.psql.execute("UPDATE jobtrail.schedules SET next_at = now() - interval '2 min'")

    async def both() -> bool:
        found = await metrics(service.client, DATABASE)
        return (found[("jobtrail_db_schedules_late",)], found[("jobtrail_db_limits_full",)]) == (1, 1)

    await until(both)


def test_a_bucket_holds_its_bound() -> None:
    meter = TaskMeter()
    for seconds in (0.0, *BOUNDS, 1000.0):
        meter.start(seconds)
        meter.end(Status.SUCCEEDED, seconds)
    meter.start(None)
    assert (meter.started, meter.ended[Status.SUCCEEDED]) == (8, 7)
    for found in (meter.wait, meter.run):
        assert found.counts == [2, 1, 1, 1, 1, 1]
        assert found.total == sum(BOUNDS) + 1000
