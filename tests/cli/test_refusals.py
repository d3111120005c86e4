"""What goes wrong is one clear line that names what to mend, an exit code, and no traceback."""

import json
import os
import shlex

import asyncpg
import pytest

from jobtrail.cli.entry import VERBS
from support.command import Command, ended
from support.proxy import Proxy
from support.world import Place

NOBODY = "postgresql://ann:secret@127.0.0.1:1/app"
ID = "01a20160-1b50-76b5-a6dd-a1981d5099fa"
TO_CHOOSE = "name one job by its ID, or many by filters, such as --status, --task and --since 1h"
TO_SCOPE = "--scope: write what the key may do: read, submit, operate, or several of them"
LONG = "x" * 1001

USAGE = {
    "lss": "No such command 'lss'. Did you mean 'ls'? (see `jobtrail --help`)",
    "ls --foo": "No such option: --foo (see `jobtrail ls --help`)",
    "ls extra": "Got unexpected extra argument(s) (extra) (see `jobtrail ls --help`)",
    "ls --status done": "Invalid value for '--status'",
    "ls --limit 0": "Invalid value for '--limit'",
    "ls --since yesterday": "--since: 'yesterday' is no time: write 30m, 2h, 7d or 2030-01-31",
    "ls --trace abc": "--trace: 'abc' is not 32 hexadecimal digits",
    "show": "Missing argument 'ID' (see `jobtrail show --help`)",
    "show 5": "Invalid value for 'ID'",
    "cancel": TO_CHOOSE,
    "retry --dry-run": TO_CHOOSE,
    f"cancel {ID} --status failed": "an ID stands alone: filters, --limit and --dry-run are for many jobs",
    f"retry {ID} --dry-run": "an ID stands alone",
    f"cancel {ID} --limit 1": "an ID stands alone",
    "retry --status failed --status succeeded": "--status: a retry never fits a job that is succeeded, only one that",
    "cancel --status failed": "--status: a cancel never fits a job that is failed, only one that is pending or r",
    f"cancel --task a --reason {LONG}": "--reason: at most 1000 characters",
    f"pause --queue default --reason {LONG}": "--reason: at most 1000 characters",
    f"cancel {ID} --reason {LONG}": "--reason: at most 1000 characters",
    "pause --queue defualt": "no queue is named 'defualt'; did you mean default?",
    "resume --task nop": "no task is named 'nop'; did you mean noop?",
    "resume": "name one of them: --queue NAME or --task NAME",
    "pause --reason x": "name one of them: --queue NAME or --task NAME",
    "keys": "Missing command (see `jobtrail keys --help`)",
    "keys create shop": TO_SCOPE,
    "keys create shop --scope all": TO_SCOPE,
    "keys create 'a b' --scope read": "NAME: write 1 to 100 letters, digits and _ . : @ -",
    "keys create shop --scope read --expires soon": "--expires: 'soon' is not a duration",
    "keys create shop --scope read --expires 0": "--expires: a key lives for 1 second",
    "audit nope": "no audit question is named 'nope'; there are: batches_open, by_trace, ",
    "audit purged since=soon": "since: 'soon' is not an interval, such as '90 minutes' or '7 days'",
    "audit purged since": "'since' is not KEY=VALUE",
    "audit --sql": "--sql prints one question: name it",
    "submit nop": "no task is named 'nop'; did you mean noop?",
    "submit noop n=x": "n: Input should be a valid integer",
    "submit noop m=1": "m: there is no such argument; the task takes n",
    "submit in_thread": "n: this argument is missing",
    "submit noop n=1 n=2": "'n' is given twice",
    """submit noop n=1 --args '{"n":1}'""": "'n' is given twice: in --args and as KEY=VALUE",
    "submit noop --args [1]": "--args: write a JSON object",
    "submit noop --args '{}x'": "--args: not JSON",
    "submit noop --priority 10": "--priority: Input should be less than or equal to 9",
    "submit noop --ttl soon": "--ttl: 'soon' is not a duration: write seconds or 500ms, 30s, 5m, 2h, 7d, or keep",
    "submit noop --run-at 2030-01-31T12:00:00": "--run-at: Input should have timezone info",
    "submit noop --run-at 2030-01-31T12:00:00Z --delay 5m": "say only one of --run-at and --delay",
    f"submit noop --tag {'x' * 65}": "--tag: String should have at most 64 characters",
    f"submit noop --idempotency-key {'k' * 256}": "--idempotency-key: 1 to 255 characters",
    "submit noop --unique-key k:{q}": "--unique-key: ",
    "submit noop --on-duplicate replace": "--on-duplicate: say of which",
    "submit noop --unique-key k --idempotency-key k": "--idempotency-key: ",
    f"submit noop --after {ID}": f"--after: no job has the id {ID}",
    "submit noop --queue jobtrail.own": "--queue: names that begin with jobtrail. are",
    "limits --set 3": "name the key: jobtrail limits KEY --set NUMBER",
    "limits a --set 3 --reset": "--set and --reset do not go together",
    "limits a --set=-1": "--set: write a number from 0 on; 0 pauses the key",
    "work heavy": "Got unexpected extra argument(s) (heavy)",
    "work --slots 0": "JOBTRAIL_SLOTS, JOBTRAIL_THREADS, JOBTRAIL_PROCESSES: no task has a place to run in: ",
    "work --slots -1": "JOBTRAIL_SLOTS: -1 should be greater than or equal to 0",
    "work --queue 'two words'": "JOBTRAIL_QUEUES: 'two words' is not a queue's name",
    "tail --status faild": (
        "--status: 'faild' is no status: write pending, running, succeeded, failed, cancelled or purged"
    ),
    "migrate --revision nope": "--revision: Can't locate revision identified by 'nope'",
}
FAILURES = {
    f"show {ID} --history": ("job-not-found", f"no job has the id {ID}"),
    "limits nope": ("limit-not-found", "no unfinished job has the limit 'nope', and it has no override"),
    f"show {ID} --watch": ("job-not-found", f"no job has the id {ID}"),
    f"cancel {ID}": ("job-not-found", f"no job has the id {ID}"),
    f"retry {ID}": ("job-not-found", f"no job has the id {ID}"),
    f"keys revoke jt_zzzzzzzzzzzz_{'S' * 43}": (
        "access-key-not-found", "no access key has the id or prefix 'zzzzzzzzzzzz'; `jobtrail keys list` shows them",
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", USAGE)
async def test_wrong_words(jobtrail: Command, place: Place, words: str) -> None:
    done = await jobtrail(*shlex.split(words))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"jobtrail: {USAGE[words]}"), done.err
    for table in ("jobs", "keys", "pauses"):
        assert await place.value(f"SELECT count(*) FROM jobtrail.{table}") == 0


@pytest.mark.parametrize("words", FAILURES)
async def test_what_fails_fails_for_programs_too(jobtrail: Command, words: str) -> None:
    kind, detail = FAILURES[words]
    plain, document = await jobtrail(*words.split()), await jobtrail(*words.split(), "--json")
    assert (plain.code, plain.out, plain.err) == (1, "", f"jobtrail: {detail}\n")
    assert (document.code, document.out) == (1, "")
    assert json.loads(document.err) == {"error": {"type": kind, "detail": detail}}


@pytest.mark.parametrize(
    ("words", "variables", "code", "kind"),
    [
        ("ls", {"JOBTRAIL_DATABASE_URL": NOBODY}, 3, "unavailable"),
        ("submit in_thread", {"JOBTRAIL_DATABASE_URL": NOBODY}, 3, "unavailable"),
        ("ls --limit none", {}, 2, "usage"),
        ("pause --queue defualt", {}, 2, "unknown-queue"),
        ("audit purged until=1", {}, 2, "invalid-input"),
        ("submit noop", {"JOBTRAIL_TASKS": ""}, 2, "settings"),
    ],
)
async def test_errors_for_programs(
    jobtrail: Command, words: str, variables: dict[str, str], code: int, kind: str
) -> None:
    done = await jobtrail(*words.split(), "--json", **variables)
    error = json.loads(done.err)["error"]
    assert (done.code, done.out, error["type"]) == (code, "", kind)
    assert [flaw["pointer"] for flaw in error.get("errors", ())] == (["/args/until"] if kind == "invalid-input" else [])


@pytest.mark.parametrize("verb", ["ls", "migrate", "serve", "work"])
async def test_nobody_answers(bare: Command, verb: str) -> None:
    variables = {"JOBTRAIL_DATABASE_URL": NOBODY, "JOBTRAIL_TASKS": "support.tasks", "JOBTRAIL_PORT": "0"}
    done = await bare(verb, **variables)
    told = "JOBTRAIL_DATABASE_URL: nothing answers at postgresql://ann:***@127.0.0.1:1/app"
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert done.err.startswith(f"jobtrail: {told} ([Errno 111] Connect")
    assert "): is PostgreSQL running there?" in done.err


@pytest.mark.parametrize(
    ("words", "variables", "complaint"),
    [
        ("ls", {}, "JOBTRAIL_DATABASE_URL is not set: write the URL of a PostgreSQL"),
        ("serve", {}, "JOBTRAIL_DATABASE_URL is not set: write the URL of a PostgreSQL"),
        ("serve", {"JOBTRAIL_LEASE": "soon"}, "JOBTRAIL_LEASE: 'soon' is not a duration"),
        ("submit noop", {}, "JOBTRAIL_TASKS names no module with a task: write the modules that hold your"),
        ("work", {}, "JOBTRAIL_TASKS names no module with a task: write the modules that hold your"),
        # before a connection is tried
        ("keys create shop", {"JOBTRAIL_DATABASE_URL": NOBODY}, TO_SCOPE),
    ],
)
async def test_wrong_settings(bare: Command, words: str, variables: dict[str, str], complaint: str) -> None:
    done = await bare(*words.split(), **variables)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"jobtrail: {complaint}")


async def test_several_wrong_settings_are_told_together_and_env_files_are_read(bare: Command) -> None:
    (bare.folder / ".env").write_text("JOBTRAIL_PORT=x\nJOBTRAIL_SLOTS=-1\n")
    done = await bare("ls")
    assert done.code == 2
    assert [line.split(": ")[1] for line in done.err.splitlines()] == ["JOBTRAIL_PORT", "JOBTRAIL_SLOTS"]


@pytest.mark.parametrize("table", ["alembic_version (version_num text)", "keys (id int)"])
async def test_a_schema_of_another_application_is_left_alone(bare: Command, empty_url: str, table: str) -> None:
    connection = await asyncpg.connect(empty_url)
    await connection.execute(f"CREATE SCHEMA shop; CREATE TABLE shop.{table}")
    if "version" in table:
        await connection.execute("INSERT INTO shop.alembic_version VALUES ('abc123')")
    await connection.close()
    for verb, code in {"migrate": 2, "serve": 2, "doctor": 1}.items():
        done = await bare(verb, JOBTRAIL_DATABASE_URL=empty_url, JOBTRAIL_SCHEMA="shop", JOBTRAIL_PORT="0")
        told = done.out + done.err
        assert (done.code, "JOBTRAIL_SCHEMA" in told) == (code, True)
        assert "the schema shop holds tables of another application" in told


async def test_a_server_that_refuses(bare: Command, empty_url: str) -> None:
    name = empty_url.split("/")[3].split("?", maxsplit=1)[0]
    unknown = await bare("ls", JOBTRAIL_DATABASE_URL=empty_url.replace(f"/{name}?", "/nowhere?"))
    stranger = await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url.replace("postgres@", "stranger@"))
    for done, refusal in ((unknown, 'database "nowhere" does not exist'), (stranger, 'role "stranger" does not exist')):
        assert done.code == 2
        assert done.err.startswith("jobtrail: JOBTRAIL_DATABASE_URL: PostgreSQL at postgresql://")
        assert done.err.endswith(f"refuses: {refusal}\n")


@pytest.mark.parametrize("verb", ["serve", "work"])
async def test_a_wrong_password_is_told_at_the_start(jobtrail: Command, place: Place, verb: str) -> None:
    async with Proxy.before(place) as wire:
        wire.refuse("28P01")
        done = await jobtrail(verb, JOBTRAIL_DATABASE_URL=wire.url)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("jobtrail: JOBTRAIL_DATABASE_URL: PostgreSQL at postgresql://")
    assert done.err.endswith("refuses: refused by the test\n")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (None, "ModuleNotFoundError: No module named 'mine'"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere' ({folder}/mine.py:1)"),
        ("\n1 / 0", "ZeroDivisionError: division by zero ({folder}/mine.py:2)"),
        ("import sys\nsys.exit(0)", "SystemExit: 0 ({folder}/mine.py:2)"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines ({folder}/mine.py:1)"),
        ("def", "SyntaxError: invalid syntax (mine.py, line 1)"),
    ],
)
async def test_a_task_module_that_cannot_be_imported(bare: Command, source: str | None, complaint: str) -> None:
    if source is not None:
        (bare.folder / "mine.py").write_text(source)
    done = await bare("submit", "noop", JOBTRAIL_DATABASE_URL=NOBODY, JOBTRAIL_TASKS="mine")
    told = f"JOBTRAIL_TASKS: the module 'mine' cannot be imported: {complaint.format(folder=bare.folder)}"
    assert (done.code, done.out, done.err) == (2, "", f"jobtrail: {told}\n")


async def test_words_that_are_no_text(bare: Command) -> None:
    done = await ended(await bare.start("ls", "--task", b"\xff"))
    assert (done.code, done.err) == (2, "jobtrail: the word 3 of the command is not UTF-8 (see `jobtrail --help`)\n")


async def test_what_nobody_expected_is_a_line_and_a_way_to_the_traceback(bare: Command, empty_url: str) -> None:
    await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url)
    connection = await asyncpg.connect(empty_url)
    await connection.execute("DROP TABLE jobtrail.jobs")
    await connection.close()
    done = await bare("ls", JOBTRAIL_DATABASE_URL=empty_url)
    traced = await bare("ls", JOBTRAIL_DATABASE_URL=empty_url, JOBTRAIL_LOG_LEVEL="debug")
    told = 'jobtrail: unexpected ProgrammingError: relation "jobtrail.jobs" does not exist'
    assert (done.code, done.err) == (1, f"{told} (JOBTRAIL_LOG_LEVEL=DEBUG shows the traceback)\n")
    assert (traced.code, "Traceback (most recent call last):" in traced.err) == (1, True)


async def test_a_reader_that_went_away_is_no_accident(bare: Command) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = await bare.start("audit", "--json", stdout=writer)
    os.close(writer)
    done = await ended(process)
    assert (done.code, done.err) == (141, "")


async def test_help_and_version(bare: Command) -> None:
    alone, asked, version = await bare(), await bare("--help"), await bare("--version")
    assert (alone, alone.code) == (asked, 0)
    assert all(f" {name} " in alone.out for name in VERBS)
    assert (version.code, version.out.startswith("jobtrail 0.")) == (0, True)
    for words, option in (("submit", "--idempotency-key"), ("keys", " list "), ("keys create", "--expires")):
        done = await bare(*words.split(), "--help")
        assert (done.code, option in done.out) == (0, True)
