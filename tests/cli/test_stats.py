"""`jobtrail stats`, the alarms of `jobtrail doctor`, and the metrics port of `jobtrail work`."""

import asyncio
import signal
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from jobtrail.status import Status
from support.command import Command
from support.demo import free_port
from support.rows import born, in_status
from support.served import CHECKOUT, Working
from support.until import until
from support.world import Place


async def test_the_same_as_over_http_and_in_words(jobtrail: Command, place: Place) -> None:
    for status in (Status.PENDING, Status.RUNNING, Status.SUCCEEDED, Status.FAILED):
        await in_status(place, status, queue="mail")
    document = await jobtrail("stats", "--json")
    assert document.code == 0
    found = document.json
    assert (found["pending"], found["running"], found["ended"], found["failed"]) == (1, 1, 2, 1)
    assert [each["queue"] for each in found["queues"]] == ["mail"]
    assert [(each["task"], each["ended"], each["failed"]) for each in found["tasks"]] == [("noop", 2, 1)]
    words = await jobtrail("stats")
    assert (words.code, words.err) == (0, "")
    lines = dict(line.split(":", 1) for line in words.out.split("\n\n")[0].splitlines())
    assert lines["pending"].strip() == "1"
    assert lines["ended"].strip().endswith("1 of them failed")
    assert (lines["numbers lag"].strip(), lines["webhooks lag"].strip()[-2:]) == ("0.000 s", " s")
    assert lines["alarms"].strip() == "50.0% of the jobs of the last hour failed, more than 5.0%"
    heads = ("QUEUE", "mail", "TASK", "noop")
    assert tuple(line.split()[0] for line in words.out.splitlines() if line.startswith(heads)) == heads


async def test_deliveries_are_told_apart_since_no_alarm_counts_them(jobtrail: Command, place: Place) -> None:
    own = {"task": "jobtrail.webhook", "queue": "jobtrail.webhooks"}
    for status in (Status.PENDING, Status.FAILED):
        await in_status(place, status, **own)
    await in_status(place, Status.SUCCEEDED)
    lines = dict(line.split(":", 1) for line in (await jobtrail("stats")).out.split("\n\n")[0].splitlines())
    assert lines["pending"].strip() == "1 (deliveries of webhooks, which no alarm counts: 1)"
    assert (
        lines["ended"]
        .strip()
        .endswith("1 of them failed (deliveries of webhooks, which no alarm counts: 1, 1 of them failed)")
    )
    assert lines["alarms"].strip() == "none"


async def test_nothing_rings_where_nothing_is(jobtrail: Command) -> None:
    done = await jobtrail("stats")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1].split(":")[1].strip() == "none"


async def test_the_doctor_tells_what_rings(jobtrail: Command, place: Place) -> None:
    await born(place)
    await born(place)
    await in_status(place, Status.RUNNING)
    await place.psql.execute("UPDATE jobtrail.jobs SET started_at = now() - interval '1 h' WHERE status = 'running'")
    done = await jobtrail(
        "doctor", "--json", JOBTRAIL_PORT="0", JOBTRAIL_ALARM_PENDING="1", JOBTRAIL_ALARM_RUNNING="59m"
    )
    (found,) = [each for each in done.json["checks"] if each["check"] == "alarms"]
    assert found["level"] == "warn"
    assert found["detail"].startswith("2 jobs are pending, more than 1; a job has run for 3,6")
    assert found["detail"].endswith(" s, longer than 3,540 s")
    assert found["fix"].endswith("the limits are JOBTRAIL_ALARM_PENDING, JOBTRAIL_ALARM_RUNNING")
    high = {"JOBTRAIL_ALARM_PENDING": "2", "JOBTRAIL_ALARM_RUNNING": "2h"}
    done = await jobtrail("doctor", "--json", JOBTRAIL_PORT="0", **high)
    assert [each["level"] for each in done.json["checks"] if each["check"] == "alarms"] == ["ok"]


async def test_a_node_without_http_answers_with_its_metrics(folder: Path, place: Place) -> None:
    port = free_port()
    job_id = await born(place)
    settings = {**CHECKOUT, "JOBTRAIL_TASKS": "support.tasks", "JOBTRAIL_METRICS_PORT": str(port)}
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)
    async with client, Working.start(folder, place.url.libpq, **settings) as node:

        async def ended() -> bool:
            return bool(await place.value("SELECT status = 'succeeded' FROM jobtrail.jobs WHERE id = $1", job_id))

        await until(ended)

        async def counted() -> bool:
            text = (await client.get("/v1/metrics")).text
            samples = {
                (each.name, each.labels.get("task"), each.labels.get("status")): each.value
                for family in text_string_to_metric_families(text)
                for each in family.samples
            }
            assert f'node="{node.node}"' in text
            return samples.get(("jobtrail_attempts_ended_total", "noop", "succeeded")) == 1

        await until(counted)
        node.signal(signal.SIGTERM)
        assert (await node.ended())[0] == 0


async def test_a_port_that_is_taken_is_one_clear_line(jobtrail: Command) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        done = await jobtrail("work", JOBTRAIL_METRICS_PORT=str(port))
    said = f"jobtrail: JOBTRAIL_METRICS_PORT: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert (done.code, done.err) == (2, said)
