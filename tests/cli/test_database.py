import asyncio
import json
import shutil
from pathlib import Path

import asyncpg

from jobtrail.db.migrate import head
from support.command import TOP, Command, ended
from support.world import Place


async def test_migrate_brings_an_empty_database_up_once(bare: Command, empty_url: str) -> None:
    first = await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url)
    again = await bare("migrate", "--json", JOBTRAIL_DATABASE_URL=empty_url)
    revision = again.json["after"]
    assert (first.code, first.out) == (0, f"the schema is at revision {revision} now; before: none\n")
    assert again.json == {"before": revision, "after": revision}
    words = await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url)
    assert words.out == f"the schema is at revision {revision}: nothing to do\n"


async def test_an_unknown_revision_is_a_usage_error(jobtrail: Command) -> None:
    done = await jobtrail("migrate", "--revision", "nope")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("jobtrail: --revision: Can't locate revision identified by 'nope'")


async def test_a_later_revision_is_left_alone_and_works(bare: Command, empty_url: str) -> None:
    await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url)
    await _say_revision(empty_url, "999912312359")
    migrated = await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url)
    listed = await bare("ls", "--json", JOBTRAIL_DATABASE_URL=empty_url)
    assert (migrated.code, migrated.out) == (0, "the schema is at revision 999912312359: nothing to do\n")
    assert (listed.code, listed.json) == (0, {"items": []})


async def test_a_database_without_a_schema_names_the_command(bare: Command, empty_url: str) -> None:
    variables = {"JOBTRAIL_DATABASE_URL": empty_url, "JOBTRAIL_TASKS": "support.tasks", "JOBTRAIL_PORT": "0"}
    told = "JOBTRAIL_DATABASE_URL: the database has no Jobtrail schema: run `jobtrail migrate`, then start again"
    for verb in ("ls", "submit noop", "serve", "work"):
        done = await bare(*verb.split(), **variables)
        assert (done.code, done.out, done.err) == (2, "", f"jobtrail: {told}\n")


async def test_an_older_revision_names_the_command(bare: Command, empty_url: str, tmp_path: Path) -> None:
    await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url)
    newer = _with_one_revision_more(tmp_path / "newer")
    listed = await ended(await bare.start("ls", package=newer, JOBTRAIL_DATABASE_URL=empty_url))
    doctor = await ended(await bare.start("doctor", "--json", package=newer, JOBTRAIL_DATABASE_URL=empty_url))
    migrated = await ended(await bare.start("migrate", "--json", package=newer, JOBTRAIL_DATABASE_URL=empty_url))
    told = "JOBTRAIL_DATABASE_URL: the database has an older revision of the schema: run `jobtrail migrate`"
    (revision,) = [each for each in doctor.json["checks"] if each["check"] == "revision"]
    assert (listed.code, listed.err) == (2, f"jobtrail: {told}, then start again\n")
    assert (revision["level"], revision["fix"]) == ("fault", "run `jobtrail migrate`")
    assert migrated.json["after"] == "next"


async def test_url_is_what_psql_takes(jobtrail: Command, place: Place) -> None:
    words, document = await jobtrail("url"), await jobtrail("url", "--json")
    query = ("--no-psqlrc", "--tuples-only", "--no-align", "--command=SELECT current_database()")
    psql = await asyncio.create_subprocess_exec("psql", words.out.strip(), *query, stdout=asyncio.subprocess.PIPE)
    said, _ = await psql.communicate()
    assert document.json == {"url": words.out.strip()}
    assert said.decode().strip() == await place.value("SELECT current_database()")


async def test_url_of_another_form_is_translated_without_asking_anybody(bare: Command) -> None:
    done = await bare("url", DATABASE_URL="postgresql+asyncpg://ann:p%40ss@127.0.0.1:1/app?ssl=require")
    assert (done.code, done.out) == (0, "postgresql://ann:p%40ss@127.0.0.1:1/app?sslmode=require\n")


async def _say_revision(url: str, revision: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE jobtrail.alembic_version SET version_num = $1", revision)
    await connection.close()


def _with_one_revision_more(place: Path) -> Path:
    """A copy of the checkout as the next release might look."""
    for name in ("service", "migrations"):
        shutil.copytree(TOP / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = "revision = 'next'\ndown_revision = {}\n\ndef upgrade():\n    pass\n\ndef downgrade():\n    pass\n"
    (place / "migrations" / "versions" / "2099-01-01-0000_next.py").write_text(script.format(json.dumps(head())))
    return place
