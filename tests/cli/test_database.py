"""The schema and the URL of the database; and one that cannot be used, with the fix."""

import asyncio
import json
import shutil
import ssl
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from jobtrail.db.migrate import head
from support.command import TOP, Command, ended
from support.embedded import used_before
from support.servers import reachable_folder
from support.world import Place

NOBODY = "postgresql://ann@127.0.0.1:1/app"


async def test_migrate_brings_an_empty_database_up_once(bare: Command, empty_url: str) -> None:
    first = await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url)
    again = await bare("migrate", "--json", JOBTRAIL_DATABASE_URL=empty_url)
    revision = again.json["after"]
    assert (first.code, first.out) == (0, f"the schema is at revision {revision} now; before: none\n")
    assert again.json == {"before": revision, "after": revision}
    connection = await asyncpg.connect(empty_url)
    await connection.execute("UPDATE jobtrail.alembic_version SET version_num = '999912312359'")
    await connection.close()
    later, listed = [await bare(*words, JOBTRAIL_DATABASE_URL=empty_url) for words in (("migrate",), ("ls", "--json"))]
    assert (later.code, later.out) == (0, "the schema is at revision 999912312359: nothing to do\n")
    assert (listed.code, listed.json) == (0, {"items": []})


async def test_a_database_without_a_schema_names_the_command(bare: Command, empty_url: str) -> None:
    variables = {"JOBTRAIL_DATABASE_URL": empty_url, "JOBTRAIL_TASKS": "support.tasks", "JOBTRAIL_PORT": "0"}
    told = "JOBTRAIL_DATABASE_URL: the database has no Jobtrail schema: run `jobtrail migrate`, then start again"
    for verb in ("ls", "submit noop", "serve", "work"):
        done = await bare(*verb.split(), **variables)
        assert (done.code, done.out, done.err) == (2, "", f"jobtrail: {told}\n")


async def test_an_older_revision_names_the_command(bare: Command, empty_url: str, tmp_path: Path) -> None:
    await bare("migrate", JOBTRAIL_DATABASE_URL=empty_url)
    newer = tmp_path / "newer"  # a copy of the checkout as the next release might look
    for name in ("service", "migrations"):
        shutil.copytree(TOP / name, newer / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = "revision = 'next'\ndown_revision = {}\n\ndef upgrade():\n    pass\n\ndef downgrade():\n    pass\n"
    (newer / "migrations" / "versions" / "2099-01-01-0000_next.py").write_text(script.format(json.dumps(head())))
    environ = bare.environ(PYTHONPATH=str(newer / "service"), JOBTRAIL_DATABASE_URL=empty_url)
    listed, doctor, migrated = [
        await ended(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "jobtrail", *words, cwd=tmp_path, env=environ, stdout=PIPE, stderr=PIPE
            )
        )
        for words in (("ls",), ("doctor", "--json"), ("migrate", "--json"))
    ]
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
    # one of another form is translated, without a connection
    done = await jobtrail("url", JOBTRAIL_DATABASE_URL="postgresql+asyncpg://ann:p%40ss@127.0.0.1:1/app?ssl=require")
    assert (done.code, done.out) == (0, "postgresql://ann:p%40ss@127.0.0.1:1/app?sslmode=require\n")


@pytest.fixture
def standby() -> Iterator[str]:
    """The URL of a server that waits for a primary which never comes."""
    with reachable_folder() as folder:
        server = used_before(folder / "standby")
        (server.folder / "data" / "standby.signal").touch()
        try:
            yield server.start()
        finally:
            server.stop()


async def test_a_server_that_does_not_write(bare: Command, standby: str, empty_url: str) -> None:
    read_only = f"{empty_url}&options=-c%20default_transaction_read_only%3Don"
    for url, told in {
        standby: ": this server is a standby (read-only): give the primary's URL",
        read_only: ": it is read-only: look at default_transaction_read_only of the server",
    }.items():
        done = await bare("migrate", JOBTRAIL_DATABASE_URL=url)
        assert (done.code, done.out, told in done.err) == (2, "", True)


async def test_a_database_that_cannot_hold_every_text(bare: Command, empty_url: str) -> None:
    connection = await asyncpg.connect(empty_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"CREATE DATABASE {name}_latin ENCODING 'LATIN1' TEMPLATE template0")
    settings = {"JOBTRAIL_DATABASE_URL": empty_url.replace(name, f"{name}_latin"), "JOBTRAIL_PORT": "0"}
    for verb in ("migrate", "serve", "ls"):
        done = await bare(verb, **settings)
        assert (done.code, done.out) == (2, "")
        assert "the database is in LATIN1, which cannot hold every text" in done.err
        assert done.err.endswith("CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0\n")
    doctor = await bare("doctor", "--json", **settings)
    (told,) = [each for each in doctor.json["checks"] if each["check"] == "server"]
    assert (doctor.code, told["level"], "LATIN1" in told["detail"]) == (1, "fault", True)
    await connection.execute(f"DROP DATABASE {name}_latin WITH (FORCE)")
    await connection.close()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("sslmode=verify-full&sslrootcert=/nowhere/root.crt", "sslrootcert=/nowhere/root.crt: No such file"),
        ("sslmode=require&sslcert=/nowhere/my.crt&sslkey=/nowhere/my.key", "sslcert=/nowhere/my.crt: No such file"),
        ("sslmode=require&sslcrl=/proc/1/mem/no", "sslcrl=/proc/1/mem/no: Not a directory"),
        ("sslmode=verify-ca&sslrootcert=/dev/null", "TLS failed (NO_CERTIFICATE_OR_CRL_FOUND): look at sslrootcert"),
        ("sslmode=verify-full", '/root.crt" does not exist or cannot be accessed'),
    ],
)
async def test_files_that_the_url_names(bare: Command, query: str, told: str) -> None:
    done = await bare("ls", JOBTRAIL_DATABASE_URL=f"{NOBODY}?{query}", HOME=str(bare.folder))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("jobtrail: JOBTRAIL_DATABASE_URL: ")
    assert told in done.err


async def test_tls_that_the_server_does_not_have(bare: Command) -> None:
    async with _server(None) as port:
        done = await bare("migrate", JOBTRAIL_DATABASE_URL=f"postgresql://ann@127.0.0.1:{port}/app?sslmode=require")
    assert (done.code, "the server has no TLS, and sslmode asks for it: write sslmode=prefer" in done.err) == (2, True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="it makes the certificate")
async def test_a_certificate_of_nobody_known(bare: Command, tmp_path: Path) -> None:
    ours, theirs = (_certificate(tmp_path / name) for name in ("ours", "theirs"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs, theirs.with_suffix(".key"))
    async with _server(context) as port:
        url = f"postgresql://ann@127.0.0.1:{port}/app?sslmode=verify-full&sslrootcert={ours}"
        done = await bare("migrate", JOBTRAIL_DATABASE_URL=url)
    assert done.code == 2
    assert "the server's certificate is not trusted (" in done.err
    assert "name the certificate of its authority in sslrootcert" in done.err


def _certificate(place: Path) -> Path:
    made = place.with_suffix(".crt")
    subject = ("-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={place.name}", "-days", "1")
    files = ("-keyout", str(place.with_suffix(".key")), "-out", str(made))
    subprocess.run(["openssl", "req", *subject, *files], check=True, capture_output=True)
    return made


@asynccontextmanager
async def _server(context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """What a PostgreSQL answers to the wish for TLS, and no more."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(8)
            writer.write(b"N" if context is None else b"S")
            await writer.drain()
            if context is not None:
                await writer.start_tls(context)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
