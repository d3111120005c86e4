"""Schedules over HTTP: made, looked at, paused, run and deleted; and what is refused."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest

from jobtrail.api.schedules import Backfill, Schedule, ScheduleDetail, ScheduleList
from jobtrail.status import Status
from support.rows import moved
from support.schedules import down_for, tick
from support.service import Service
from support.world import Place

WEEKDAYS = {"task": "noop", "args": {"n": 5}, "cron": "0 7 * * mon-fri", "zone": "Europe/Paris", "tags": ["early"]}
OFTEN = {"task": "noop", "every": 3600}


async def put(service: Service, name: str = "often", **body: Any) -> dict[str, Any]:
    answer = await service.client.put(f"/v1/schedules/{name}", json=body or OFTEN)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    Schedule.model_validate(found)
    return found


async def test_a_schedule_is_made_read_replaced_and_deleted(service: Service) -> None:
    made = await put(service, "weekdays", **WEEKDAYS)
    assert made["next_at"]
    assert {
        **WEEKDAYS,
        "name": "weekdays",
        "state": "active",
        "missed": "once",
        "overlap": "skip",
    }.items() <= made.items()
    assert (made["every"], made["jitter"], made["declared"]) == (None, 0, False)
    answer = await service.client.get("/v1/schedules/weekdays")
    ScheduleDetail.model_validate(answer.json())
    assert answer.json() == {**made, "next_times": answer.json()["next_times"], "last_jobs": [], "skipped": {}}
    times = [datetime.fromisoformat(each) for each in answer.json()["next_times"]]
    assert (len(times), answer.json()["next_times"][0]) == (5, made["next_at"])
    assert all(later - earlier >= timedelta(hours=23) for earlier, later in pairwise(times))
    again = await put(service, "weekdays", **WEEKDAYS)
    assert again == made
    replaced = await put(service, "weekdays", **OFTEN)
    assert (replaced["every"], replaced["cron"], replaced["zone"], replaced["args"]) == (3600, None, "UTC", {})
    assert (await service.client.delete("/v1/schedules/weekdays")).status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/run")):
        answer = await service.client.request(method, f"/v1/schedules/weekdays{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/v1/problems/schedule-not-found")


async def test_the_list_goes_on_by_name(service: Service) -> None:
    for name in ("c", "a", "b"):
        await put(service, name)
    first = (await service.client.get("/v1/schedules?limit=2")).json()
    ScheduleList.model_validate(first)
    assert ([each["name"] for each in first["items"]], first["next_cursor"]) == (["a", "b"], "b")
    rest = (await service.client.get("/v1/schedules?limit=2&cursor=b")).json()
    assert ([each["name"] for each in rest["items"]], rest["next_cursor"]) == (["c"], None)


async def test_its_jobs_are_shown_and_listed(service: Service, place: Place) -> None:
    await put(
        service,
        task="noop",
        args={
            "n": 1,
        },
        every=3600,
    )
    await tick(service.services)
    await down_for(place, 3.5)
    await tick(service.services)
    await service.client.post("/v1/jobs", json={"task": "noop"})
    detail = (await service.client.get("/v1/schedules/often")).json()
    (job,) = detail["last_jobs"]
    assert (job["schedule"], job["created_by"]) == ("often", "schedule:often")
    assert datetime.fromisoformat(job["scheduled_for"]) < datetime.fromisoformat(job["created_at"])
    assert detail["skipped"] == {"missed": 3}
    listed = (await service.client.get("/v1/jobs?schedule=often")).json()["items"]
    assert listed == [job]
    assert (await service.client.get("/v1/jobs?schedule=other")).json()["items"] == []
    counted = {"action": "cancel", "filter": {"schedule": ["often"]}, "dry_run": True}
    assert (await service.client.post("/v1/jobs/bulk", json=counted)).json()["matched"] == 1


async def test_a_pause_says_who_and_why_and_its_times_are_not_made_up_for(service: Service, place: Place) -> None:
    await put(service)
    await tick(service.services)
    paused = (await service.client.post("/v1/schedules/often/pause", json={"reason": "too many mails"})).json()
    assert (paused["state"], paused["pause_reason"], paused["next_at"]) == ("paused", "too many mails", None)
    again = (await service.client.post("/v1/schedules/often/pause", json={"reason": "another"})).json()
    assert again == paused
    assert (await service.client.get("/v1/schedules/often")).json()["next_times"] == []
    await down_for(place, 3.5)
    assert await tick(service.services) == []
    resumed = (await service.client.post("/v1/schedules/often/resume")).json()
    assert (resumed["state"], resumed["paused_at"], resumed["paused_by"], resumed["pause_reason"]) == (
        "active", None, None, None,
    )  # fmt: skip
    await tick(service.services)
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0
    assert datetime.fromisoformat(resumed["next_at"]) > await place.value("SELECT clock_timestamp()")


async def test_run_makes_a_job_now_unless_one_is_unfinished(service: Service, place: Place) -> None:
    await put(service, **{**WEEKDAYS, "queue": "mail"})
    answer = await service.client.post("/v1/schedules/often/run")
    assert answer.status_code == 202
    job = answer.json()
    assert (job["schedule"], job["scheduled_for"], job["args"], job["queue"]) == ("often", None, {"n": 5}, "mail")
    busy = await service.client.post("/v1/schedules/often/run")
    assert (busy.status_code, busy.json()["type"]) == (409, "/v1/problems/schedule-busy")
    for step in (Status.RUNNING, Status.SUCCEEDED):
        await moved(place, job["id"], step)
    assert (await service.client.post("/v1/schedules/often/run")).status_code == 202
    assert await place.value("SELECT count(*) FROM jobtrail.jobs WHERE schedule = 'often'") == 2


async def test_a_reader_and_a_writer_hear_of_a_change(service: Service) -> None:
    await put(service)
    seen = await service.client.get("/v1/schedules/often")
    tag = {"If-None-Match": seen.headers["ETag"]}
    assert (await service.client.get("/v1/schedules/often", headers=tag)).status_code == 304
    match = {"If-Match": seen.headers["ETag"]}
    assert (
        await service.client.put("/v1/schedules/often", json={**OFTEN, "every": 60}, headers=match)
    ).status_code == 200
    assert (await service.client.get("/v1/schedules/often", headers=tag)).status_code == 200
    late = await service.client.put("/v1/schedules/often", json=OFTEN, headers=match)
    assert (late.status_code, late.json()["type"]) == (412, "/v1/problems/precondition-failed")
    assert (await service.client.put("/v1/schedules/new", json=OFTEN, headers={"If-Match": "*"})).status_code == 412


@pytest.mark.parametrize(
    ("body", "kind", "pointer", "detail"),
    [
        ({"task": "noop"}, "invalid-input", "/cron", "exactly one of cron and every"),
        ({"task": "noop", "cron": "0 0 30 2 *"}, "invalid-input", "/cron", "there is no such day"),
        ({"task": "noop", "cron": "0-99999 * * * *"}, "invalid-input", "/cron", "Bad minute"),
        ({"task": "noop", "cron": "@daily", "zone": "Mars"}, "invalid-input", "/zone", "no zone"),
        ({**OFTEN, "ends_at": "2020-01-01T00:00:00Z"}, "invalid-input", "/ends_at", "no due time is left"),
        ({**OFTEN, "starts_at": "9999-12-29T23:59:59Z", "ends_at": "2020-01-01T00:00:00Z"}, "invalid-input", "/ends_at",
         "not after starts_at"),
        ({"task": "noop", "cron": "0 0 1 1 *", "starts_at": "9999-12-29T00:00:00Z"}, "invalid-input", "/ends_at", ""),
        ({**OFTEN, "missed": "all", "overlap": "skip"}, "invalid-input", "/missed", "leave overlap out"),
        ({**OFTEN, "task": "nop"}, "unknown-task", "/task", "did you mean noop?"),
        ({**OFTEN, "args": {"n": "x"}}, "invalid-arguments", "/args/n", "valid integer"),
        ({**OFTEN, "args": {"m": 1}}, "invalid-arguments", "/args/m", "there is no such argument"),
        ({**OFTEN, "task": "fail"}, "invalid-arguments", "/args/how", "this argument is missing"),
    ],
)  # fmt: skip
async def test_what_could_not_be_obeyed_is_refused(
    service: Service, body: dict[str, Any], kind: str, pointer: str, detail: str
) -> None:
    answer = await service.client.put("/v1/schedules/often", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, f"/v1/problems/{kind}")
    (flaw,) = answer.json()["errors"]
    assert flaw["pointer"] == pointer
    assert detail in flaw["detail"]
    assert (await service.client.get("/v1/schedules")).json()["items"] == []


@pytest.mark.parametrize("name", ["a b", "é", "-x", "x" * 201, "\0", "a\n"])
async def test_names_that_are_none(service: Service, name: str) -> None:
    path = f"/v1/schedules/{quote(name)}"
    refused = await service.client.put(path, json=OFTEN)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "{name}")
    assert (await service.client.get(path)).status_code == 404
    assert (await service.client.post(f"{path}/pause")).status_code == 404
    assert (await service.client.delete(path)).status_code == 404


async def test_a_row_from_psql_that_cannot_be_obeyed_is_shown_and_not_run(service: Service, place: Place) -> None:
    await place.psql.execute(
        "INSERT INTO jobtrail.schedules (name, task, cron, zone) VALUES ('bad', 'noop', 'nonsense', 'Mars')"
    )
    assert (await service.client.get("/v1/schedules/bad")).json()["next_times"] == []
    run = await service.client.post("/v1/schedules/bad/run")
    assert (run.status_code, run.json()["errors"][0]["pointer"]) == (422, "/zone")


async def test_secrets_in_arguments_are_not_shown(service: Service) -> None:
    shown = await put(service, task="noop", every=60)
    assert shown["args"] == {}
    refused = await service.client.put("/v1/schedules/x", json={**OFTEN, "args": {"password": "hunter2"}})
    assert "hunter2" not in refused.text


DAYS = {"from": "2025-03-29T00:00:00+01:00", "until": "2025-04-01T00:00:00Z"}
SEVEN = {"task": "noop", "cron": "0 7 * * *", "zone": "Europe/Paris"}


async def test_a_backfill_tells_its_due_times_and_then_is_a_batch(service: Service, place: Place) -> None:
    await put(service, "daily", **SEVEN)
    told = await service.client.post("/v1/schedules/daily/backfill", json={**DAYS, "dry_run": True})
    assert (told.status_code, "Location" in told.headers) == (200, False)
    times = ["2025-03-29T06:00:00Z", "2025-03-30T05:00:00Z", "2025-03-31T05:00:00Z"]
    expected = {"schedule": "daily", "dry_run": True, "count": 3, "times": times, "batch_id": None}
    assert told.json() == expected
    Backfill.model_validate(told.json())
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0
    done = await service.client.post("/v1/schedules/daily/backfill", json=DAYS)
    assert done.status_code == 202
    assert done.json() == expected | {"dry_run": False, "batch_id": done.json()["batch_id"]}
    batch = (await service.client.get(done.headers["Location"])).json()
    assert (batch["id"], batch["total"], batch["pending"]) == (done.json()["batch_id"], 3, 3)
    jobs = (await service.client.get(f"/v1/jobs?batch_id={batch['id']}")).json()["items"]
    assert [(job["schedule"], job["scheduled_for"]) for job in reversed(jobs)] == [("daily", each) for each in times]


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "/from", "Field required"),
        ({"from": "2025-03-01T00:00:00Z"}, "/until", "Field required"),
        ({**DAYS, "from": "2025-03-01T00:00:00"}, "/from", "timezone"),
        ({**DAYS, "from": 0}, "/from", "write a time with its zone"),
        ({**DAYS, "since": DAYS["from"]}, "/since", "Extra inputs"),
        ({**DAYS, "dry_run": "yes"}, "/dry_run", "valid boolean"),
        ({**DAYS, "until": DAYS["from"]}, "/until", "not after from"),
        ({**DAYS, "until": "9999-12-29T00:00:00Z"}, "/until", "write a time up to now"),
        ({**DAYS, "from": "0001-01-02T00:00:00Z"}, "/until", "more than 10000 due times"),
        ({**DAYS, "from": "2025-03-31T23:00:00Z"}, "/until", "no due time"),
    ],
)
async def test_a_backfill_of_nothing_or_too_much_is_refused(
    service: Service, place: Place, body: dict[str, Any], pointer: str, detail: str
) -> None:
    await put(service, "daily", **SEVEN)
    answer = await service.client.post("/v1/schedules/daily/backfill", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/v1/problems/invalid-input")
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert detail in answer.json()["errors"][0]["detail"]
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0
    gone = await service.client.post("/v1/schedules/gone/backfill", json=DAYS)
    assert (gone.status_code, gone.json()["type"]) == (404, "/v1/problems/schedule-not-found")
