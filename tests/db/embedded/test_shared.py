"""An embedded server is shared by its users, stopped by the last one, and found again after kills."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail.db import embedded as module
from jobtrail.db.embedded import EmbeddedPostgres, let_go, open_lock
from jobtrail.db.programs import Programs, account_for
from jobtrail.errors import UnavailableError
from support.embedded import BINARIES, ask, postmaster_of, said_url, servers_in, start_user, wait_until

every_postgres = pytest.mark.parametrize(
    "binaries", BINARIES, indirect=True, ids=["wheel", *(each.parent.name for each in BINARIES[1:])]
)


OPTIONS = {"max_connections": "37", "cluster_name": 'it\'s "$HOME" `id`', "listen_addresses": "*"}
SHOWN = OPTIONS | {"listen_addresses": "", "fsync": "on", "synchronous_commit": "on"}


@every_postgres
def test_the_first_user_starts_the_server_and_the_last_one_stops_it(ground: Path, binaries: Path) -> None:
    folder = ground / "new" / "trail"
    first, second = EmbeddedPostgres(folder, binaries=binaries), EmbeddedPostgres(folder, binaries=binaries)
    url = first.start(OPTIONS)
    server = postmaster_of(folder)
    assert {name: ask(url, f"SHOW {name}") for name in SHOWN} == SHOWN
    assert (folder / "socket").stat().st_mode & 0o777 == 0o700
    assert server.net_connections("inet") == []
    held = {Path(file.path).name for file in server.open_files()}
    assert (held & {"server.lock", "setup.lock", "users.lock"}) == {"server.lock"}

    ask(url.replace("/jobtrail?", "/postgres?"), "DROP DATABASE jobtrail")
    assert (second.start(), first.start()) == (url, url)
    assert postmaster_of(folder) == server
    first.stop()
    assert ask(url, "SELECT version()").startswith(f"PostgreSQL {second.version}.")
    second.stop()
    assert not servers_in(folder)
    second.stop()


async def test_the_url_is_for_asyncpg_and_sqlalchemy_whatever_libpq_is_told(
    embedded: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "5999")
    monkeypatch.setenv("PGHOST", "nowhere")
    url = embedded.start()
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT current_database()") == "jobtrail"
    await connection.close()
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as session:
        assert await session.scalar(text("SELECT current_user")) == "postgres"
    await engine.dispose()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_user_leaves_the_server_to_be_found_again(embedded: EmbeddedPostgres, sent: signal.Signals) -> None:
    """It is in a process group of its own, so that an interrupt of its user's is not the server's."""
    user = start_user(embedded.folder, BINARIES[0], "postgres = EmbeddedPostgres(Path('none'))")
    ask(said_url(user), "CREATE TABLE kept AS SELECT 42 AS answer")
    server = postmaster_of(embedded.folder)
    os.killpg(user.pid, sent)
    user.communicate()
    assert ask(embedded.start(), "SELECT answer FROM kept") == "42"
    assert postmaster_of(embedded.folder) == server


def test_users_that_come_and_go_at_once_do_not_cross(ground: Path, binaries: Path) -> None:
    folder = ground / "trail"
    users = [start_user(folder, binaries) for _ in range(3)]
    assert len({said_url(user) for user in users}) == 1
    server = postmaster_of(folder)
    with EmbeddedPostgres(folder, binaries=binaries) as mine:
        for user in users:
            user.communicate("\n")
        assert postmaster_of(folder) == server
        late = start_user(folder, binaries)
        mine.stop()
        assert said_url(late)
        assert postmaster_of(folder).is_running()
    late.communicate("\n")
    assert [user.returncode for user in (*users, late)] == [0, 0, 0, 0]
    assert not servers_in(folder)


def test_an_interrupted_start_leaves_no_server(folder: Path, binaries: Path) -> None:
    (folder / "postgres.log").unlink()
    user = start_user(folder, binaries)
    wait_until((folder / "postgres.log").exists)
    user.send_signal(signal.SIGINT)
    user.communicate()
    assert user.returncode != 0
    assert not servers_in(folder)


def test_an_initdb_that_was_broken_off_heals(ground: Path, binaries: Path) -> None:
    folder = ground / "trail"
    user = start_user(folder, binaries)
    wait_until(lambda: list(folder.glob("data.new-*/base")))
    os.killpg(user.pid, signal.SIGKILL)
    user.communicate()
    assert not (folder / "data").exists()
    with EmbeddedPostgres(folder, binaries=binaries):
        assert postmaster_of(folder).is_running()


@every_postgres
def test_a_killed_server_heals(embedded: EmbeddedPostgres) -> None:
    url = embedded.start()
    ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    busy = subprocess.Popen([BINARIES[0] / "psql", url, "-qc", "SELECT pg_sleep(600)"], stderr=subprocess.DEVNULL)
    wait_until(lambda: ask(url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(600%'") == "2")
    postmaster_of(embedded.folder).kill()
    assert ask(embedded.start(), "SELECT answer FROM kept") == "42"
    assert "not properly shut down" in embedded.log_file.read_text()
    assert "ready" in embedded.log_file.with_suffix(".log.1").read_text()
    assert busy.wait() == 2


@pytest.mark.parametrize("left", ["", "{pid}\n"])
def test_a_process_id_of_another_program_is_not_believed(left: str, embedded: EmbeddedPostgres, folder: Path) -> None:
    embedded.start()
    lines = (folder / "data" / "postmaster.pid").read_text().split("\n", 1)[1]
    account = account_for(folder / "data")
    bystander = subprocess.Popen(["sleep", "600"], user=account.uid if account else None)
    for act in (lambda: ask(embedded.start(), "SELECT 1"), embedded.stop):
        for process in servers_in(folder):
            process.kill()
        wait_until(lambda: not servers_in(folder))
        (folder / "data" / "postmaster.pid").write_text(left.format(pid=bystander.pid) + (lines if left else ""))
        act()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_start_waits_for_what_is_left_of_a_dead_server(embedded: EmbeddedPostgres, folder: Path) -> None:
    left = open_lock(folder / "server.lock")
    fcntl.flock(left, fcntl.LOCK_EX)
    starting = threading.Thread(target=embedded.start)
    starting.start()
    wait_until(asks_whether_it_is_ready)
    assert not servers_in(folder)
    let_go(left)
    starting.join()
    assert ask(embedded.url, "SELECT 1") == "1"


def asks_whether_it_is_ready() -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):  # one that did not live long enough to be asked
        return any(process.name() == "pg_isready" for process in psutil.Process().children())
    return False


def test_a_server_that_was_started_by_hand_is_left_alone(embedded: EmbeddedPostgres, binaries: Path) -> None:
    data = embedded.folder / "data"
    by_hand = Programs(binaries, account_for(data))
    by_hand.run("pg_ctl", "start", "-D", str(data), "-l", str(embedded.log_file), "-o", f"-h '' -k '{data}'")
    server = postmaster_of(embedded.folder)
    with pytest.raises(UnavailableError, match=r"Is another postmaster .* running in data directory"):
        embedded.start()
    assert postmaster_of(embedded.folder) == server
    assert server.is_running()
    by_hand.run("pg_ctl", "stop", "-D", str(data))


def test_a_server_that_does_not_answer_is_told_apart_from_one_that_is_gone(
    embedded: EmbeddedPostgres, binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.start()
    server = postmaster_of(embedded.folder)
    server.suspend()
    monkeypatch.setattr(module, "PATIENCE", 0)
    with pytest.raises(UnavailableError, match="does not answer"):
        EmbeddedPostgres(embedded.folder, binaries=binaries).start()
    monkeypatch.undo()
    server.resume()
    with EmbeddedPostgres(embedded.folder, binaries=binaries):
        assert postmaster_of(embedded.folder) == server


def test_a_start_that_fails_quotes_the_servers_log_and_holds_nothing(embedded: EmbeddedPostgres) -> None:
    with pytest.raises(UnavailableError, match=r'(?s)postgres\.log ends with:.*"work_mem": "nonsense"'):
        embedded.start({"work_mem": "nonsense"})
    user = start_user(embedded.folder, BINARIES[0])
    assert said_url(user)
    user.communicate("\n")  # the last user, since the failed one is none
    assert not servers_in(embedded.folder)


@pytest.mark.parametrize("does", ["os.execv('/bin/sleep', ['sleep', '600'])", "__import__('signal').pause()"])
def test_a_process_that_a_user_forked_is_no_user(does: str, embedded: EmbeddedPostgres, binaries: Path) -> None:
    user = start_user(embedded.folder, binaries, f"os.fork() or {does}")
    said_url(user)
    (forked,) = psutil.Process(user.pid).children()
    assert user.stdin
    user.stdin.write("\n")
    user.stdin.close()
    assert user.wait() == 0
    assert not servers_in(embedded.folder)
    forked.kill()
    user.stdin = None
    user.communicate()


def test_a_folder_that_was_removed_under_its_user_does_not_hinder_his_stop(embedded: EmbeddedPostgres) -> None:
    embedded.start()
    server = postmaster_of(embedded.folder)
    left = servers_in(embedded.folder)
    while embedded.folder.exists():  # the server writes to it all the while
        shutil.rmtree(embedded.folder, ignore_errors=True)
    embedded.stop()
    server.terminate()
    wait_until(lambda: not any(process.is_running() for process in left))
    assert not embedded.folder.exists()
