"""Settings that are refused or unknown: each is one line that names it and the fix."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobtrail.errors import SettingsError
from jobtrail.settings import PREFIX, Settings, load, unknown_variables

pytestmark = pytest.mark.usefixtures("unset")


def test_a_database_of_the_host_app_that_is_of_no_use_is_refused_under_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://ann:sekret@db/app")
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: .*; or set JOBTRAIL_DATABASE_URL, which") as refused:
        load()
    assert "sekret" not in str(refused.value)


REFUSED = {
    "DATABASE_URL=mysql://ann:sekret@db": "mysql:// is not PostgreSQL; write postgresql://user:password@host",
    "PORT=65536": "'65536' should be less than or equal to 65535",
    "PORT=-1": "'-1' should be greater than or equal to 0",
    "PORT=http": "'http' should be a valid integer",
    "SLOTS=-1": "'-1' should be greater",
    "THREADS=many": "'many' should be a valid integer",
    "PROCESSES=1.5": "'1.5' should be a valid integer",
    "POOL_SIZE=0": "'0' should be greater than or equal to 1",
    "CANCEL_GRACE=11m": "11m should be less than or equal to 10 minutes",
    "LEASE=5 parsecs": "'5 parsecs' is not a duration: write seconds or 500ms, 30s, 5m, 2h, 7d",
    "LEASE=0.9": "900ms should be greater than or equal to 1 second",
    "LEASE=2d": "2d should be less than or equal to 1 day",
    "STALL=0": "0s should be greater than or equal to 1 second",
    "GRACE=-1": "'-1' is not a duration",
    "POLL_EVERY=0": "0s should be greater",
    "POLL_EVERY=30s": "30s is not shorter than JOBTRAIL_LEASE (30s): lower the one or raise the other",
    "PURGE_EVERY=nan": "'nan' is not a duration",
    "TTL=0": "0 would purge a row as it finishes; write keep to keep rows for ever",
    "TTL_FAILED=-7d": "'-7d' is not a duration",
    "TTL_FAILED=500ms": "500ms should be greater than or equal to 1 second",
    "HISTORY_TTL=3651d": "3651d should be less than or equal to 3650 days",
    "MAX_BODY=1MX": "'1MX' is not a size: write bytes or 512KiB, 1MiB",
    "MAX_BODY=-1": "'-1' is not a size: write bytes or 512KiB, 1MiB",
    "MAX_BODY=1": "'1' should be greater than or equal to 1024",
    "MAX_RESULT=65MiB": "'65MiB' should be less than or equal to 67108864",
    "TASKS=shop/tasks.py": "'shop/tasks.py' is not a module's name: write package.module",
    "QUEUES=two words": "'two words' is not a queue's name",
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


def test_all_wrong_settings_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ["DATABASE_URL=mysql://db", "LEASE=soon", "PORT=x", "TTL=0"]
    for setting in wrong:
        name, value = setting.split("=")
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as refused:
        load()
    named = [line.partition(":")[0] for line in str(refused.value).splitlines()]
    assert sorted(named) == sorted(PREFIX + setting.partition("=")[0] for setting in wrong)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])  # noqa: S104 — refused here
def test_the_embedded_database_is_refused_on_any_other_address(host: str) -> None:
    with pytest.raises(SettingsError, match=r"^JOBTRAIL_HOST: .*set JOBTRAIL_HOST=127\.0\.0\.1, or JOBTRAIL_DATABASE"):
        load(database_url="embedded", host=host)
    assert load(database_url="postgresql://db", host=host).host == host


def test_relations_are_told_together() -> None:
    with pytest.raises(SettingsError) as refused:
        load(database_url="embedded", host="::", poll_every=timedelta(minutes=1))
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "JOBTRAIL_POLL_EVERY",
        "JOBTRAIL_HOST",
    ]


@pytest.mark.parametrize("given", [{"database_url": 5}, {"ttl": "soon"}, {"max_body": None}, {"tasks": 7}])
def test_a_wrong_value_from_python_names_the_setting_too(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"^{PREFIX}{next(iter(given)).upper()}: "):
        load(**given)


def test_a_file_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"JOBTRAIL_PORT=\xff\xfe")
    with pytest.raises(SettingsError, match=r"^\.env in the current folder cannot be read: it is not UTF-8$"):
        load()


def test_unknown_variables_are_told_with_near_names(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("JOBTRAIL_LEESE=1\nOTHER=1\nJOBTRAIL_PORT=1\n")
    told = unknown_variables({"JOBTRAIL_PROT": "1", "JOBTRAIL_XYZZY": "1", "JOBTRAIL_TTL": "1", "PATH": "x"})
    assert told == [
        "JOBTRAIL_LEESE is not a setting; did you mean JOBTRAIL_LEASE?",
        "JOBTRAIL_PROT is not a setting; did you mean JOBTRAIL_PORT?",
        "JOBTRAIL_XYZZY is not a setting",
    ]


def test_no_variable_is_unknown_where_there_is_none() -> None:
    assert unknown_variables({"HOME": "/"}) == []
    assert unknown_variables({PREFIX + name.upper(): "" for name in Settings.model_fields}) == []


def test_an_unknown_variable_does_not_keep_the_service_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBTRAIL_PROT", "1")
    assert load().port == 8000
