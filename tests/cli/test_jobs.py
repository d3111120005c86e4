import os
import re
from uuid import uuid4

import pytest

from jobtrail.status import Status
from support.command import Command, ended
from support.rows import born, in_status
from support.world import Place

ESCAPES = "\x1b["


async def test_pipes_get_whole_columns_however_narrow(jobtrail: Command, place: Place) -> None:
    name = "a_task_with_a_name_that_no_terminal_would_like"
    job_id = await born(place, name)
    done = await jobtrail("ls", COLUMNS="20")
    header, line = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert header.split() == ["ID", "STATUS", "TASK", "QUEUE", "TRY", "CREATED"]
    assert line.split()[:5] == [str(job_id), "pending", name, "default", "0/1"]


@pytest.mark.parametrize("columns", [60, 80, 200])
async def test_a_terminal_gets_what_fits_and_whole_ids(jobtrail: Command, place: Place, columns: int) -> None:
    job_id = await in_status(place, Status.SUCCEEDED, queue="q" * 30)
    said = await jobtrail.in_terminal(columns, "ls")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert str(job_id) in plain
    assert "succeeded" in plain
    assert all(len(line.rstrip()) <= columns for line in plain.splitlines())


async def test_colour_is_for_terminals_that_want_it(jobtrail: Command, place: Place) -> None:
    await in_status(place, Status.FAILED)
    coloured = await jobtrail.in_terminal(100, "ls")
    plain = await jobtrail.in_terminal(100, "ls", NO_COLOR="1")
    assert f"{ESCAPES}31mfailed" in coloured
    assert f"{ESCAPES}31m" not in plain
    assert ESCAPES not in (await jobtrail("ls")).out


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


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("ls --status done", "Invalid value for '--status'"),
        ("ls --limit 0", "Invalid value for '--limit'"),
        ("ls --since yesterday", "--since: 'yesterday' is no time: write 30m, 2h, 7d or 2030-01-31"),
        ("ls --until 5x", "--until: '5x' is no time: write 30m, 2h, 7d or 2030-01-31"),
        ("ls --trace abc", "--trace: 'abc' is not 32 hexadecimal digits"),
        ("show 5", "Invalid value for 'ID'"),
        ("show", "Missing argument 'ID'"),
    ],
)
async def test_wrong_options_are_usage_errors(jobtrail: Command, words: str, complaint: str) -> None:
    done = await jobtrail(*words.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"jobtrail: {complaint}")
    assert done.err.count("\n") == 1


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


async def test_a_purged_job_still_has_its_history(jobtrail: Command, place: Place) -> None:
    job_id = str(await in_status(place, Status.SUCCEEDED, ttl=None))
    await place.psql.execute("UPDATE jobtrail.jobs SET ttl = '0', expires_at = now()")
    assert (await jobtrail("purge")).out.startswith("purged 1 jobs")
    gone, known = await jobtrail("show", job_id), await jobtrail("show", job_id, "--history")
    assert (gone.code, gone.err) == (1, f"jobtrail: no job has the id {job_id}\n")
    assert known.code == 0
    assert known.out.startswith(f"id:     {job_id}\nstatus: purged\n")
    assert known.out.splitlines()[-1].split()[2:4] == ["succeeded", "purged"]


async def test_an_unknown_job_fails_as_json_too(jobtrail: Command) -> None:
    job_id = str(uuid4())
    done = await jobtrail("show", job_id, "--history", "--json")
    assert (done.code, done.out) == (1, "")
    assert done.err == f'{{"error": {{"type": "job-not-found", "detail": "no job has the id {job_id}"}}}}\n'


async def test_a_reader_that_went_away_is_no_accident(jobtrail: Command) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = await jobtrail.start("audit", "--json", stdout=writer)
    os.close(writer)
    done = await ended(process)
    assert (done.code, done.err) == (141, "")
