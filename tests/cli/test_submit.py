import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import typer

from jobtrail import task
from jobtrail.cli.submit import merge_args
from support import tasks
from support.command import Command
from support.world import Place, node_at, services_at


async def test_a_job_from_the_command_line_is_in_the_table(jobtrail: Command, place: Place) -> None:
    done = await jobtrail("submit", "noop", "n=5")
    job_id = UUID(done.out.strip())
    (row,) = await place.rows("SELECT id, task, args, status, created_by FROM jobtrail.jobs")
    assert (done.code, done.err) == (0, "")
    assert row["created_by"].startswith("cli:")
    assert (row["id"], row["task"], row["args"], row["status"]) == (job_id, "noop", '{"n": 5}', "pending")


async def test_every_option_lands_in_the_row(jobtrail: Command) -> None:
    wanted = "noop n=7 --queue mail --priority 9 --ttl 2h --timeout 30s --max-attempts 3 --tag a --tag b --delay 5m"
    job = (await jobtrail("submit", *wanted.split(), "--json")).json
    expected = {"args": {"n": 7}, "queue": "mail", "priority": 9, "ttl": 7200, "timeout": 30, "max_attempts": 3}
    later = datetime.fromisoformat(job["run_at"]) - datetime.fromisoformat(job["created_at"])
    assert {name: job[name] for name in expected} == expected
    assert job["tags"] == ["a", "b"]
    assert timedelta(minutes=4.5) < later <= timedelta(minutes=5)


async def test_words_for_none_and_a_time_with_its_zone(jobtrail: Command) -> None:
    words = ("--ttl", "keep", "--timeout", "none", "--run-at", "2030-01-31T12:00:00+02:00", "--json")
    job = (await jobtrail("submit", "too_slow", *words)).json
    assert (job["ttl"], job["timeout"], job["run_at"]) == (None, None, "2030-01-31T10:00:00Z")


async def test_a_key_gives_the_first_job_again(jobtrail: Command, place: Place) -> None:
    words = ("submit", "noop", "--idempotency-key", "k")
    first, again = await jobtrail(*words), await jobtrail(*words)
    other = await jobtrail(*words, "n=2", "--json")
    assert first.out == again.out
    assert (again.code, again.err) == (0, "jobtrail: the key was used before: this is its job\n")
    assert other.code == 1
    assert '"type": "idempotency-key-reused"' in other.err
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1


async def test_waiting_tells_the_end_by_its_exit_code(jobtrail: Command, place: Place) -> None:
    async with node_at(services_at(place), place):
        good, bad = await asyncio.gather(
            jobtrail("submit", "noop", "n=3", "--wait", "--json"), jobtrail("submit", "fail", "how=error", "--wait")
        )
    assert (good.code, good.json["status"], good.json["result"]) == (0, "succeeded", {"ok": 3})
    assert (bad.code, bad.err) == (1, "")
    assert "status: failed\nerror:  ValueError: as asked\n" in bad.out


async def test_waiting_without_a_node_says_so_and_ends_quietly(jobtrail: Command, place: Place) -> None:
    process = await jobtrail.start("submit", "noop", "--wait")
    assert process.stderr
    said = await process.stderr.readline()
    process.send_signal(2)
    out, rest = await process.communicate()
    assert said == b"jobtrail: waiting; no node that knows 'noop' is there: start `jobtrail serve`\n"
    assert (process.returncode, out, rest) == (130, b"", b"")
    assert await place.value("SELECT status FROM jobtrail.jobs") == "pending"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("nop", "no task is named 'nop'; did you mean noop?"),
        ("noop n=x", "n: Input should be a valid integer"),
        ("noop m=1", "m: there is no such argument; the task takes n"),
        ("in_thread", "n: this argument is missing"),
        ("noop five", "'five' is not KEY=VALUE"),
        ("noop n=1 n=2", "'n' is given twice"),
        ('noop n=1 --args {"n":1}', "'n' is given twice: in --args and as KEY=VALUE"),
        ("noop --args [1]", "--args: write a JSON object"),
        ("noop --args {", "--args: not JSON"),
        ("noop --priority 10", "--priority: Input should be less than or equal to 9"),
        ("noop --ttl soon", "--ttl: 'soon' is not a duration: write seconds or 500ms, 30s, 5m, 2h, 7d, or keep"),
        ("noop --run-at 2030-01-31T12:00:00", "--run-at: Input should have timezone info"),
        ("noop --run-at 2030-01-31T12:00:00Z --delay 5m", "say only one of --run-at and --delay"),
        (f"noop --tag {'x' * 65}", "--tag: String should have at most 64 characters"),
        (f"noop --idempotency-key {'k' * 256}", "--idempotency-key: 1 to 255 characters"),
    ],
)
async def test_what_cannot_run_is_a_usage_error(jobtrail: Command, place: Place, words: str, complaint: str) -> None:
    done = await jobtrail("submit", *words.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"jobtrail: {complaint}")
    assert done.err.count("\n") == 1
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


@task
async def mixed(
    name: str, count: int = 0, either: int | str = 0, maybe: str | None = None, tags: list[str] | None = None
) -> None:
    """What KEY=VALUE may have to fit."""


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"name": "5"}, {"name": "5"}),
        ({"name": "007"}, {"name": "007"}),
        ({"name": '"quoted"'}, {"name": "quoted"}),
        ({"name": ""}, {"name": ""}),
        ({"name": "a", "count": "5"}, {"name": "a", "count": 5}),
        ({"name": "a", "count": "x"}, {"name": "a", "count": "x"}),
        ({"name": "a", "either": "5"}, {"name": "a", "either": 5}),
        ({"name": "a", "maybe": "null"}, {"name": "a", "maybe": None}),
        ({"name": "a", "tags": '["b"]'}, {"name": "a", "tags": ["b"]}),
        ({"count": "5"}, {"count": 5}),
    ],
)
def test_a_text_is_json_unless_the_parameter_wants_the_text(texts: dict[str, str], expected: dict[str, Any]) -> None:
    assert merge_args(mixed, None, texts) == expected


def test_both_ways_to_write_args_add_up() -> None:
    assert merge_args(tasks.noop, '{"m": 1}', {"n": "2"}) == {"m": 1, "n": 2}
    with pytest.raises(typer.BadParameter, match="--args"):
        merge_args(tasks.noop, "{}x", {})


async def test_a_submit_without_task_modules_names_the_setting(jobtrail: Command) -> None:
    done = await jobtrail("submit", "noop", JOBTRAIL_TASKS="")
    assert done.code == 2
    assert done.err.startswith("jobtrail: JOBTRAIL_TASKS names no module with a task")
