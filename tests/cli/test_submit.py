import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtrail import task
from jobtrail.cli.submit import merge_args
from support import tasks
from support.command import Command, ended
from support.proxy import Proxy
from support.world import Place, node_at, services_at


async def test_a_job_from_the_command_line_is_in_the_table(jobtrail: Command, place: Place) -> None:
    done = await jobtrail("submit", "noop", "n=5")
    (row,) = await place.rows("SELECT id, task, args, status, created_by FROM jobtrail.jobs")
    assert (done.code, done.err, row["id"]) == (0, "", UUID(done.out.strip()))
    assert (row["task"], row["args"], row["status"]) == ("noop", '{"n": 5}', "pending")
    assert row["created_by"].startswith("cli:")


async def test_every_option_lands_in_the_row(jobtrail: Command) -> None:
    wanted = "noop n=7 --queue mail --priority 9 --ttl 2h --timeout 30s --max-attempts 3 --tag a --tag b --delay 5m"
    job = (await jobtrail("submit", *wanted.split(), "--json")).json
    expected = {"args": {"n": 7}, "queue": "mail", "priority": 9, "ttl": 7200, "timeout": 30, "max_attempts": 3}
    later = datetime.fromisoformat(job["run_at"]) - datetime.fromisoformat(job["created_at"])
    assert {name: job[name] for name in expected} == expected
    assert (job["tags"], timedelta(minutes=4.5) < later <= timedelta(minutes=5)) == (["a", "b"], True)
    words = ("--ttl", "keep", "--timeout", "none", "--run-at", "2030-01-31T12:00:00+02:00", "--json")
    job = (await jobtrail("submit", "too_slow", *words)).json
    assert (job["ttl"], job["timeout"], job["run_at"]) == (None, None, "2030-01-31T10:00:00Z")
    assert (await jobtrail("submit", "noop", "--ttl", "0s", "--json")).json["ttl"] == 0


async def test_a_key_gives_the_first_job_again(jobtrail: Command, place: Place) -> None:
    words = ("submit", "noop", "--idempotency-key", "k")
    first, again, other = await jobtrail(*words), await jobtrail(*words), await jobtrail(*words, "n=2", "--json")
    assert (again.code, again.out, again.err) == (
        0, first.out, "jobtrail: the key was used before: this is its job\n"
    )  # fmt: skip
    assert (other.code, '"type": "idempotency-key-reused"' in other.err) == (1, True)
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1


async def test_a_unique_key_gives_the_unfinished_job(jobtrail: Command, place: Place) -> None:
    words = (
        "submit",
        "noop",
        "--unique-key",
        "k:{n}",
        "--on-duplicate",
        "replace",
        "--delay",
        "1h",
        "--max-delay",
        "2h",
    )
    first, again = await jobtrail(*words, "n=1"), await jobtrail(*words, "n=1", "--priority", "9")
    assert (again.code, again.out, again.err) == (0, first.out, "jobtrail: an unfinished job has the key 'k:1'\n")
    assert await place.value("SELECT array_agg(priority) FROM jobtrail.jobs") == [9]


async def test_waiting_tells_the_end_by_its_exit_code(jobtrail: Command, place: Place) -> None:
    async with node_at(services_at(place), place):
        good, bad = await asyncio.gather(
            jobtrail("submit", "noop", "n=3", "--wait", "--json"), jobtrail("submit", "fail", "how=error", "--wait")
        )
    assert (good.code, good.json["status"], good.json["result"]) == (0, "succeeded", {"ok": 3})
    assert good.err == f"jobtrail: waiting for job {good.json['id']}\n"
    assert (bad.code, bad.err.startswith("jobtrail: waiting for job ")) == (1, True)
    assert "status: failed\nerror:  ValueError: as asked\n" in bad.out


@pytest.mark.parametrize("more", [(), ("--json",)])
async def test_who_stops_waiting_has_the_id(jobtrail: Command, place: Place, more: tuple[str, ...]) -> None:
    process = await jobtrail.start("submit", "noop", "--wait", *more)
    assert process.stderr
    said = [await process.stderr.readline() for _ in range(2)]
    process.send_signal(2)
    out, rest = await process.communicate()
    (row,) = await place.rows("SELECT id, status FROM jobtrail.jobs")
    assert said == [
        f"jobtrail: waiting for job {row['id']}\n".encode(),
        b"jobtrail: waiting; no node serves the queue 'default' and knows 'noop': start `jobtrail serve`\n",
    ]
    assert (process.returncode, out, rest, row["status"]) == (130, b"", b"", "pending")


async def test_a_database_that_is_away_is_waited_for(jobtrail: Command, place: Place) -> None:
    async with Proxy.before(place) as proxy:
        process = await jobtrail.start("submit", "noop", "n=3", "--wait", "--json", JOBTRAIL_DATABASE_URL=proxy.url)
        assert process.stderr
        for _ in range(2):
            assert b"jobtrail: waiting" in await process.stderr.readline()
        proxy.go_away()
        while not (said := await process.stderr.readline()).startswith(b"jobtrail: waiting on: "):
            assert said
        proxy.away = False
        async with node_at(services_at(place), place):
            done = await ended(process)
    assert (done.code, done.json["result"]) == (0, {"ok": 3})


async def test_tasks_of_the_current_folder(jobtrail: Command) -> None:
    (jobtrail.folder / "mine.py").write_text("from jobtrail import task\n@task\ndef work(): ...\n")
    done = await jobtrail("submit", "work", "--json", JOBTRAIL_TASKS="mine")
    assert (done.code, done.json["task"]) == (0, "work")


@task
async def mixed(
    name: str, count: int = 0, either: int | str = 0, maybe: str | None = None, tags: list[str] | None = None
) -> None:
    """What KEY=VALUE may have to fit."""


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"name": '"quoted"'}, {"name": "quoted"}),
        ({"name": "a", "count": "5"}, {"name": "a", "count": 5}),
        ({"name": "a", "count": "x"}, {"name": "a", "count": "x"}),
        ({"name": "a", "either": "5"}, {"name": "a", "either": 5}),
        ({"name": "a", "maybe": "null"}, {"name": "a", "maybe": None}),
        ({"name": "a", "tags": '["b"]'}, {"name": "a", "tags": ["b"]}),
        ({"count": "5"}, {"count": 5}),
    ],
)
def test_a_text_is_json_where_the_parameter_takes_it(texts: dict[str, str], expected: dict[str, Any]) -> None:
    assert merge_args(mixed, None, texts) == expected


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(lambda text: not text.strip().startswith('"')))
def test_a_parameter_that_takes_text_gets_it_as_it_was_written(text: str) -> None:
    assert merge_args(mixed, None, {"name": text}) == {"name": text}


def test_both_ways_to_write_args_add_up() -> None:
    assert merge_args(tasks.noop, '{"m": 1}', {"n": "2"}) == {"m": 1, "n": 2}


async def test_a_job_comes_after_others(jobtrail: Command, place: Place) -> None:
    first = (await jobtrail("submit", "noop")).out.strip()
    job = (await jobtrail("submit", "noop", "--after", first, "--json")).json
    assert job["after"] == [first]
    unknown = "00000000-0000-4000-8000-000000000000"
    refused = await jobtrail("submit", "noop", "--after", first, "--after", unknown)
    assert (refused.code, refused.err) == (2, f"jobtrail: --after: no job has the id {unknown}\n")
    assert (await jobtrail("submit", "noop", "--after", "first")).code == 2
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 2
