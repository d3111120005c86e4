"""Lists of jobs, and one job with all that is known of it."""

import re
from uuid import UUID

import pytest

from jobtrail.status import Status
from support.command import Command
from support.rows import born, in_status
from support.world import Place

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
ESCAPES = "\x1b["


async def test_pipes_get_whole_columns_however_narrow(jobtrail: Command, place: Place) -> None:
    name = "a_task_with_a_name_that_no_terminal_would_like"
    job_id = await born(place, name)
    done = await jobtrail("ls", COLUMNS="20")
    header, line = done.out.splitlines()
    assert (done.code, done.err, ESCAPES in done.out) == (0, "", False)
    assert header.split() == ["ID", "STATUS", "TASK", "QUEUE", "TRY", "CREATED"]
    assert line.split()[:5] == [str(job_id), "pending", name, "default", "0/1"]


@pytest.mark.parametrize("columns", [60, 80, 200])
async def test_a_terminal_gets_what_fits_and_whole_ids_in_colours(
    jobtrail: Command, place: Place, columns: int
) -> None:
    job_id = await in_status(place, Status.FAILED, queue="q" * 30)
    said = await jobtrail.in_terminal(columns, "ls")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert (str(job_id) in plain, "failed" in plain) == (True, True)
    assert all(len(line.rstrip()) <= columns for line in plain.splitlines())
    if columns == 200:
        assert f"{ESCAPES}31mfailed" in said
        assert f"{ESCAPES}31m" not in await jobtrail.in_terminal(columns, "ls", NO_COLOR="1")


async def test_the_list_has_the_objects_of_the_api_without_what_may_be_large(jobtrail: Command, place: Place) -> None:
    job_id = await in_status(place, Status.FAILED)
    (job,) = (await jobtrail("ls", "--json")).json["items"]
    assert (job["id"], job["error"]) == (str(job_id), {"type": "E"})
    assert not {"args", "result"} & job.keys()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--status failed --status cancelled --task noop", {"failed"}),
        ("--queue mail", {"mail"}),
        ("--tag b --tag a", {"tagged"}),
        ("--trace 0af7651916cd43dd8448eb211c80319c", {"tagged"}),
        ("--since 1h --task noop --limit 1", {"tagged"}),
        ("--since 2999-01-31T00:00:00Z", set()),
        ("--since 1h --until 2999-01-31", {"pending", "failed", "mail", "tagged"}),
    ],
)
async def test_filters(jobtrail: Command, place: Place, words: str, expected: set[str]) -> None:
    found = {
        str(await born(place)): "pending",
        str(await in_status(place, Status.FAILED)): "failed",
        str(await born(place, queue="mail")): "mail",
        str(await born(place, tags=["a", "b"], trace_id="0af7651916cd43dd8448eb211c80319c")): "tagged",
    }
    items = (await jobtrail("ls", *words.split(), "--json")).json["items"]
    assert {found[item["id"]] for item in items} == expected


async def test_a_job_is_shown_with_all_that_is_known_of_it(jobtrail: Command, place: Place) -> None:
    job_id = await born(place, args='{"n": 5}')
    await place.psql.execute(
        """UPDATE jobtrail.jobs SET status = 'running', attempt = 1, node_id = gen_random_uuid(), started_at = now(),
           lease_until = now() + interval '1 h' WHERE id = $1""",
        job_id,
    )
    error = r'{"type": "ValueError", "message": "red \u001b[31m", "traceback": "one\n  two", "attempt": 1}'
    await place.psql.execute(
        """UPDATE jobtrail.jobs SET status = 'failed', lease_until = NULL, finished_at = now(), error = $2,
           expires_at = now() + ttl_failed WHERE id = $1""",
        job_id,
        error,
    )
    done = await jobtrail("show", str(job_id), "--history")
    assert done.code == 0
    assert re.search(r"^args: +\{\"n\": 5\}$", done.out, re.MULTILINE)
    assert re.search(r"^error: +ValueError: red \\x1b\[31m$", done.out, re.MULTILINE)
    assert "traceback:\n    one\n      two\n" in done.out
    assert [line.split()[2:4] for line in done.out.splitlines()[-2:]] == [["pending", "running"], ["running", "failed"]]
    assert ESCAPES not in done.out


async def test_a_job_as_json_is_the_object_of_the_api(jobtrail: Command, place: Place) -> None:
    job_id = str(await in_status(place, Status.SUCCEEDED))
    alone, whole = await jobtrail("show", job_id, "--json"), await jobtrail("show", job_id, "--history", "--json")
    assert (alone.json["id"], alone.json["result"], alone.json["ttl"]) == (job_id, 1, 7 * 86400)
    assert [move["to_status"] for move in whole.json["transitions"]] == ["pending", "running", "succeeded"]
    assert alone.json == {name: value for name, value in whole.json.items() if name != "transitions"}


async def test_a_purged_job_still_has_its_history_and_no_log(jobtrail: Command, place: Place) -> None:
    job_id = await in_status(place, Status.SUCCEEDED, ttl=None)
    await says(place, job_id, "gone")
    await place.psql.execute("UPDATE jobtrail.jobs SET ttl = '0', expires_at = now()")
    assert (await jobtrail("purge")).out.startswith("purged 1 jobs")
    gone, known = (
        await jobtrail("show", str(job_id), "--log"),
        await jobtrail("show", str(job_id), "--history", "--log"),
    )
    assert (gone.code, gone.err) == (1, f"jobtrail: no job has the id {job_id}\n")
    fields, moves, log = known.out.split("\n\n")
    assert (known.code, fields, log) == (0, f"id:     {job_id}\nstatus: purged", "It has logged nothing.\n")
    assert moves.splitlines()[-1].split()[2:4] == ["succeeded", "purged"]


async def test_the_log_stands_below_the_fields(jobtrail: Command, place: Place) -> None:
    job_id = await in_status(place, Status.FAILED)
    await says(place, job_id, "failed\nTraceback:\n  here")
    await says(place, job_id, "again", attempt=2)
    done = await jobtrail("show", str(job_id), "--log")
    assert done.code == 0
    fields, log = done.out.split("\n\n")
    assert fields.startswith(f"id:         {job_id}\n") or str(job_id) in fields.splitlines()[0]
    assert re.fullmatch(
        rf"{TIME}  1  INFO     shop: failed\n    Traceback:\n      here\n{TIME}  2  INFO     shop: again\n", log
    )
    document = (await jobtrail("show", str(job_id), "--log", "--json")).json
    assert [each["message"] for each in document["log"]] == ["failed\nTraceback:\n  here", "again"]
    assert "log" not in (await jobtrail("show", str(job_id), "--json")).json


async def test_a_job_without_a_word(jobtrail: Command, place: Place) -> None:
    job_id = str(await born(place))
    alone, with_log = await jobtrail("show", job_id), await jobtrail("show", job_id, "--log")
    assert with_log.out == f"{alone.out}\nIt has logged nothing.\n"
    assert (await jobtrail("show", job_id, "--log", "--json")).json["log"] == []


async def says(place: Place, job_id: UUID, message: str, number: int = 1, attempt: int = 1) -> None:
    await place.psql.execute(
        """INSERT INTO jobtrail.log_lines (job_id, attempt, number, at, level, logger, message)
           VALUES ($1, $2, $3, now(), 'INFO', 'shop', $4)""",
        job_id, attempt, number, message,
    )  # fmt: skip
