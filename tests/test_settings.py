import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobtrail.settings import PREFIX, Settings, load

pytestmark = pytest.mark.usefixtures("unset")

EXAMPLE = Path(__file__).parent.parent / ".env.example"
WRITTEN = re.compile(r"^(?P<comment># )?(?P<name>JOBTRAIL_[A-Z_]+)=(?P<value>\S*)$", re.MULTILINE)


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load()
    assert settings.model_dump() == {
        "schema": "jobtrail",
        "database_url": None,
        "data_dir": None,
        "pool_size": 5,
        "host": "127.0.0.1",
        "port": 8000,
        "max_body": 1048576,
        "body_timeout": timedelta(seconds=30),
        "max_waiting": 5000,
        "max_connections": 1000,
        "redact": (
            "password", "passwd", "passphrase", "secret", "token", "api_key", "access_key", "private_key",
            "authorization", "credential", "cookie", "pwd", "bearer", "jwt",
        ),
        "tasks": (),
        "queues": (),
        "slots": 32,
        "threads": 8,
        "processes": os.cpu_count(),
        "max_result": 1048576,
        "lease": timedelta(seconds=30),
        "stall": timedelta(seconds=300),
        "grace": timedelta(seconds=20),
        "cancel_grace": timedelta(seconds=5),
        "poll_every": timedelta(seconds=1),
        "purge_every": timedelta(seconds=60),
        "ttl": timedelta(days=7),
        "ttl_failed": timedelta(days=30),
        "history_ttl": timedelta(days=90),
        "log_format": "text",
        "log_level": "INFO",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "words"), [("none", ()), (" None ", ()), ("pin, iban,", ("pin", "iban")), ("none,pin", ("none", "pin"))]
)
def test_words_that_are_hidden(monkeypatch: pytest.MonkeyPatch, written: str, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("JOBTRAIL_REDACT", written)
    assert load().redact == words


def test_the_example_names_every_setting_once_and_no_other() -> None:
    named = [match["name"] for match in WRITTEN.finditer(EXAMPLE.read_text())]
    assert sorted(named) == sorted(PREFIX + name.upper() for name in Settings.model_fields)


def test_the_example_shows_the_defaults_in_its_comments(tmp_path: Path) -> None:
    commented = [match for match in WRITTEN.finditer(EXAMPLE.read_text()) if match["comment"]]
    (tmp_path / ".env").write_text("".join(f"{match['name']}={match['value']}\n" for match in commented))
    assert load() == Settings(_env_file=None)
    unset = {match["name"] for match in commented if not match["value"]}
    assert unset == {"JOBTRAIL_DATA_DIR", "JOBTRAIL_TASKS", "JOBTRAIL_QUEUES", "JOBTRAIL_PROCESSES"}


def test_the_example_as_it_is_starts_with_the_embedded_database(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE.read_text())
    assert load() == Settings(_env_file=None, database_url="embedded")


def test_the_example_gives_a_reason_before_each_setting() -> None:
    blocks = EXAMPLE.read_text().split("\n\n")
    settings = [block.splitlines() for block in blocks if WRITTEN.search(block)]
    assert all(len(lines) > 1 and all(line.startswith("# ") for line in lines[:-1]) for lines in settings)
    assert all(len(WRITTEN.findall("\n".join(lines))) == 1 for lines in settings)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("DATABASE_URL", "embedded", "embedded"),
        ("DATABASE_URL", "postgres://u@h/d?sslmode=require", "postgres://u@h/d?sslmode=require"),
        ("SCHEMA", "shop_2", "shop_2"),
        ("DATA_DIR", "~/x", Path.home() / "x"),
        ("PORT", "0", 0),
        ("TASKS", "shop.tasks, mail ,", ("shop.tasks", "mail")),
        ("QUEUES", "default,slow-ones", ("default", "slow-ones")),
        ("QUEUES", "", ()),
        ("SLOTS", "0", 0),
        ("LEASE", "2m", timedelta(minutes=2)),
        ("GRACE", "0", timedelta(0)),
        ("CANCEL_GRACE", "0", timedelta(0)),
        ("CANCEL_GRACE", "10m", timedelta(minutes=10)),
        ("POLL_EVERY", "0.5", timedelta(milliseconds=500)),
        ("PURGE_EVERY", "500ms", timedelta(milliseconds=500)),
        ("TTL", "keep", None),
        ("TTL_FAILED", "NONE", None),
        ("HISTORY_TTL", "3650d", timedelta(days=3650)),
        ("MAX_BODY", "2048", 2048),
        ("MAX_RESULT", "512KiB", 524288),
        ("LOG_FORMAT", "json", "json"),
        ("LOG_LEVEL", "debug", "DEBUG"),
    ],
)
def test_a_setting_is_read_from_the_environment_and_from_the_file(
    name: str, text: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(f"{PREFIX}{name}={text}\nOTHERS={text}\n")
    assert getattr(load(), name.lower()) == value
    (tmp_path / ".env").unlink()
    monkeypatch.setenv(PREFIX + name, text)
    assert getattr(load(), name.lower()) == value


def test_what_is_given_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("JOBTRAIL_PORT=1\nJOBTRAIL_SLOTS=1\nJOBTRAIL_THREADS=1\n")
    monkeypatch.setenv("JOBTRAIL_PORT", "2")
    monkeypatch.setenv("JOBTRAIL_SLOTS", "2")
    settings = load(port=3)
    assert (settings.port, settings.slots, settings.threads) == (3, 2, 1)


@pytest.mark.parametrize(
    ("environment", "file", "given", "found"),
    [
        ({"DATABASE_URL": "postgresql://shared"}, "", {}, "postgresql://shared"),
        ({}, "DATABASE_URL=postgresql://shared", {}, "postgresql://shared"),
        ({"DATABASE_URL": "postgresql://shared"}, "JOBTRAIL_DATABASE_URL=postgresql://own", {}, "postgresql://own"),
        ({"JOBTRAIL_DATABASE_URL": "postgresql://own"}, "DATABASE_URL=postgresql://shared", {}, "postgresql://own"),
        ({"JOBTRAIL_DATABASE_URL": "", "DATABASE_URL": "postgresql://shared"}, "", {}, "postgresql://shared"),
        ({"JOBTRAIL_DATABASE_URL": "embedded", "DATABASE_URL": "mysql://shared"}, "", {}, "embedded"),
        ({"DATABASE_URL": "mysql://shared"}, "", {"database_url": "embedded"}, "embedded"),
    ],
)
def test_the_database_of_the_host_app_is_taken_when_none_of_our_own_is_named(
    environment: dict[str, str],
    file: str,
    given: dict[str, str],
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / ".env").write_text(file)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load(**given).database_url == found


@pytest.mark.parametrize(
    ("environment", "given", "places"),
    [
        ({"SLOTS": "0"}, {}, (0, 0, 0)),
        ({"SLOTS": "0", "THREADS": "3"}, {}, (0, 3, 0)),
        ({"SLOTS": "0", "PROCESSES": "2"}, {}, (0, 0, 2)),
        ({"SLOTS": "0"}, {"threads": 1}, (0, 1, 0)),
        ({"SLOTS": "0"}, {"slots": 4}, (4, 8, os.cpu_count())),
        ({}, {"slots": 0}, (0, 0, 0)),
        ({"THREADS": "0"}, {}, (32, 0, os.cpu_count())),
    ],
)
def test_a_process_without_slots_only_accepts_unless_it_is_told_more(
    environment: dict[str, str],
    given: dict[str, int],
    places: tuple[int, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(PREFIX + name, value)
    settings = load(**given)
    assert (settings.slots, settings.threads, settings.processes) == places
    assert settings.only_accepts == (sum(places) == 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_the_embedded_database_is_for_loopback(host: str) -> None:
    assert load(database_url="embedded", host=host).host == host


def test_the_settings_cannot_be_changed() -> None:
    settings = load()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_no_representation_holds_the_password() -> None:
    settings = load(database_url="postgresql://ann:sekret@db/app")
    assert "sekret" not in repr(settings) + str(settings)
    with pytest.raises(ValidationError) as refused:
        Settings(database_url="mysql://ann:sekret@db/app")
    assert "sekret" not in str(refused.value)
