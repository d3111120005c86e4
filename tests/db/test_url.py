from inspect import signature
from typing import Any
from urllib.parse import quote

import pytest
from asyncpg.connect_utils import _parse_connect_arguments
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from jobtrail.db.url import DatabaseUrl, normalize
from jobtrail.errors import SettingsError

FORMS = {
    "postgres://ann@db/app": ("ann@db/app", "", ""),
    "POSTGRESQL://ann@db/app": ("ann@db/app", "", ""),
    " postgresql+asyncpg://ann@db:6/app\n": ("ann@db:6/app", "", ""),
    "postgresql://": ("/", "", ""),
    "postgresql://ann:p@ss:word@db/app": ("ann:p%40ss%3Aword@db/app", "", ""),
    "postgresql://[::1]:6/app": ("[::1]:6/app", "", ""),
    "postgresql:///app?host=/run/pg&port=6": ("/app?host=/run/pg&port=6", "", ""),
    "postgresql://%2Frun%2Fpg:6/app": ("/app?host=/run/pg&port=6", "", ""),
    "postgresql:///?host=db&user=ann&password=pw&dbname=app": ("ann:pw@db/app", "", ""),
    "postgresql://a:1,[::1],c/app": ("/app?host=a%2C%3A%3A1%2Cc&port=1%2C5432%2C5432", "", ""),
    "postgresql://a,b/app?port=7": ("/app?host=a%2Cb&port=7%2C7", "", ""),
    "postgresql+asyncpg://db/app?ssl=require": ("db/app", "?sslmode=require", "?ssl=require"),
    "postgresql://db/app?ssl=true": ("db/app", "?sslmode=require", "?ssl=require"),
    "postgresql://db/app?keepalives=1&channel_binding=prefer": ("db/app", "?keepalives=1&channel_binding=prefer", ""),
    "postgresql://db/app?prepared_statement_cache_size=0": ("db/app", "", "?prepared_statement_cache_size=0"),
    "postgres://ann:pw@ep-1.aws.neon.tech/app?sslmode=require&channel_binding=prefer&options=endpoint%3Dep-1": (
        "ann:pw@ep-1.aws.neon.tech/app",
        "?sslmode=require&channel_binding=prefer&options=endpoint%3Dep-1",
        "?ssl=require&dsn=postgresql%3A//%3Foptions%3Dendpoint%253Dep-1",
    ),
    "postgres://p.x:pw@aws-0.pooler.supabase.com:6543/postgres?pgbouncer=true&connection_limit=1&supa=base-pooler.x": (
        "p.x:pw@aws-0.pooler.supabase.com:6543/postgres",
        "",
        "?pgbouncer=true",
    ),
    "postgresql://db/app?schema=public&pool_timeout=0&statement_cache_size=0&uselibpqcompat=true": ("db/app", "", ""),
    "postgresql://db/app?application_name=&": ("db/app", "", ""),
}


@pytest.mark.parametrize(("url", "forms"), FORMS.items())
def test_a_url_in_the_forms_of_psql_and_sqlalchemy(url: str, forms: tuple[str, str, str]) -> None:
    common, psql, sqlalchemy = forms
    found = normalize(url)
    assert found.libpq == f"postgresql://{common}{psql}"
    assert found.sqlalchemy == f"postgresql+asyncpg://{common}{sqlalchemy}"
    assert normalize(found.libpq).libpq == found.libpq


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(WORDS, WORDS, WORDS, WORDS, st.sampled_from(["disable", "allow", "prefer", "require"]), st.booleans())
@settings(deadline=None)
def test_asyncpg_is_told_the_same_by_either_form_and_nobody_is_told_the_password(
    user: str, password: str, database: str, name: str, mode: str, psql: bool
) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    query = f"application_name={quote(name)}&{'sslmode' if psql else 'ssl'}={mode}"
    found = normalize(f"postgres://{login}@db:6543/{quote(database, safe='')}?{query}")
    for addresses, parameters in (arguments_of_sqlalchemy(found), parsed(dsn=found.libpq)):
        assert addresses == [("db", 6543)]
        assert (parameters.user, parameters.password, parameters.database) == (user, password, database)
        assert parameters.sslmode.name == mode
        assert parameters.server_settings == {"application_name": name}
    assert found.shown == found.libpq.replace(f":{quote(password, safe='*')}@", ":***@", 1)


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("postgresql://u@[fe80::1%25eth0]/d", [("fe80::1%eth0", 5432)]),
        ("postgresql://u@[::1]:6/d", [("::1", 6)]),
        ("postgresql://u@/d?host=/run/pg&port=6", ["/run/pg/.s.PGSQL.6"]),
        ("postgresql://u@/d?host=/cloudsql/a:b:c", ["/cloudsql/a:b:c/.s.PGSQL.5432"]),
        ("postgresql://u@a,[::1]:6/d", [("a", 5432), ("::1", 6)]),
    ],
)
def test_sqlalchemy_hands_asyncpg_every_kind_of_address(url: str, addresses: list[Any]) -> None:
    assert arguments_of_sqlalchemy(normalize(url))[0] == addresses


def test_what_asyncpg_reads_only_from_a_uri_reaches_it_through_sqlalchemy() -> None:
    found = normalize("postgresql://u@h/d?options=-c%20work_mem%3D5MB&target_session_attrs=read-write")
    parameters = arguments_of_sqlalchemy(found)[1]
    assert parameters.server_settings == {"options": "-c work_mem=5MB"}
    assert parameters.target_session_attrs.value == "read-write"


@pytest.mark.parametrize(("query", "seconds"), [("", None), ("?connect_timeout=0", None), ("?connect_timeout=7", 7)])
def test_the_timeout_of_connecting_stands_beside_the_url(query: str, seconds: int | None) -> None:
    found = normalize(f"postgresql://h/d{query}")
    assert found.connect_timeout == seconds
    assert "timeout" not in found.sqlalchemy


def test_neither_the_shown_form_nor_the_representation_has_a_password() -> None:
    found = normalize("postgres://ann:sekret@db/app?sslpassword=sekret&sslkey=/k&sslmode=require")
    assert found.shown == "postgresql://ann:***@db/app?sslpassword=***&sslkey=/k&sslmode=require"
    assert "sekret" not in repr(found)
    assert found.libpq.count("sekret") == 2
    assert normalize("postgres://ann@db/app").shown == "postgresql://ann@db/app"


REFUSED = {
    "": "not a URL; write postgresql://user:password@host:5432/database",
    "sekret": "not a URL",
    "host=db password=sekret": "not a URL",
    "jdbc:postgresql://u:sekret@db/app": "not a URL",
    "postgresql:/u:sekret@db/app": "not a URL",
    "mysql://u:sekret@db/app": "mysql:// is not PostgreSQL",
    "sqlite:///sekret": "sqlite:// is not PostgreSQL",
    "postgresql+psycopg://u:sekret@db/app": r"postgresql\+psycopg:// names another driver, and Jobtrail brings asyncpg",
    "postgres+psycopg2://u:sekret@db/app": "names another driver",
    "postgresql://u:sek#ret@db/app": "write @ as %40, / as %2F, : as %3A",
    "postgresql://u:sek ret@db/app": "a space, a # or a lone %",
    "postgresql://u:sek%ret@db/app": "a lone %",
    "postgresql://u:sekret%00@db/app": "a space, a # or a lone %",
    "postgresql://u:sekret%E9@db/app": "not UTF-8",
    "postgresql://u:sek/ret@db/app": "not to be taken apart",
    "postgresql://u:12/sekret@db/app": "not to be taken apart",
    "postgresql://u:12?sekret@db/app": "not to be taken apart",
    "postgresql://u:sek/ret": "a host or port that is none",
    "postgresql://[::1/app": "a host or port that is none",
    "postgresql://db/a/b": "not to be taken apart",
    "postgresql://db:0/app": "a port is a number from 1 to 65535",
    "postgresql://db:65536/app": "a port is a number from 1 to 65535",
    "postgresql://db/app?port=x": "a port is a number from 1 to 65535",
    "postgresql://a,b/app?port=1,2,3": "as many ports as hosts, or one for all",
    "postgresql://db/app?sslmode=maybe": "sslmode is one of disable, allow, prefer, require, verify-ca, verify-full",
    "postgresql://db/app?sslmode=require&ssl=true": "the parameter sslmode is given twice",
    "postgresql://db/app?=sekret": "a parameter that has no name",
    "postgresql://db/app?search_path=x": r"the parameter search_path is unknown; .*options=-c%20name%3Dvalue",
    "postgresql://db/app?connect_timeout=soon": "connect_timeout is a whole number",
    "postgresql://db/app?channel_binding=require": "channel_binding=require is not for asyncpg, .* sslmode=verify-full",
    "postgresql://db/app?sslmode=no-verify": "sslmode=no-verify is .*: write sslmode=require, which is the same",
    "postgresql://db/app?sslaccept=strict": "sslaccept is Prisma's: write sslmode=verify-full for strict",
    "postgresql://db/app?pool_mode=transaction": "pool_mode is PgBouncer's: write pgbouncer=true",
    "postgresql://db/app?gssencmode=require": "gssencmode=require is not for asyncpg",
    "postgresql://db/app?sslrootcert=system": "sslrootcert=system is not for asyncpg: write the name of a file",
}


@pytest.mark.parametrize(("url", "reason"), REFUSED.items())
def test_a_wrong_url_is_refused_with_the_fix_and_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"^JOBTRAIL_DATABASE_URL: .*{reason}") as refused:
        normalize(url)
    assert "ret" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_the_error_names_the_variable_that_held_the_url() -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: "):
        normalize("mysql://db", "DATABASE_URL")


def arguments_of_sqlalchemy(url: DatabaseUrl) -> tuple[list[Any], Any]:
    """The addresses and parameters that asyncpg makes of what SQLAlchemy would hand to it."""
    _, keywords = PGDialect_asyncpg().create_connect_args(make_url(url.sqlalchemy))
    return parsed(**keywords)


def parsed(**keywords: Any) -> tuple[list[Any], Any]:
    unset = dict.fromkeys(signature(_parse_connect_arguments).parameters)
    sizes = {"statement_cache_size": 0, "max_cached_statement_lifetime": 0, "max_cacheable_statement_size": 0}
    addresses, parameters, _ = _parse_connect_arguments(**unset | sizes | keywords)
    return addresses, parameters
