"""What goes wrong is one clear line that names what to mend, an exit code, and no traceback."""

import json

import asyncpg
import pytest

from jobtrail.cli.entry import VERBS
from support.command import Command, ended
from support.proxy import Proxy
from support.world import Place

NOBODY = "postgresql://ann:secret@127.0.0.1:1/app"


@pytest.mark.parametrize("verb", ["ls", "migrate", "serve", "work"])
async def test_nobody_answers(bare: Command, verb: str) -> None:
    variables = {"JOBTRAIL_DATABASE_URL": NOBODY, "JOBTRAIL_TASKS": "support.tasks", "JOBTRAIL_PORT": "0"}
    done = await bare(*verb.split(), **variables)
    told = "JOBTRAIL_DATABASE_URL: nothing answers at postgresql://ann:***@127.0.0.1:1/app"
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"jobtrail: {told} ([Errno 111] Connect call failed ('127.0.0.1', 1)): is PostgreSQL")
    assert done.err.count("\n") == 1


async def test_errors_for_programs(bare: Command) -> None:
    done = await bare("ls", "--json", JOBTRAIL_DATABASE_URL=NOBODY)
    wrong = await bare("ls", "--json", "--limit", "none")
    args = await bare("submit", "in_thread", "--json", JOBTRAIL_DATABASE_URL=NOBODY, JOBTRAIL_TASKS="support.tasks")
    assert (done.code, done.out, json.loads(done.err)["error"]["type"]) == (3, "", "unavailable")
    assert (wrong.code, wrong.out, json.loads(wrong.err)["error"]["type"]) == (2, "", "usage")
    assert (args.code, args.out) == (3, "")


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({}, "JOBTRAIL_DATABASE_URL is not set: write the URL of a PostgreSQL"),
        ({"JOBTRAIL_LEASE": "soon"}, "JOBTRAIL_LEASE: 'soon' is not a duration"),
    ],
)
async def test_wrong_settings(bare: Command, variables: dict[str, str], complaint: str) -> None:
    for verb in ("ls", "serve"):
        done = await bare(verb, **variables)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"jobtrail: {complaint}")
        assert done.err.count("\n") == 1


@pytest.mark.parametrize("table", ["alembic_version (version_num text)", "keys (id int)"])
async def test_a_schema_of_another_application_is_left_alone(bare: Command, empty_url: str, table: str) -> None:
    connection = await asyncpg.connect(empty_url)
    await connection.execute(f"CREATE SCHEMA shop; CREATE TABLE shop.{table}")
    if "version" in table:
        await connection.execute("INSERT INTO shop.alembic_version VALUES ('abc123')")
    await connection.close()
    for verb in ("migrate", "serve", "doctor"):
        done = await bare(verb, JOBTRAIL_DATABASE_URL=empty_url, JOBTRAIL_SCHEMA="shop", JOBTRAIL_PORT="0")
        told = done.out if verb == "doctor" else done.err
        assert "the schema shop holds tables of another application" in told, done
        assert "JOBTRAIL_SCHEMA" in told
        assert done.code == (1 if verb == "doctor" else 2)


async def test_several_wrong_settings_are_told_together_and_env_files_are_read(bare: Command) -> None:
    (bare.folder / ".env").write_text("JOBTRAIL_PORT=x\nJOBTRAIL_SLOTS=-1\n")
    done = await bare("ls")
    lines = done.err.splitlines()
    assert (done.code, len(lines)) == (2, 2)
    assert lines[0].startswith("jobtrail: JOBTRAIL_PORT: ")
    assert lines[1].startswith("jobtrail: JOBTRAIL_SLOTS: ")


async def test_a_server_that_refuses(bare: Command, empty_url: str) -> None:
    name = empty_url.split("/")[3].split("?", maxsplit=1)[0]
    unknown = await bare("ls", JOBTRAIL_DATABASE_URL=empty_url.replace(f"/{name}?", "/nowhere?"))
    stranger = await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url.replace("postgres@", "stranger@"))
    for done, refusal in ((unknown, 'database "nowhere" does not exist'), (stranger, 'role "stranger" does not exist')):
        assert done.code == 2
        assert done.err.startswith("jobtrail: JOBTRAIL_DATABASE_URL: PostgreSQL at postgresql://")
        assert done.err.endswith(f"refuses: {refusal}\n")


@pytest.mark.parametrize("verb", ["serve", "work", "ls"])
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


async def test_tasks_of_the_current_folder(jobtrail: Command) -> None:
    (jobtrail.folder / "mine.py").write_text("from jobtrail import task\n@task\ndef work(): ...\n")
    done = await jobtrail("submit", "work", "--json", JOBTRAIL_TASKS="mine")
    assert (done.code, done.json["task"]) == (0, "work")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("lss", "No such command 'lss'. Did you mean 'ls'? (see `jobtrail --help`)"),
        ("ls --foo", "No such option: --foo (see `jobtrail ls --help`)"),
        ("ls extra", "Got unexpected extra argument(s) (extra) (see `jobtrail ls --help`)"),
        ("show", "Missing argument 'ID' (see `jobtrail show --help`)"),
    ],
)
async def test_wrong_words(bare: Command, words: str, complaint: str) -> None:
    done = await bare(*words.split())
    assert (done.code, done.out, done.err) == (2, "", f"jobtrail: {complaint}\n")


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
    assert traced.code == 1
    assert "Traceback (most recent call last):" in traced.err


async def test_help_and_version(bare: Command) -> None:
    alone, asked = await bare(), await bare("--help")
    verb, version = await bare("submit", "--help"), await bare("--version")
    assert alone == asked
    assert (alone.code, verb.code, version.code) == (0, 0, 0)
    assert all(f" {name} " in alone.out for name in VERBS)
    assert "--idempotency-key" in verb.out
    assert version.out.startswith("jobtrail 0.")
