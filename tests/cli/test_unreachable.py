"""A database that cannot be used is told as what it is, with the fix; never as one that does not answer."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from jobtrail.db.embedded import EmbeddedPostgres
from support.command import Command
from support.servers import reachable_folder

NOBODY = "postgresql://ann@127.0.0.1:1/app"


@pytest.fixture
def standby() -> Iterator[str]:
    """The URL of a server that waits for a primary which never comes."""
    with reachable_folder() as folder:
        server = EmbeddedPostgres(folder)
        server.start()
        server.stop()
        (folder / "data" / "standby.signal").touch()
        try:
            yield server.start()
        finally:
            server.stop()


async def test_a_standby(bare: Command, standby: str) -> None:
    done = await bare("migrate", JOBTRAIL_DATABASE_URL=standby)
    assert (done.code, done.out) == (2, "")
    assert ": this server is a standby (read-only): give the primary's URL" in done.err


async def test_a_database_that_is_read_only(bare: Command, empty_url: str) -> None:
    done = await bare("migrate", JOBTRAIL_DATABASE_URL=f"{empty_url}&options=-c%20default_transaction_read_only%3Don")
    assert (done.code, done.out) == (2, "")
    assert ": it is read-only: look at default_transaction_read_only of the server" in done.err


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
