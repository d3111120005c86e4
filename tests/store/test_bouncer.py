"""Behind PgBouncer in transaction mode, when it is installed; `pytest --postgres=pgbouncer` runs far more there."""

import pytest

from jobtrail.job.database_url import normalize
from jobtrail.job.errors import SettingsError
from jobtrail.store.connecting import connect_once, is_pooled
from jobtrail.wiring import answering

URL = "postgresql://ann@db:6432/app"


def test_the_url_says_so() -> None:
    pooled, plain, off = (normalize(f"{URL}{query}") for query in ("?pgbouncer=true", "", "?pgbouncer=false"))
    assert [is_pooled(each.sqlalchemy) for each in (pooled, plain, off)] == [True, False, False]
    assert pooled.libpq == plain.libpq == off.libpq == URL
    assert "pgbouncer" not in str(connect_once(pooled.sqlalchemy).url)
    with pytest.raises(SettingsError, match="pgbouncer is true, for PgBouncer in transaction mode, or false"):
        normalize(f"{URL}?pgbouncer=yes")


def test_who_forgot_to_say_so_is_told() -> None:
    with (
        pytest.raises(SettingsError, match=r"PgBouncer answers at .*: write \?pgbouncer=true"),
        answering(normalize(URL)),
    ):
        raise ConnectionError("unsupported startup parameter: lock_timeout")
