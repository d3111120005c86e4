"""What a question is, and what it refuses."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobtrail.errors import AuditTimeoutError, InvalidInputError, UnknownQuestionError
from jobtrail.ops.audit import MOST_ROWS, Question, ask, question, questions
from support.history import begin
from support.psql import PSQLS, run, run_file
from support.world import Place

SQL = Path(str(files("jobtrail.ops.audit") / "sql"))

NAMES = [
    "batches_open", "by_trace", "cancellations", "expiring_soon", "failures_by_task", "feed_lag", "history_of_job",
    "limits_full", "lost_jobs", "purged", "schedules_missed", "schedules_next", "slowest_jobs", "stuck_jobs",
    "throughput_by_hour",
]  # fmt: skip

DEFAULTS = {
    "id": "", "trace_id": "", "task": "", "queue": "", "requested_by": "", "created_by": "", "since": "24 hours",
    "within": "24 hours", "purged_since": "7 days", "longer_than": "5 minutes", "silent": "1 minute", "limit": "100",
    "key": "",
}  # fmt: skip

A_JOB = "0190a0c8-7a3e-7c3e-8f3e-0a1b2c3d4e5f"
NEEDED = {"history_of_job": {"id": A_JOB}, "by_trace": {"trace_id": A_JOB}}


def test_all_the_questions_are_there_by_name() -> None:
    assert list(questions()) == NAMES
    assert question("purged") is questions()["purged"]
    with pytest.raises(UnknownQuestionError) as refused:
        question("purge")
    assert (refused.value.name, list(refused.value.known)) == ("purge", NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_declares_what_it_uses(name: str) -> None:
    """A name has one default everywhere, since psql keeps a variable from one file to the next."""
    asked = question(name)
    assert asked.title.endswith("?")
    assert "\n" not in asked.title + asked.note
    assert "\\" not in asked.sql
    assert {each.name for each in asked.parameters} == set(re.findall(r":'(\w+)'", asked.sql))
    assert asked.parameters[-1].name == "limit"
    assert all(each.description for each in asked.parameters)
    assert {"ORDER BY", "LIMIT :'limit'::bigint"} <= set(re.findall(r"ORDER BY|LIMIT \S*bigint", asked.sql))
    assert all(each.default == DEFAULTS[each.name] for each in asked.parameters)


@pytest.mark.parametrize("psql", PSQLS, ids=lambda path: path.parents[1].name)
@pytest.mark.parametrize("given", [{}, {"since": 'it\'s "1" day', "limit": "7", "id": "x"}], ids=["defaults", "given"])
@pytest.mark.parametrize("name", NAMES)
def test_psql_reads_the_same_defaults(
    place: Place, tmp_path: Path, name: str, given: Mapping[str, str], psql: Path
) -> None:
    expected = [given.get(each.name, each.default) for each in question(name).parameters]
    source = (SQL / f"{name}.sql").read_text()
    echoes = "".join(f"\n\\echo :{each.name}" for each in question(name).parameters)
    (tmp_path / "header.sql").write_text(source.removesuffix(question(name).sql + "\n") + echoes)
    set_by_hand = [part for key, value in given.items() for part in ("-v", f"{key}={value}")]
    assert run(psql, place.url.libpq, *set_by_hand, "-f", str(tmp_path / "header.sql")).splitlines() == expected


@pytest.mark.parametrize("name", NAMES)
async def test_an_empty_database_has_an_answer(place: Place, name: str) -> None:
    given = NEEDED.get(name, {})
    async with place.database.sessions() as session:
        answer = await ask(session, question(name), given)
    columns, rows = run_file(place.url.libpq, SQL / f"{name}.sql", given)
    assert answer.columns == tuple(columns)
    assert len(answer.rows) == len(rows) == (25 if name == "throughput_by_hour" else 0)


INTERVAL = "is not an interval, such as '90 minutes' or '7 days'"
NO_LIMIT = f"a whole number from 1 to {MOST_ROWS}"


@pytest.mark.parametrize(
    ("name", "given", "flaws"),
    [
        ("purged", {"since": "yesterdayish"}, {"/since": f"'yesterdayish' {INTERVAL} (how far back)"}),
        ("purged", {"since": ""}, {"/since": f"'' {INTERVAL} (how far back)"}),
        ("purged", {"since": "200000 years"}, {"/since": f"'200000 years' {INTERVAL} (how far back)"}),
        ("purged", {"since": "1 day'; DROP TABLE jobtrail.jobs"}, {"/since": INTERVAL}),
        ("expiring_soon", {"within": "300000 years"}, {"/within": INTERVAL}),
        ("stuck_jobs", {"silent": "x", "longer_than": "y"}, {"/longer_than": INTERVAL, "/silent": INTERVAL}),
        ("history_of_job", {"id": "xyz"}, {"/id": "'xyz' is not a UUID (the job)"}),
        ("history_of_job", {}, {"/id": "'' is not a UUID (the job)"}),
        ("by_trace", {"trace_id": "ab" * 15}, {"/trace_id": "is not a UUID (32 hex digits; "}),
        ("purged", {"limit": "0"}, {"/limit": NO_LIMIT}),
        ("purged", {"limit": "-1"}, {"/limit": NO_LIMIT}),
        ("purged", {"limit": "10001"}, {"/limit": NO_LIMIT}),
        ("purged", {"limit": "9" * 5000}, {"/limit": NO_LIMIT}),
        ("purged", {"limit": "٣"}, {"/limit": NO_LIMIT}),
        ("purged", {"limit": "all"}, {"/limit": NO_LIMIT}),
        ("purged", {"task": "a\0b"}, {"/task": "U+0000"}),
        ("purged", {"task": "a\ud800b"}, {"/task": "a lone surrogate"}),
        ("purged", {"sinse": "1", "a/~b": ""}, {"/sinse": "there are: since, task, limit", "/a~1~0b": "there are: "}),
    ],
)  # fmt: skip
async def test_what_makes_no_sense_is_refused_with_its_name(
    place: Place, name: str, given: Mapping[str, str], flaws: Mapping[str, str]
) -> None:
    async with place.database.sessions() as session:
        with pytest.raises(InvalidInputError) as refused:
            await ask(session, question(name), given)
        assert [flaw.pointer for flaw in refused.value.flaws] == list(flaws)
        assert all(flaws[flaw.pointer] in flaw.detail for flaw in refused.value.flaws)
        assert (await ask(session, question("purged"), {})).rows == ()


async def test_what_makes_no_sense_is_refused_however_often_it_was_asked_well(place: Place) -> None:
    """PostgreSQL then has a plan that is good for any value, and reads none before a row needs it."""
    async with place.database.sessions() as session:
        for _ in range(10):
            assert (await ask(session, question("slowest_jobs"), {"since": "1 day"})).rows == ()
        with pytest.raises(InvalidInputError, match="'x' is not an interval"):
            await ask(session, question("slowest_jobs"), {"since": "x"})


async def test_a_value_is_never_sql(place: Place) -> None:
    async with place.database.sessions() as session:
        assert (await ask(session, question("purged"), {"task": "' OR 1 = 1; --"})).rows == ()
        assert (await ask(session, question("purged"), {"task": ":'since' $1 %s :task"})).rows == ()


def stray(sql: str) -> Question:
    return Question("stray", "?", "", (), sql)


@pytest.mark.parametrize("sql", ["DELETE FROM jobtrail.nodes", "CREATE TABLE jobtrail.mine ()"])
async def test_a_question_cannot_write(place: Place, sql: str) -> None:
    async with place.database.sessions() as session:
        with pytest.raises(DBAPIError, match="read-only transaction"):
            await ask(session, stray(sql), {})
        assert (await session.execute(text("SHOW transaction_read_only"))).scalar_one() == "off"


async def test_a_question_that_takes_too_long_is_ended(place: Place) -> None:
    async with place.database.sessions() as session:
        with pytest.raises(AuditTimeoutError, match=r"'stray' took longer than 0\.05 s; narrow it") as ended:
            await ask(session, stray("SELECT pg_sleep(60)"), {}, time_limit=timedelta(seconds=0.05))
        assert (ended.value.name, ended.value.seconds) == ("stray", 0.05)
        assert (await session.execute(text("SHOW statement_timeout"))).scalar_one() == "10s"


async def test_a_mistake_in_a_file_is_not_blamed_on_the_caller(place: Place) -> None:
    async with place.database.sessions() as session:
        with pytest.raises(DBAPIError, match="division by zero"):
            await ask(session, stray("SELECT 1 / 0"), {})
        with pytest.raises(DBAPIError, match="does not exist"):
            await ask(session, stray("SELECT nothing"), {})


async def test_the_hours_are_whole_and_without_gaps(place: Place) -> None:
    """Told in minutes before the hour in which the test began."""
    past = await begin(place)
    past.now = past.now.replace(minute=0, second=0).astimezone(UTC)
    await past.node("alpha", "hourly other")
    for name, task in (("a", "hourly"), ("b", "hourly"), ("c", "hourly"), ("d", "other")):
        await past.submit(name, 125, task, max_attempts=2)
    for name in "abd":
        await past.claim(name, 115, "alpha")
    await past.succeed("a", 60, "alpha")
    await past.again("b", 59, "alpha", "E", "")
    await past.claim("b", 50, "alpha")
    await past.fail("b", 0.5, "alpha", "E", "")
    await past.cancel("c", 59, "ann", None)
    await past.succeed("d", 59, "alpha")
    everything = {3: (4, 0, 0, 0, 0), 2: (0, 3, 0, 0, 0), 1: (0, 1, 2, 1, 1)}
    assert await hours(place, past.now) == everything
    assert await hours(place, past.now, task="hourly") == {3: (3, 0, 0, 0, 0), 2: (0, 2, 0, 0, 0), 1: (0, 1, 1, 1, 1)}
    assert (await hours(place, past.now, limit="3", since="10 years")).keys() <= {2, 1}


async def hours(place: Place, now: datetime, **given: str) -> dict[int, tuple[int, ...]]:
    """Hours with any work, counted back from `now`."""
    hour = timedelta(hours=1)
    async with place.database.sessions() as session:
        answer = await ask(session, question("throughput_by_hour"), given)
    assert answer.columns == ("hour", "submitted", "started", "succeeded", "failed", "cancelled")
    assert [row[0] for row in answer.rows] == [answer.rows[0][0] - index * hour for index in range(len(answer.rows))]
    assert len(answer.rows) == int(given.get("limit", 25))
    return {(now - row[0]) // hour: row[1:] for row in answer.rows if any(row[1:])}
