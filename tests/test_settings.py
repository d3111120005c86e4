"""Settings: their defaults, what is read from where, and what is refused, in one line with the fix."""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobtrail.errors import SettingsError
from jobtrail.settings import PREFIX, Settings, load, unknown_variables

SECRET = "whsec_" + "A" * 44

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
        "max_pending": {},
        "max_connections": 1000,
        "redact": (
            "password", "passwd", "passphrase", "secret", "token", "api_key", "access_key", "private_key",
            "authorization", "credential", "cookie", "pwd", "bearer", "jwt",
        ),
        "tasks": (),
        "queues": (),
        "slots": 100,
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
        "feed_ttl": timedelta(hours=24),
        "streams": 500,
        "stream_max": timedelta(minutes=15),
        "trace_link_after": timedelta(hours=1),
        "webhook_secret": (),
        "webhook_allow": (),
        "alarm_pending": 1000,
        "alarm_running": timedelta(minutes=5),
        "alarm_failures": 0.05,
        "metrics_port": None,
        "log_format": "text",
        "log_level": "INFO",
    }  # fmt: skip


def test_the_example_gives_each_setting_once_with_its_default_and_a_reason(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    written = list(WRITTEN.finditer(text))
    assert sorted(match["name"] for match in written) == sorted(PREFIX + name.upper() for name in Settings.model_fields)
    blocks = [block.splitlines() for block in text.split("\n\n") if WRITTEN.search(block)]
    assert len(blocks) == len(written)
    assert all(len(lines) > 1 and all(line.startswith("# ") for line in lines[:-1]) for lines in blocks)

    commented = [match for match in written if match["comment"]]
    (tmp_path / ".env").write_text("".join(f"{match['name']}={match['value']}\n" for match in commented))
    assert load() == Settings(_env_file=None)
    unset = {match["name"] for match in commented if not match["value"]}
    assert unset == {
        "JOBTRAIL_DATA_DIR",
        "JOBTRAIL_TASKS",
        "JOBTRAIL_QUEUES",
        "JOBTRAIL_PROCESSES",
        "JOBTRAIL_WEBHOOK_SECRET",
        "JOBTRAIL_METRICS_PORT",
    }
    (tmp_path / ".env").write_text(text)
    assert load() == Settings(_env_file=None, database_url="embedded")


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
        ("SLOTS", "0", 0),
        ("LEASE", "2m", timedelta(minutes=2)),
        ("GRACE", "0", timedelta(0)),
        ("CANCEL_GRACE", "10m", timedelta(minutes=10)),
        ("POLL_EVERY", "0.5", timedelta(milliseconds=500)),
        ("PURGE_EVERY", "500ms", timedelta(milliseconds=500)),
        ("TTL", "keep", None),
        ("TTL_FAILED", "NONE", None),
        ("HISTORY_TTL", "3650d", timedelta(days=3650)),
        ("MAX_BODY", "2048", 2048),
        ("MAX_RESULT", "512KiB", 524288),
        ("MAX_PENDING", '{"mail":1,"slow.ones":1000000}', {"mail": 1, "slow.ones": 1_000_000}),
        ("REDACT", " None ", ()),
        ("REDACT", "pin, iban,", ("pin", "iban")),
        ("REDACT", "none,pin", ("none", "pin")),
        ("WEBHOOK_SECRET", f"{SECRET}, {SECRET}", (SECRET, SECRET)),
        ("WEBHOOK_ALLOW", "10.0.0.0/8, hooks.internal", ("10.0.0.0/8", "hooks.internal")),
        ("WEBHOOK_ALLOW", "none", ()),
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
        ({"THREADS": "0"}, {}, (100, 0, os.cpu_count())),
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


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.8.9.1", True), ("::1", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")],  # noqa: S104 — refused here
)
def test_the_embedded_database_is_for_loopback(host: str, is_loopback: bool) -> None:
    assert load(database_url="postgresql://db", host=host).host == host
    if is_loopback:
        assert load(database_url="embedded", host=host).host == host
        return
    with pytest.raises(SettingsError, match=r"^JOBTRAIL_HOST: .*set JOBTRAIL_HOST=127\.0\.0\.1, or JOBTRAIL_DATABASE"):
        load(database_url="embedded", host=host)


def test_the_settings_cannot_be_changed_and_do_not_show_the_password() -> None:
    settings = load(database_url="postgresql://ann:sekret@db/app")
    assert "sekret" not in repr(settings) + str(settings)
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError) as refused:
        Settings(database_url="mysql://ann:sekret@db/app")
    assert "sekret" not in str(refused.value)


REFUSED = {
    "DATABASE_URL=mysql://ann:sekret@db": "mysql:// is not PostgreSQL; write postgresql://user:password@host",
    "PORT=65536": "'65536' should be less than or equal to 65535",
    "PORT=http": "'http' should be a valid integer",
    "PROCESSES=1.5": "'1.5' should be a valid integer",
    "POOL_SIZE=0": "'0' should be greater than or equal to 1",
    "CANCEL_GRACE=11m": "11m should be less than or equal to 10 minutes",
    "LEASE=5 parsecs": "'5 parsecs' is not a duration: write seconds or 500ms, 30s, 5m, 2h, 7d",
    "LEASE=0.9": "900ms should be greater than or equal to 1 second",
    "LEASE=2d": "2d should be less than or equal to 1 day",
    "STALL=0": "0s should be greater than or equal to 1 second",
    "POLL_EVERY=30s": "30s is not shorter than JOBTRAIL_LEASE (30s): lower the one or raise the other",
    "TTL=0": "0 would purge a row as it finishes; write keep to keep rows for ever",
    "TTL_FAILED=500ms": "500ms should be greater than or equal to 1 second",
    "HISTORY_TTL=3651d": "3651d should be less than or equal to 3650 days",
    "MAX_BODY=1MX": "'1MX' is not a size: write bytes or 512KiB, 1MiB",
    "WEBHOOK_SECRET=sekret": "a secret is whsec_ and 24 to 64 random bytes as base64: what `openssl rand -base64 32`",
    "WEBHOOK_SECRET=whsec_c2VrcmV0": "a secret is whsec_ and 24 to 64 random bytes",
    f"WEBHOOK_SECRET={SECRET},{SECRET},{SECRET}": "3 secrets: write the new one and, while receivers change",
    "WEBHOOK_ALLOW=10.0.0.1/8": "'10.0.0.1/8' is neither the name of a host nor a network",
    "WEBHOOK_ALLOW=*.internal": "'*.internal' is neither the name of a host nor a network",
    "MAX_BODY=1": "'1' should be greater than or equal to 1024",
    "MAX_RESULT=65MiB": "'65MiB' should be less than or equal to 67108864",
    "TASKS=shop/tasks.py": "'shop/tasks.py' is not a module's name: write package.module",
    "QUEUES=two words": "'two words' is not a queue's name",
    "MAX_PENDING=1000": "'1000': write a JSON object of queues and whole numbers from 1 to 1000000",
    'MAX_PENDING={"mail": 0}': "'{\"mail\": 0}': write a JSON object",
    'MAX_PENDING={"mail": true}': "'{\"mail\": true}': write a JSON object",
    'MAX_PENDING={"two words": 1}': "'{\"two words\": 1}': write a JSON object",
    "MAX_PENDING={mail: 1}": "'{mail: 1}': write a JSON object",
    "LOG_FORMAT=xml": "'xml' should be 'text' or 'json'",
    "LOG_LEVEL=loud": "'LOUD' should be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'",
}


@pytest.mark.parametrize(("setting", "reason"), REFUSED.items())
def test_a_wrong_setting_is_one_line_that_names_it_and_the_fix(
    setting: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, value = setting.split("=", 1)
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value).startswith(f"{PREFIX}{name}: {reason}")
    assert "\n" not in str(refused.value)
    assert "sekret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_all_wrong_settings_are_told_at_once_and_then_what_does_not_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def named(**given: Any) -> list[str]:
        with pytest.raises(SettingsError) as refused:
            load(**given)
        return sorted(line.partition(":")[0] for line in str(refused.value).splitlines())

    related = {"database_url": "embedded", "host": "::", "poll_every": timedelta(minutes=1)}
    assert named(**related) == ["JOBTRAIL_HOST", "JOBTRAIL_POLL_EVERY"]
    for name, value in {"DATABASE_URL": "mysql://db", "LEASE": "soon", "PORT": "x", "TTL": "0"}.items():
        monkeypatch.setenv(PREFIX + name, value)
    assert named() == ["JOBTRAIL_DATABASE_URL", "JOBTRAIL_LEASE", "JOBTRAIL_PORT", "JOBTRAIL_TTL"]


@pytest.mark.parametrize(
    "given", [{"database_url": 5}, {"ttl": "soon"}, {"max_body": None}, {"tasks": 7}, {"max_pending": 7}]
)
def test_a_wrong_value_from_python_names_the_setting_too(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"^{PREFIX}{next(iter(given)).upper()}: "):
        load(**given)


def test_a_wrong_url_of_the_host_app_is_refused_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://ann:sekret@db/app")
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: .*; or set JOBTRAIL_DATABASE_URL, which") as refused:
        load()
    assert "sekret" not in str(refused.value)


def test_a_file_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"JOBTRAIL_PORT=\xff\xfe")
    with pytest.raises(SettingsError, match=r"^\.env in the current folder cannot be read: it is not UTF-8$"):
        load()


def test_unknown_variables_are_told_with_near_names_and_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("JOBTRAIL_LEESE=1\nOTHER=1\nJOBTRAIL_SLOTS=1\n")
    monkeypatch.setenv("JOBTRAIL_PROT", "1")
    assert load().port == 8000
    known = {PREFIX + name.upper(): "" for name in Settings.model_fields}
    assert unknown_variables({"JOBTRAIL_PROT": "1", "JOBTRAIL_XYZZY": "1", "PATH": "x", **known}) == [
        "JOBTRAIL_LEESE is not a setting; did you mean JOBTRAIL_LEASE?",
        "JOBTRAIL_PROT is not a setting; did you mean JOBTRAIL_PORT?",
        "JOBTRAIL_XYZZY is not a setting",
    ]
