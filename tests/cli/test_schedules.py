"""`jobtrail schedules`, on a database without a node."""

import re

import pytest

from support.command import Command
from support.schedules import jobs_of
from support.world import Place

ANN = {"USER": "ann", "LOGNAME": "ann"}


async def test_a_schedule_is_made_listed_shown_and_deleted(jobtrail: Command) -> None:
    assert (await jobtrail("schedules", "list")).out == "there are no schedules\n"
    made = await jobtrail(
        *("schedules", "put", "weekdays", "noop", "n=5", "--cron", "0 7 * * mon-fri", "--zone", "Europe/Paris"),
        *("--tag", "early", "--jitter", "5m", "--pause-after", "3", "--priority", "7"),
        **ANN,
    )
    assert (made.code, made.err) == (0, "")
    assert re.fullmatch(r"schedule weekdays of noop: next at [0-9-]+T0[56]:00:00Z\n", made.out)
    heads, row = (await jobtrail("schedules", "list")).out.splitlines()
    assert heads.split() == ["NAME", "STATE", "TASK", "CRON", "EVERY", "ZONE", "NEXT"]
    assert row.split()[:3] == ["weekdays", "active", "noop"]
    shown = (await jobtrail("schedules", "show", "weekdays", "--json")).json
    assert (shown["args"], shown["tags"], shown["jitter"], shown["pause_after"]) == ({"n": 5}, ["early"], 300, 3)
    assert (shown["edited_by"], len(shown["next_times"]), shown["last_jobs"]) == ("cli:ann", 5, [])
    assert (await jobtrail("schedules", "list", "--json")).json["items"][0].items() <= shown.items()
    text = (await jobtrail("schedules", "show", "weekdays")).out
    assert "next times:\n    " in text
    gone = await jobtrail("schedules", "delete", "weekdays")
    assert (gone.code, gone.out) == (0, "schedule weekdays is deleted\n")
    again = await jobtrail("schedules", "delete", "weekdays")
    assert (again.code, again.err) == (
        1, "jobtrail: no schedule is named 'weekdays'; `jobtrail schedules list` shows them\n",
    )  # fmt: skip


async def test_a_schedule_is_paused_resumed_and_run(jobtrail: Command, place: Place) -> None:
    await jobtrail("schedules", "put", "often", "noop", "--every", "1h")
    paused = await jobtrail("schedules", "pause", "often", "--reason", "too many mails", **ANN)
    assert re.fullmatch(r"schedule often is paused since \S+ by cli:ann: too many mails\n", paused.out)
    assert (await jobtrail("schedules", "show", "often", "--json")).json["state"] == "paused"
    ran = await jobtrail("schedules", "run", "often")
    (job,) = await jobs_of(place)
    assert (ran.code, ran.out) == (0, f"{job['id']}\n")
    busy = await jobtrail("schedules", "run", "often")
    assert (busy.code, "a job of the schedule often has not ended" in busy.err) == (1, True)
    listed = (await jobtrail("ls", "--schedule", "often", "--json")).json["items"]
    assert [each["id"] for each in listed] == [str(job["id"])]
    assert str(job["id"]) in (await jobtrail("schedules", "show", "often")).out
    resumed = await jobtrail("schedules", "resume", "often")
    assert re.fullmatch(r"schedule often goes on: next at \S+\n", resumed.out)


async def test_each_of_many_missed_due_times_runs_after_the_other(jobtrail: Command) -> None:
    made = await jobtrail("schedules", "put", "each", "noop", "--every", "1h", "--missed", "all", "--json")
    assert (made.code, made.err) == (0, "")
    assert (made.json["missed"], made.json["overlap"], made.json["zone"]) == ("all", "queue", "UTC")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["x", "noop"], "--cron: write exactly one of cron and every"),
        (["x", "noop", "--cron", "0 0 30 2 *"], "--cron: Bad day-of-month, or there is no such day"),
        (["x", "noop", "--cron", "@daily", "--zone", "Mars"], "--zone: no zone of the IANA database"),
        (["x", "noop", "--every", "1h", "--missed", "all", "--overlap", "skip"], "--missed: all would run one of them"),
        (["x", "noop", "--every", "1h", "--ends-at", "2020-01-01T00:00:00Z"], "--ends-at: no due time is left"),
        (["x", "noop", "--every", "1h", "--ends-at", "tomorrow"], "--ends-at: "),
        (["x", "noop", "--every", "soon"], "--every: 'soon' is not a duration"),
        (["x", "noop", "--every", "1h", "--priority", "10"], "--priority: "),
        (["x", "noop", "n=x", "--every", "1h"], "n: "),
        (["x", "nop", "--every", "1h"], "no task is named 'nop'; did you mean noop?"),
        (["a b", "noop", "--every", "1h"], "NAME: write letters, digits"),
    ],
)
async def test_what_could_not_be_obeyed_is_a_mistake_of_usage(
    jobtrail: Command, place: Place, words: list[str], told: str
) -> None:
    done = await jobtrail("schedules", "put", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert await place.value("SELECT count(*) FROM jobtrail.schedules") == 0


async def test_a_backfill_lists_its_due_times_and_then_is_a_batch(jobtrail: Command, place: Place) -> None:
    await jobtrail("schedules", "put", "daily", "noop", "--cron", "0 7 * * *", "--zone", "Europe/Paris")
    days = ("schedules", "backfill", "daily", "--from", "2025-03-29", "--until", "2025-03-31T00:00:00+02:00")
    told = await jobtrail(*days, "--dry-run")
    assert (told.code, told.out) == (0, "2025-03-29T06:00:00Z\n2025-03-30T05:00:00Z\n")
    assert await jobs_of(place, "daily") == []
    done = await jobtrail(*days, **ANN)
    made = await jobs_of(place, "daily")
    assert (done.code, done.out) == (0, f"{made[0]['batch_id']}\n")
    assert [job["created_by"] for job in made] == ["cli:ann"] * 2
    batch = (await jobtrail("batches", "show", done.out.strip(), "--json")).json
    assert (batch["total"], batch["pending"]) == (2, 2)
    document = (await jobtrail(*days, "--dry-run", "--json")).json
    assert (document["count"], document["batch_id"], len(document["times"])) == (2, None, 2)
    many = await jobtrail("schedules", "backfill", "daily", "--from", "150d", "--until", "0s", "--dry-run")
    assert re.fullmatch(r"(\S+Z\n){100}… and (49|50) more\n", many.out)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["daily", "--from", "2025-03-29"], 2, "--until"),
        (["daily", "--from", "soon", "--until", "1h"], 2, "--from: 'soon' is no time"),
        (["daily", "--from", "1h", "--until", "2h"], 2, "--until: this is not after from"),
        (["daily", "--from", "1h", "--until", "2999-01-01"], 2, "--until: due times to come become jobs"),
        (["daily", "--from", "0001-01-01", "--until", "1h"], 2, "--until: there are more than 10000 due times"),
        (["gone", "--from", "2h", "--until", "1h"], 1, "no schedule is named 'gone'"),
    ],
)
async def test_a_backfill_that_cannot_be_is_refused(
    jobtrail: Command, place: Place, words: list[str], code: int, told: str
) -> None:
    await jobtrail("schedules", "put", "daily", "noop", "--cron", "0 7 * * *")
    done = await jobtrail("schedules", "backfill", *words)
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert await jobs_of(place, "daily") == []
